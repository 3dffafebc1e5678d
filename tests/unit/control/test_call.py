from __future__ import annotations

import httpx
import pytest

from roost.control.call import Answer, Call, answer
from roost.control.errors import ControlError, Unreachable
from tests.unit.control.server import TARGET

CALL = Call("POST", "http://127.0.0.1:8700/me/hello", [("content-type", "application/json")], b"{}", timeout_s=2.5)


def _answered(result: httpx.Response | Exception) -> tuple[Answer, bytes]:
    def reply(request: httpx.Request) -> httpx.Response:
        if isinstance(result, Exception):
            raise result
        return result

    with answer(CALL, TARGET, transport=httpx.MockTransport(reply)) as found:
        return found, b"".join(found.chunks)


def test_any_status_is_an_answer() -> None:
    found, body = _answered(httpx.Response(422, json={"detail": []}))
    assert (found.status, found.is_json, found.is_text, body) == (422, True, True, b'{"detail":[]}')


def test_bytes_are_told_from_text() -> None:
    found, body = _answered(httpx.Response(200, content=b"\x89PNG", headers={"content-type": "image/png"}))
    assert (found.is_text, found.content_type, body) == (False, "image/png", b"\x89PNG")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (httpx.ConnectError("refused"), Unreachable, "Nothing answers at http://127.0.0.1:8700"),
        (httpx.ReadTimeout("slow"), ControlError, "No answer from http://127.0.0.1:8700/me/hello within 2.5 s."),
        (httpx.ReadError("reset"), Unreachable, "broke: reset"),
        (httpx.UnsupportedProtocol("no"), ControlError, "cannot be called"),
    ],
)
def test_no_answer_says_why(error: Exception, kind: type[ControlError], words: str) -> None:
    with pytest.raises(kind) as failed:
        _answered(error)
    assert words in failed.value.detail
