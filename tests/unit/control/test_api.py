from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from roost.client.config import Target
from roost.control.errors import ControlError, LostContact, Unreachable
from tests.unit.control.server import TARGET, Lines, Script, api


def _refused(response: httpx.Response, target: Target = TARGET) -> ControlError:
    with pytest.raises(ControlError) as refused:
        api(lambda request: response, target).apps()
    return refused.value


def test_every_call_carries_the_key() -> None:
    script = Script(httpx.Response(200, json={"apps": []}))
    assert api(script).apps() == []
    assert script.requests[0].headers["authorization"] == "Key id:secret"


def test_the_servers_own_words_come_through() -> None:
    error = _refused(httpx.Response(404, json={"detail": "No app 'x'.", "error_type": "not_found", "hint": "See `roost apps list`."}))
    assert (error.detail, error.hint, error.code, error.status) == ("No app 'x'.", "See `roost apps list`.", "not_found", 404)


def test_a_wrong_key_is_named_by_its_id_and_origin_with_what_to_do() -> None:
    error = _refused(httpx.Response(401, json={"detail": "invalid key credentials"}))
    assert error.detail == "http://127.0.0.1:8700 does not accept the key id (from ROOST_KEY)."
    assert "roost keys create" in error.hint
    assert "secret" not in error.detail


def test_a_missing_key_is_another_sentence() -> None:
    error = _refused(httpx.Response(401), Target("http://h:1", ""))
    assert error.detail == "http://h:1 wants a key, and there is none."


def test_an_answer_that_is_not_ours_says_what_was_asked() -> None:
    error = _refused(httpx.Response(502, text="<html>nginx"))
    assert error.detail == "http://127.0.0.1:8700 answered GET /v1/apps with 502: <html>nginx"


def test_a_good_answer_that_is_not_json_says_so() -> None:
    error = _refused(httpx.Response(200, text="hello"))
    assert error.hint == "Is this address a roost server?"


@pytest.mark.parametrize(
    ("host", "message", "detail", "hint"),
    [
        ("http://127.0.0.1:8700", "Connection refused", "Nothing answers at http://127.0.0.1:8700. Start it with `roost up`", ""),
        ("http://far:1", "Connection refused", "Nothing answers at http://far:1. Start it with `roost up` on that machine", "ROOST_HOST"),
        ("http://far:1", "[Errno -2] Name or service not known", "The name in http://far:1 leads nowhere.", "ROOST_HOST"),
        ("https://far:1", "[SSL: WRONG_VERSION_NUMBER]", "No safe connection to https://far:1: [SSL: WRONG_VERSION_NUMBER]", "http://"),
    ],
)
def test_nobody_there_says_why_and_what_to_do(host: str, message: str, detail: str, hint: str) -> None:
    with pytest.raises(Unreachable) as refused:
        api(Script(httpx.ConnectError(message)), Target(host, "")).apps()
    assert refused.value.detail == detail
    assert hint in refused.value.hint


def test_names_are_escaped_in_addresses() -> None:
    script = Script(httpx.Response(200, json={}), httpx.Response(204))
    client = api(script)
    client.app("me/a b?c")
    client.end_run("x/y")
    assert [request.url.raw_path for request in script.requests] == [b"/v1/apps/me/a%20b%3Fc", b"/v1/run/x%2Fy"]


def test_a_blob_is_sent_with_its_length_and_not_in_chunked_encoding() -> None:
    script = Script(httpx.Response(204))
    api(script).put_blob("ab", [b"one", b"two"], 6)
    (request,) = script.requests
    assert (request.method, request.url.path, request.content) == ("PUT", "/v1/blobs/ab", b"onetwo")
    assert request.headers["content-length"] == "6"
    assert "transfer-encoding" not in request.headers


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_is_cut_at_newlines_only(size: int) -> None:
    values: list[dict[str, Any]] = [{"m": "a\u2028b\x85c"}, {"m": "d"}]
    text = b"\n".join(json.dumps(value, ensure_ascii=False).encode() for value in values)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    client = api(lambda request: httpx.Response(200, content=iter(pieces)))
    assert list(client.stream("GET", "/v1/x")) == values


def test_a_stream_that_breaks_is_lost_contact_after_what_arrived() -> None:
    stream = api(Script(Lines({"a": 1}, breaks=True))).stream("GET", "/v1/x")
    assert next(stream) == {"a": 1}
    with pytest.raises(LostContact):
        next(stream)


def test_closing_a_stream_closes_the_connection() -> None:
    lines = Lines({"a": 1}, {"a": 2})
    stream = api(Script(lines)).stream("GET", "/v1/x")
    next(stream)
    stream.close()
    assert lines.closed


def test_a_refused_stream_is_the_servers_words() -> None:
    with pytest.raises(ControlError) as refused:
        api(Script(httpx.Response(422, json={"detail": "No.", "error_type": "unsatisfiable"}))).run({})
    assert refused.value.code == "unsatisfiable"


def test_streams_with_beats_notice_silence_and_logs_may_be_quiet() -> None:
    script = Script(Lines(), Lines())
    client = api(script)
    client.deploy({})
    client.app_logs("me/x", follow=True, lines=5)
    assert [request.extensions["timeout"]["read"] for request in script.requests] == [10.0, None]
    assert dict(script.requests[1].url.params) == {"follow": "1", "lines": "5"}
