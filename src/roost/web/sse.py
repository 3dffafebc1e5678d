"""Server-sent events: a response that stays open, `data: <json>` for each event and `: ping` when nothing else was said (GAPS B11)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from roost.web.answers import Receive, Send

PING_S: Final = 15.0
_PING: Final = b": ping\n\n"


class Events:
    """One open stream, as `streaming` gives it. Saying something to a caller that hung up does nothing; look at `gone`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._said_s = self._loop.time()
        self.gone = False
        """The caller hung up."""
        self.on_gone: Callable[[], object] = lambda: None

    async def say(self, data: bytes) -> None:
        """One event; `data` has no line feed."""
        await self._write(b"data: %b\n\n" % data)

    async def keep_alive(self) -> None:
        """A comment, if it is time for one: who hears nothing for long believes that the connection is dead."""
        if self._loop.time() - self._said_s >= PING_S:
            await self._write(_PING)

    async def _write(self, body: bytes) -> None:
        self._said_s = self._loop.time()
        if not self.gone:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})


@contextlib.asynccontextmanager
async def streaming(receive: Receive, send: Send, headers: Iterable[tuple[bytes, bytes]] = ()) -> AsyncIterator[Events]:
    """Begin the response, watch for the caller's end meanwhile, and end the response."""
    fields = [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-store"),
        # nginx would hold the events back until its buffer is full.
        (b"x-accel-buffering", b"no"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    events = Events(send)
    watcher = asyncio.get_running_loop().create_task(_notice_end(events, receive), name="caller of a stream")
    try:
        yield events
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
    await send({"type": "http.response.body", "body": b""})


async def _notice_end(events: Events, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    events.gone = True
    events.on_gone()
