from __future__ import annotations

import pytest

from roost.web.roles import address
from roost.wire.hosts import PUBLIC_HOSTS, public_role


@pytest.mark.parametrize("host", sorted(PUBLIC_HOSTS))
def test_every_built_in_name_leads_to_its_role(host: str) -> None:
    role = PUBLIC_HOSTS[host]
    path = b"/owner/app" if role != "run" else b"/owner/app/sub"
    assert address(f"{host}:443".encode(), path).role == role
    assert public_role(host.upper()) == role


def test_a_reserved_segment_on_the_host_of_calls_is_no_owner() -> None:
    assert address(b"fal.run", b"/owner/app").role == "run"
    # fal_client has one base for calls: an owner whose name is reserved can have no app anyway, so nothing of theirs is hidden.
    assert address(b"fal.run:443", b"/_queue/owner/app").role == "queue"


@pytest.mark.parametrize("host", ["fal.run.example.com", "notfal.run", "run", ""])
def test_a_name_that_only_looks_alike_is_none_of_them(host: str) -> None:
    assert public_role(host) is None
