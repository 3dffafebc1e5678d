"""The runner's end of one call connection: bytes to events, events to calls, frames of one loop turn in one write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from roost.runner.dispatch import AsgiApp, Call
from roost.runner.logs import Output
from roost.wire import frames
from roost.wire.frames import ResponseHead
from roost.wire.launch import Hello
from roost.wire.session import RunnerSession, Slots


@dataclass(frozen=True)
class Watch:
    """What the host wants to hear of a connection."""

    welcomed: Callable[[CallConnection], None]
    lost: Callable[[CallConnection, str], None]
    """With the server's words if it refused this runner."""
    call_ended: Callable[[], None]
    process_ends: Callable[[], None]
    """A handler called `sys.exit()`."""


class CallConnection(asyncio.Protocol):
    """One connection to one gateway. Serves its calls on the app's event loop."""

    def __init__(self, app: AsgiApp, slots: Slots, output: Output, hello: Hello, watch: Watch) -> None:
        self._app = app
        self._output = output
        self._hello = hello
        self.held = hello.held
        """What this server believes to be taken by calls of earlier ones."""
        self._watch = watch
        self.session = RunnerSession(slots)
        self._calls: dict[int, Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._flush_planned = False
        self._drains: dict[int, asyncio.Future[None]] = {}
        self._paused: asyncio.Future[None] | None = None
        self._refusal = ""
        self.goaway_confirmed = self._loop.create_future()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(frames.frame(frames.HELLO, 0, json.dumps(self._hello.to_json()).encode()))

    def data_received(self, data: bytes) -> None:
        try:
            events = self.session.receive(data)
        except frames.ProtocolError as error:
            self._output.say(f"the link to the server is broken: {error}")
            if self._transport is not None:
                self._transport.abort()
            return
        for kind, stream, value in events:
            if kind == frames.HEAD:
                call = Call(stream, value, self, self._output)
                self._calls[stream] = call
                task = self._loop.create_task(call.run(self._app))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif kind in (frames.BODY, frames.BODY_END):
                self._calls[stream].feed(value, end=kind == frames.BODY_END)
            elif kind == frames.CANCEL:
                self._calls[stream].caller_gone()
            elif kind == frames.CREDIT:
                self._wake(stream)
            elif kind == frames.WELCOME:
                self._watch.welcomed(self)
            elif kind == frames.REFUSED:
                self._refusal = value.decode("utf-8", "replace")
            elif kind == frames.GOAWAY_OK and not self.goaway_confirmed.done():
                self.goaway_confirmed.set_result(None)
        if self.session.has_output():
            self._plan_flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for stream in self.session.broken():
            call = self._calls.get(stream)
            if call is None:
                self.session.done(stream)  # reserved, and its call will never come
            else:
                call.caller_gone()
                self._wake(stream)
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)
        if not self.goaway_confirmed.done():
            self.goaway_confirmed.set_result(None)
        self._watch.lost(self, self._refusal)

    def pause_writing(self) -> None:
        self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)
        self._paused = None

    # dispatch.Wire

    def respond(self, stream: int, head: ResponseHead) -> None:
        self.session.respond(stream, head)
        self._plan_flush()

    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        sent = self.session.send_body(stream, data, end=end)
        self._plan_flush()
        return sent and self._paused is None

    def consumed(self, stream: int, size: int) -> None:
        self.session.consumed(stream, size)
        if self.session.has_output():
            self._plan_flush()

    def reset(self, stream: int, code: str, detail: str) -> None:
        self.session.reset(stream, code, detail)
        self._plan_flush()

    def done(self, stream: int) -> None:
        self._calls.pop(stream, None)
        self.session.done(stream)
        self._watch.call_ended()
        self._plan_flush()

    async def drained(self, stream: int) -> None:
        """Wait until the peer has taken this stream's body so far, or is gone."""
        while self._transport is not None:
            if self._paused is not None:
                await asyncio.shield(self._paused)
            elif not self.session.writable(stream):
                waiter = self._drains[stream] = self._loop.create_future()
                try:
                    await waiter
                finally:
                    self._drains.pop(stream, None)
            else:
                return

    def process_ends(self) -> None:
        self._watch.process_ends()

    # for the host

    def go_away(self) -> None:
        self.session.go_away()
        self._plan_flush()

    @property
    def busy(self) -> bool:
        return bool(self._calls)

    def tell_held(self, calls: int) -> None:
        """To the server that serves now: so many slots are taken by calls of earlier ones."""
        if calls != self.held:
            self.held = calls
            self.session.control({"op": "held", "calls": calls})
            self._plan_flush()

    def break_off(self) -> None:
        """Hang up at once, without a word about the calls under way."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Write what is queued and hang up."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _wake(self, stream: int) -> None:
        waiter = self._drains.get(stream)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        data = self.session.take()
        if data and self._transport is not None:
            self._transport.write(data)
