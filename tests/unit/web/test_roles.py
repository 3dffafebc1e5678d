from __future__ import annotations

import pytest

from roost.web.roles import NAMESPACES, PREFIXES, RESERVED, Addressed, address, for_pages, reserved_owner


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        (b"roost.test", b"/me/app", Addressed("run", b"/me/app")),
        (b"", b"/me/app/a%2Fb", Addressed("run", b"/me/app/a%2Fb")),
        (b"queue.roost.test", b"/me/app", Addressed("queue", b"/me/app")),
        (b"QUEUE.roost.test:8700", b"/me/app", Addressed("queue", b"/me/app")),
        (b"queue", b"/me/app", Addressed("run", b"/me/app")),
        (b"roost.test", b"/_queue/me/app", Addressed("queue", b"/me/app")),
        (b"queue.roost.test", b"/_run/me/app", Addressed("run", b"/me/app")),
        (b"roost.test", b"/v1/apps", Addressed("api", b"/v1/apps")),
        (b"roost.test", b"/health", Addressed("api", b"/health")),
        (b"roost.test", b"/", Addressed("api", b"/")),
        (b"roost.test", b"/storage/upload", Addressed("rest", b"/storage/upload")),
        (b"roost.test", b"/v1x/apps", Addressed("run", b"/v1x/apps")),
    ],
)
def test_each_request_has_one_role(host: bytes, path: bytes, expected: Addressed) -> None:
    assert address(host, path) == expected


@pytest.mark.parametrize("name", [*PREFIXES, *RESERVED, *NAMESPACES, "queue", "anonymous"])
def test_a_name_that_could_never_be_reached_is_no_owner(name: str) -> None:
    assert reserved_owner(name)


def test_an_ordinary_name_may_be_an_owner() -> None:
    assert not reserved_owner("ada")


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        (b"roost.test", b"/me/app", True),
        (b"queue.fal.run", b"/me/app/requests/1", True),
        (b"rest.fal.ai", b"/tokens/", True),
        (b"roost.test", b"/storage/upload/initiate", True),
        (b"rest.fal.ai", b"/v1/keys", False),
        (b"roost.test", b"/_rest/v1/keys", False),
        (b"roost.test", b"/_rest/applications/me/app/queue", False),
        (b"roost.test", b"/v1/keys", False),
        (b"api.fal.ai", b"/me/app", False),
        (b"roost.test", b"/health", False),
    ],
)
def test_pages_ask_for_apps_and_for_nothing_that_looks_after_a_server(host: bytes, path: bytes, expected: bool) -> None:
    assert for_pages(address(host, path)) is expected
