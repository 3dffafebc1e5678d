"""The short way to plain endpoints. That it answers as FastAPI does is tests/contract/test_direct_dispatch.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import roost
from roost.runner.direct import Direct, in_front_of
from roost.runner.dispatch import Call
from roost.runner.heads import request_of
from roost.runner.logs import Output, current_call
from roost.sdk.app import create, forget
from roost.sdk.asgi import build_asgi
from roost.sdk.lifecycle import run_setup
from roost.wire.frames import RequestHead, ResponseHead


class Input(BaseModel):
    prompt: str


class Short(roost.App):
    def setup(self) -> None:
        self.go_on = asyncio.Event()
        self.seen: list[Any] = []

    @roost.endpoint("/")
    async def run(self, input: Input) -> dict[str, str | None]:
        assert self.current_request is not None
        self.seen.append(current_call.get())
        return {"prompt": input.prompt, "id": self.current_request.request_id}

    @roost.endpoint("/waits")
    async def waits(self, input: Input) -> str:
        await self.go_on.wait()
        self.seen.append("went on")
        return "done"


class Recorder:
    """A connection that writes down what a call sends."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def respond(self, stream: int, head: bytes) -> None:
        read = ResponseHead.decode(head)
        self.said.append((read.status, read.headers))

    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        self.said.append((data, end))
        return True

    def consumed(self, stream: int, size: int) -> None:
        pass

    def reset(self, stream: int, code: str, detail: str) -> None:
        self.said.append(("reset", code))

    def done(self, stream: int) -> None:
        self.said.append("done")

    def clear(self, stream: int) -> bool:
        return True

    async def drained(self, stream: int) -> None:
        pass

    def process_ends(self) -> None:
        self.said.append("process ends")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Short]:
    monkeypatch.setenv("ROOST_RUNNER", "1")
    monkeypatch.delenv("ROOST_DIRECT", raising=False)
    app = create(Short)
    yield app
    forget(app)


def call(path: bytes, wire: Recorder) -> Call:
    head = RequestHead("POST", path, b"", [(b"content-type", b"application/json"), (b"x-fal-request-id", b"one")])
    return Call(1, request_of(head), wire, Output())


async def test_a_call_over_the_link_takes_the_short_way_and_is_tagged(app: Short):
    await run_setup(app)
    direct = in_front_of(build_asgi(app), app)
    wire = Recorder()
    one = call(b"/", wire)
    one.feed(b'{"prompt": "hi"}', end=True)
    await one.run(direct)
    body = b'{"prompt":"hi","id":"one"}'
    assert wire.said == [(200, [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]), (body, True), "done"]
    assert app.seen == [("one", "/")]


async def test_a_handler_whose_caller_left_goes_on_to_its_end(app: Short):
    await run_setup(app)
    direct = in_front_of(build_asgi(app), app)
    wire = Recorder()
    one = call(b"/waits", wire)
    one.feed(b'{"prompt": "hi"}', end=True)
    task = asyncio.ensure_future(one.run(direct))
    await asyncio.sleep(0)
    one.caller_gone()
    await asyncio.sleep(0)
    assert not task.done()
    app.go_on.set()
    await task
    assert app.seen == ["went on"]
    assert wire.said == [("reset", "client_disconnected"), "done"]


async def test_a_call_whose_caller_left_before_it_began_does_not_run(app: Short):
    await run_setup(app)
    direct = in_front_of(build_asgi(app), app)
    wire = Recorder()
    one = call(b"/", wire)
    one.feed(b'{"prompt": "hi"}', end=True)
    one.caller_gone()
    await one.run(direct)
    assert app.seen == []


async def test_the_short_way_is_switched_off_by_the_environment(app: Short, monkeypatch: pytest.MonkeyPatch):
    asgi = build_asgi(app)
    assert isinstance(in_front_of(asgi, app), Direct)
    monkeypatch.setenv("ROOST_DIRECT", "0")
    assert in_front_of(asgi, app) is asgi
