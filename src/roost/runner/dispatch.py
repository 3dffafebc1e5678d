"""One call inside a runner: from the link's stream to the app's ASGI interface and back, without an HTTP server."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from roost.runner import heads
from roost.runner.heads import Request
from roost.runner.logs import Output, current_call

Message = MutableMapping[str, Any]
AsgiApp = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Wire(Protocol):
    """What a call needs of its connection."""

    def respond(self, stream: int, head: bytes) -> None: ...
    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool: ...
    def consumed(self, stream: int, size: int) -> None: ...
    def reset(self, stream: int, code: str, detail: str) -> None: ...
    def done(self, stream: int) -> None: ...
    def clear(self, stream: int) -> bool:
        """Whether `drained` would not wait."""
        ...

    async def drained(self, stream: int) -> None: ...
    def process_ends(self) -> None: ...


class Call:
    """One call being served. The connection feeds it body bytes and the news that the caller is gone; `run` serves it to its end."""

    __slots__ = (
        "_answered",
        "_body",
        "_body_ended",
        "_body_told",
        "_ended",
        "_gone",
        "_output",
        "_request",
        "_waiter",
        "_wire",
        "stream",
        "task",
    )

    def __init__(self, stream: int, request: Request, wire: Wire, output: Output) -> None:
        self.stream = stream
        self.task: asyncio.Task[None] | None = None
        """What serves it."""
        self._request = request
        self._wire = wire
        self._output = output
        self._body: list[bytes] = []
        self._body_ended = False
        self._body_told = False
        self._gone = False
        self._waiter: asyncio.Future[None] | None = None
        self._answered = False
        self._ended = False

    def feed(self, data: bytes, *, end: bool) -> None:
        if data:
            self._body.append(data)
        self._body_ended = self._body_ended or end
        self._wake()

    def caller_gone(self) -> None:
        self._gone = True
        self._wake()

    async def run(self, app: AsgiApp) -> None:
        """Serve the call. What the app lets escape becomes a named failure of this call alone; only a `sys.exit()` is raised."""
        scope = self._request.scope
        current_call.set((self._request.id, scope["path"]))
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            # The app's own handlers have answered already (500) and printed; only what escapes before an answer is news.
            if not self._answered:
                self._output.say("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())
        except asyncio.CancelledError:
            self._fail("the handler was cancelled")
        except (SystemExit, KeyboardInterrupt):
            # Ends the event loop and the process. Every caller hears of a runner that is gone and why, not of its handler.
            self._ended = True
            self._wire.process_ends()
            raise
        finally:
            if not self._ended:
                self._fail("the app ended the call without finishing its answer")
            self._output.finish_call(self._request.id)
            if not self._wire.clear(self.stream):
                await self._wire.drained(self.stream)
            self._wire.done(self.stream)

    def _fail(self, detail: str) -> None:
        if not self._ended:
            self._ended = True
            self._wire.reset(self.stream, "runner_incomplete_response" if self._answered else "runner_server_error", detail)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _receive(self) -> Message:
        while not self._gone:
            if self._body:
                data = b"".join(self._body)
                self._body.clear()
                self._wire.consumed(self.stream, len(data))
                self._body_told = self._body_ended
                return {"type": "http.request", "body": data, "more_body": not self._body_ended}
            if self._body_ended and not self._body_told:
                self._body_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._wait()
        return {"type": "http.disconnect"}

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._ended:
            return
        if self._gone:
            self._send_to_nobody(message)
        elif kind == "http.response.start":
            self._wire.respond(self.stream, heads.answer(message["status"], message.get("headers", ())))
            # Not earlier: a head that cannot be sent is no answer.
            self._answered = True
        elif kind == "http.response.body":
            end = not message.get("more_body", False)
            self._ended = end
            if not self._wire.send_body(self.stream, bytes(message.get("body", b"")), end=end):
                await self._wire.drained(self.stream)

    def _send_to_nobody(self, message: Message) -> None:
        """The caller is gone: a whole answer is dropped in silence, so that handlers end normally; a stream is told to stop."""
        if message["type"] != "http.response.body":
            return
        if message.get("more_body", False):
            raise OSError("the caller is gone")
        self._ended = True
        self._wire.reset(self.stream, "client_disconnected", "the caller is gone")
