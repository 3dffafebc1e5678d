"""Where a server is reached, told to anybody; and the line of `roost doctor` about its certificate."""

from __future__ import annotations

import pytest

from roost.api.checks import SOON_MS, certificate_check
from tests.unit.api.world import NOW_MS, URL, ShownCertificates, World


async def test_anybody_may_ask_where_the_server_is(world: World):
    answer = await world.call("GET", "/v1/addresses", key="")
    assert (answer.status, answer.json) == (
        200,
        {
            "http": URL,
            "https": None,
            "connect": None,
            "public": URL,
            "ca": "-----BEGIN CERTIFICATE-----",
            "bundle": "/var/lib/roost/state/tls/bundle.pem",
            "names": ["localhost", "127.0.0.1"],
        },
    )


async def test_the_doctor_looks_at_the_certificate(world: World):
    (check,) = [check for check in (await world.call("GET", "/v1/doctor")).json["checks"] if check["name"] == "certificate"]
    assert check["ok"] and "local authority" in check["detail"] and "localhost" in check["detail"]


@pytest.mark.parametrize(
    ("tls", "ok", "said"),
    [
        (None, True, "TLS is off"),
        (ShownCertificates(names=tuple(f"n{n}" for n in range(9))), True, "n5 and 3 more"),
        (ShownCertificates(own=False), True, "of the operator"),
        (ShownCertificates(problem="the key is not the one of the certificate"), False, "the key is not the one"),
        (ShownCertificates(own=False, until_ms=NOW_MS + SOON_MS - 1), False, "ends soon"),
        (ShownCertificates(own=False, until_ms=NOW_MS), False, "has ended"),
    ],
)
def test_a_certificate_is_judged(tls: ShownCertificates | None, ok: bool, said: str):
    check = certificate_check(tls, NOW_MS)
    assert (check.ok, said in check.detail, bool(check.hint)) == (ok, True, not ok)
