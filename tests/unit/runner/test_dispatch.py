"""One call inside a runner, with the link replaced by a recorder."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.runner.dispatch import Call
from roost.runner.heads import request_of
from roost.runner.logs import Output
from roost.wire.frames import RequestHead, ResponseHead


class Recorder:
    """The connection's side of a call: what the call asked of it."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def respond(self, stream: int, head: bytes) -> None:
        self.said.append(("respond", ResponseHead.decode(head).status))

    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        self.said.append(("body", data, end))
        return True

    def consumed(self, stream: int, size: int) -> None:
        pass

    def reset(self, stream: int, code: str, detail: str) -> None:
        self.said.append(("reset", code))

    def done(self, stream: int) -> None:
        self.said.append(("done",))

    def clear(self, stream: int) -> bool:
        return True

    async def drained(self, stream: int) -> None:
        pass

    def process_ends(self) -> None:
        self.said.append(("process ends",))


def call(wire: Recorder, head: RequestHead | None = None) -> Call:
    return Call(1, request_of(head or RequestHead("POST", b"/a%20b", b"q=1", [(b"x-fal-request-id", b"id-1")])), wire, Output())


async def test_the_app_sees_the_request_as_any_asgi_server_would_show_it():
    seen: dict[str, Any] = {}

    async def app(scope, receive, send):
        seen.update(scope)
        seen["message"] = await receive()
        await send({"type": "http.response.start", "status": 201, "headers": [(b"X-A", b"1")]})
        await send({"type": "http.response.body", "body": b"yes"})

    wire = Recorder()
    one = call(wire)
    one.feed(b"{}", end=True)
    await one.run(app)
    assert (seen["path"], seen["raw_path"], seen["query_string"], seen["method"]) == ("/a b", b"/a%20b", b"q=1", "POST")
    assert seen["message"] == {"type": "http.request", "body": b"{}", "more_body": False}
    assert wire.said == [("respond", 201), ("body", b"yes", True), ("done",)]


async def test_an_app_that_raises_before_its_answer_is_a_named_failure(capfd):
    async def app(scope, receive, send):
        raise KeyError("oops")

    wire = Recorder()
    await call(wire).run(app)
    assert wire.said == [("reset", "runner_server_error"), ("done",)]
    assert "KeyError" in capfd.readouterr().err


async def test_an_app_that_exits_ends_the_process_and_says_nothing_of_the_call():
    async def app(scope, receive, send):
        raise SystemExit(3)

    wire = Recorder()
    with pytest.raises(SystemExit):
        await call(wire).run(app)
    assert wire.said == [("process ends",), ("done",)]


async def test_an_app_that_stops_in_the_middle_of_its_answer_is_incomplete():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("gone")

    wire = Recorder()
    await call(wire).run(app)
    assert wire.said[-2:] == [("reset", "runner_incomplete_response"), ("done",)]


async def test_a_handler_whose_caller_left_runs_to_its_normal_end_and_answers_nobody():
    went_on = asyncio.Event()
    ended = False

    async def app(scope, receive, send):
        nonlocal ended
        await went_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})
        ended = True

    wire = Recorder()
    one = call(wire)
    task = asyncio.ensure_future(one.run(app))
    await asyncio.sleep(0)
    one.caller_gone()
    went_on.set()
    await task
    assert ended
    assert wire.said == [("reset", "client_disconnected"), ("done",)]


async def test_a_stream_whose_caller_left_is_stopped_at_its_next_chunk():
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            sent += 1
            if sent == 3:
                one.caller_gone()

    wire = Recorder()
    one = call(wire)
    await one.run(app)
    assert sent == 3
    assert wire.said[-1] == ("done",)


async def test_an_app_that_waits_for_the_caller_to_leave_hears_of_it():
    heard: list[str] = []

    async def app(scope, receive, send):
        heard.append((await receive())["type"])
        heard.append((await receive())["type"])

    wire = Recorder()
    one = call(wire)
    one.feed(b"", end=True)
    task = asyncio.ensure_future(one.run(app))
    await asyncio.sleep(0)
    one.caller_gone()
    await task
    assert heard == ["http.request", "http.disconnect"]
