"""A fake runner's script as an application: what its kept calls run, inside the runner's own code for those (roost.runner.keep)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from roost.runner.dispatch import AsgiApp, Message
from roost.testkit.script import Answer, Crash, Received, Script
from roost.wire.frames import RequestHead

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Actor(Protocol):
    """The fake runner."""

    @property
    def script(self) -> Script: ...
    def began(self, head: RequestHead, body: bytes) -> Received: ...

    def rested(self) -> None: ...
    async def sleep(self, ms: int) -> None: ...
    def end(self, *, code: int | None = None, signal_number: int | None = None) -> None: ...


def played(runner: Actor, head: RequestHead) -> AsgiApp:
    """The application of one call."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = await _request(receive)
        if body is None:
            return
        call = runner.began(head, body)
        try:
            reply = runner.script.answer(call)
            gone = asyncio.ensure_future(receive()) if isinstance(reply, Answer) and reply.minds_caller else None
            acting = asyncio.ensure_future(_act(runner, reply, send))
            try:
                await asyncio.wait([acting, gone] if gone is not None else [acting], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (acting, gone):
                    if task is not None:
                        task.cancel()
        finally:
            runner.rested()

    return app


async def _request(receive: Receive) -> bytes | None:
    """The whole body; None if the caller went before its end."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def _act(runner: Actor, reply: Answer | Crash, send: Send) -> None:
    await runner.sleep(reply.after_ms)
    if isinstance(reply, Crash):
        if reply.head_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"the beginning", "more_body": True})
            await asyncio.sleep(0)  # what was said is written in the next turn
        runner.end(signal_number=reply.signal)
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)})
    await runner.sleep(reply.stream_ms)
    await send({"type": "http.response.body", "body": reply.body})
    await runner.sleep(reply.linger_ms)
