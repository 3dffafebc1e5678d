"""What a server believes of a request that another one passed on: only what a server of the same state folder wrote."""

from __future__ import annotations

from typing import Any

import pytest

from roost.web.passed_on import FIELD, Seal
from roost.web.shortcut import Request, Shortcuts

SEAL = Seal(b"pepper" * 6)


def scope(*fields: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"scheme": "http", "client": ("127.0.0.1", 1), "root_path": "", "headers": [(b"host", b"a"), *fields], **more}


@pytest.mark.parametrize("client", [("203.0.113.9, 10.0.0.1", 4711), ("2001:db8::1", 1), None])
def test_scheme_caller_and_prefix_arrive_and_the_field_does_not(client: tuple[str, int] | None):
    before = scope(scheme="https", client=client, root_path="/roost")
    after = scope(SEAL.write(before))
    SEAL.read(after)
    assert after == before


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"https",
        b'["https", ["203.0.113.9", 1], ""] ',
        b'["https", ["203.0.113.9", 1], ""] ' + b"0" * 64,
        b"\xff " + b"0" * 64,
        Seal(b"another" * 6).write(scope(scheme="https"))[1],
        SEAL.write(scope(scheme="https"))[1].replace(b"127.0.0.1", b"127.0.0.9"),
    ],
)
def test_what_somebody_else_wrote_says_nothing_and_reaches_no_app(value: bytes):
    after = scope((FIELD, value), (FIELD, b"twice"))
    SEAL.read(after)
    assert after == scope()


def test_the_short_way_leaves_such_requests_to_the_gateway():
    class All:
        def plan(self, request: Request) -> str:
            return "taken"

        def holds(self, plan: str) -> bool:
            return True

        def begin(self, plan: str, door: Any, body: bytes) -> None:
            raise AssertionError("nothing was planned")

    shortcuts = Shortcuts(All())
    asked = Request("GET", b"/", b"", [(b"host", b"a")], "http", "1.1", True)
    assert shortcuts.plan(asked) is not None
    asked.headers.append((FIELD, b"x"))
    assert shortcuts.plan(asked) is None
