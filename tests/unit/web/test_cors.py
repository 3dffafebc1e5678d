from __future__ import annotations

from typing import Any

import pytest

from roost.web.cors import exposed, is_preflight, opening
from roost.wire.frames import Headers

EXPOSE = (b"access-control-expose-headers", b"*")


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([], [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*")]),
        ([(b"access-control-allow-origin", b"https://a.test")], [(b"access-control-expose-headers", b"*")]),
    ],
)
async def test_any_page_may_read_an_answer_unless_the_app_said_who(own: Headers, expected: Headers) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    opened = opening(send)
    await opened({"type": "http.response.start", "status": 200, "headers": own})
    await opened({"type": "http.response.body", "body": b"x"})
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [*own, *expected]},
        {"type": "http.response.body", "body": b"x"},
    ]


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ([(b"x", b"1")], []),
        ([(b"access-control-allow-origin", b"*")], [EXPOSE]),
        ([(b"access-control-allow-origin", b"https://a.test"), (b"access-control-expose-headers", b"x-mine")], []),
    ],
)
def test_a_page_that_may_read_an_apps_answer_may_read_the_requests_id(own: Headers, added: Headers) -> None:
    assert exposed(own) == [*own, *added]


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("OPTIONS", [(b"access-control-request-method", b"POST")], True),
        ("OPTIONS", [(b"origin", b"https://a.test")], False),
        ("POST", [(b"access-control-request-method", b"POST")], False),
    ],
)
def test_a_preflight_is_told_from_an_apps_own_options(method: str, headers: Headers, expected: bool) -> None:
    assert is_preflight({"method": method, "headers": headers}) is expected
