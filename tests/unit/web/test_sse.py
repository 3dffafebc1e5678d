from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from roost.testkit.loop import VirtualLoop
from roost.web.sse import Events, streaming


class Wire:
    """What a caller got, and its end."""

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.left = asyncio.Event()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    async def receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def test_a_stream_is_a_head_its_events_and_an_end() -> None:
    wire = Wire()
    async with streaming(wire.receive, wire.send, [(b"x-more", b"1")]) as events:
        await events.say(b'{"a":1}')
        await events.say(b"2")
    head, *_, last = wire.messages
    assert head["status"] == 200 and dict(head["headers"])[b"content-type"] == b"text/event-stream" and (b"x-more", b"1") in head["headers"]
    assert wire.body == b'data: {"a":1}\n\ndata: 2\n\n' and not last.get("more_body", False)


async def test_a_caller_that_leaves_is_noticed_and_hears_nothing_more() -> None:
    wire, told = Wire(), asyncio.Event()
    async with streaming(wire.receive, wire.send) as events:
        events.on_gone = told.set
        wire.left.set()
        await told.wait()
        await events.say(b"1")
        assert events.gone
    assert wire.body == b""


def test_who_hears_nothing_for_long_gets_a_comment() -> None:
    wire = Wire()

    async def say_little() -> None:
        events = Events(wire.send)
        for _ in range(40):
            await asyncio.sleep(1)
            await events.keep_alive()
        await events.say(b"1")
        await events.keep_alive()

    loop = VirtualLoop()
    try:
        loop.run_until_complete(say_little())
    finally:
        loop.close()
    assert wire.body == b": ping\n\n" * 2 + b"data: 1\n\n"
