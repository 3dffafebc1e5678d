"""The runner's end of one call connection: bytes to events, events to calls, frames of one loop turn in one write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from roost.runner.dispatch import AsgiApp, Call
from roost.runner.heads import Requests
from roost.runner.keep import Keep, Kept
from roost.runner.logs import Output
from roost.wire import frames
from roost.wire.frames import Attempt
from roost.wire.launch import Hello
from roost.wire.session import Event, RunnerSession, Slots


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

    def __init__(self, app: AsgiApp, slots: Slots, output: Output, hello: Hello, watch: Watch, keep: Keep) -> None:
        self._app = app
        self._keep = keep
        self._kept: dict[int, Kept] = {}
        """Those of the calls that may go on elsewhere."""
        self._output = output
        self._hello = hello
        self.held = hello.held
        """What this server believes to be taken by calls of earlier ones."""
        self._watch = watch
        self.session = RunnerSession(slots)
        self._requests = Requests()
        self._calls: dict[int, Call | Kept] = {}
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
            self._deliver(self.session.arrived(data))
        except frames.ProtocolError as error:
            self._output.say(f"the link to the server is broken: {error}")
            if self._transport is not None:
                self._transport.abort()
            return
        if self.session.has_output():
            self._plan_flush()

    def _deliver(self, events: list[Event]) -> None:
        for kind, stream, value in events:
            if kind == frames.HEAD and stream in self.session.keeps:
                attempt = self.session.keeps.pop(stream)
                self._calls[stream] = self._kept[stream] = self._keep.begin(attempt, self._requests.read(value), self, stream, self._app)
            elif kind == frames.HEAD:
                call = Call(stream, self._requests.read(value), self, self._output)
                self._calls[stream] = call
                # Kept until `done`, which is its last act: a callback at its end would be one more round of the loop.
                call.task = self._loop.create_task(call.run(self._app))
            elif kind in (frames.BODY, frames.BODY_END):
                if stream in self._calls:  # else it was dropped in these very bytes, after its code had ended
                    self._calls[stream].feed(value, end=kind == frames.BODY_END)
            elif kind == frames.CANCEL:
                if stream in self._calls:  # else the same, or it was asked for in vain by the RESUME before
                    self._calls[stream].caller_gone()
            elif kind == frames.CREDIT:
                self._wake(stream)
            elif kind == frames.RELEASE:
                self._watch.call_ended()  # else a drain would wait for this slot for ever
            elif kind == frames.RESUME:
                self._resume(stream, value)
            elif kind == frames.CONTROL:
                self._order(value)
            elif kind == frames.WELCOME:
                self._watch.welcomed(self)
            elif kind == frames.REFUSED:
                self._refusal = value.decode("utf-8", "replace")
            elif kind == frames.GOAWAY_OK and not self.goaway_confirmed.done():
                self.goaway_confirmed.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for stream in self.session.broken():
            call = self._calls.get(stream)
            if stream in self._kept:
                self._kept[stream].detach()
            elif call is None:
                self.session.done(stream)  # reserved, and its call will never come
                self._watch.call_ended()
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

    def respond(self, stream: int, head: bytes) -> None:
        self.session.respond_encoded(stream, head)
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
        if self._kept:
            self._kept.pop(stream, None)
        self.session.done(stream)
        self._watch.call_ended()
        self._plan_flush()

    def clear(self, stream: int) -> bool:
        return self._transport is None or (self._paused is None and self.session.writable(stream))

    async def drained(self, stream: int) -> None:
        """Wait until the peer has taken this stream's body so far, or is gone."""
        while not self.clear(stream):
            if self._paused is not None:
                await asyncio.shield(self._paused)
            else:
                waiter = self._drains[stream] = self._loop.create_future()
                try:
                    await waiter
                finally:
                    self._drains.pop(stream, None)

    def process_ends(self) -> None:
        self._watch.process_ends()

    # keep.Line

    def writable(self, stream: int) -> bool:
        return self.session.writable(stream)

    def resumed(self, stream: int, kept: Kept, *, takes_slot: bool) -> None:
        self._calls[stream] = self._kept[stream] = kept
        self.session.resumed(stream, takes_slot=takes_slot)
        if takes_slot:
            # The server moves it from what is held to what is its own, as it reads this.
            self.held = max(0, self.held - 1)
        self._plan_flush()

    def let_go(self, stream: int) -> bool:
        self._calls.pop(stream, None)
        self._kept.pop(stream, None)
        holds = self.session.let_go(stream)
        self._plan_flush()
        return holds

    def _resume(self, stream: int, attempt: Attempt) -> None:
        if not self._keep.resume(attempt, self, stream):
            self.session.not_known(stream)

    def _order(self, body: dict[str, Any]) -> None:
        attempts = frames.attempts_of(body)
        if body.get("op") == "taken":
            self._keep.taken(attempts)
        elif body.get("op") == "drop":
            self._keep.drop(attempts)

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

    def tell_kept(self) -> None:
        """Which attempts are kept: what was said about them on an earlier connection may have been lost with it."""
        if attempts := self._keep.attempts():
            self.session.name_attempts("kept", attempts)
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
        if stream in self._kept:
            self._kept[stream].flow()
            return
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
