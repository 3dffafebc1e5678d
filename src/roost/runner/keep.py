"""Kept calls: a queued call outlives the connection that it came on, and its answer stays until the server has it on disk.

A server that was killed comes back in a second or two; its runners and the calls in them are still there. What such a call answers
is therefore written down here first, and played from the first byte to whoever asks with RESUME. It is forgotten when the server says
"taken" (durable) or "drop" (nobody wants it), or after ten minutes (docs/decisions/0005-results-stay-in-the-runner.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from roost.runner.dispatch import AsgiApp, Call
from roost.runner.heads import Request
from roost.runner.logs import Output
from roost.runner.retained import Retained, Room
from roost.wire import frames
from roost.wire.frames import Attempt
from roost.wire.session import Slots

KEPT_S: Final = 600.0
"""How long an answer waits for somebody to take it, from the end of its code."""
DETACHED_LIMIT: Final = 64 * 1024 * 1024
"""Bytes that a handler may produce while nobody is connected; then it waits."""


class Line(Protocol):
    """What a kept call needs of the connection that it is on."""

    def respond(self, stream: int, head: bytes) -> None: ...
    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool: ...
    def consumed(self, stream: int, size: int) -> None: ...
    def reset(self, stream: int, code: str, detail: str) -> None: ...
    def done(self, stream: int) -> None: ...
    def writable(self, stream: int) -> bool: ...
    def resumed(self, stream: int, kept: Kept, *, takes_slot: bool) -> None: ...
    def let_go(self, stream: int) -> bool: ...


@dataclass(frozen=True)
class Listeners:
    """What the host wants to hear."""

    call_ended: Callable[[], None]
    moved: Callable[[], None]
    """A call went over to another connection: which one answers for its slot has changed."""
    process_ends: Callable[[], None]


class Keep:
    """The kept calls of one runner, over all its connections."""

    def __init__(
        self, slots: Slots, output: Output, listeners: Listeners, *, room: Room | None = None, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.slots = slots
        self.listeners = listeners
        self.room = room or Room()
        self._output = output
        self._now_s = now_s
        self._calls: dict[Attempt, Kept] = {}
        self._ended_s: dict[Attempt, float] = {}
        """When the code of those ended, in that order."""
        self._sweep: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None
        self._running: set[Kept] = set()
        """Those whose code has not ended, also when nobody wants them any more: here and not with a connection, which they may outlive."""

    @property
    def holds(self) -> bool:
        """Whether there are calls, or answers of calls, that a server may still come for."""
        return bool(self._calls)

    def attempts(self) -> list[Attempt]:
        """Those of these calls."""
        return list(self._calls)

    def begin(self, attempt: Attempt, request: Request, line: Line, stream: int, app: AsgiApp) -> Kept:
        """Run a call that is to be kept."""
        self.drop([attempt])
        kept = self._calls[attempt] = Kept(attempt, request, self, line, stream, self._output)
        self._running.add(kept)
        kept.call.task = asyncio.get_running_loop().create_task(kept.call.run(app))
        return kept

    def resume(self, attempt: Attempt, line: Line, stream: int) -> bool:
        """Have that call go on there, wherever it was before. False: it is not known."""
        kept = self._calls.get(attempt)
        if kept is not None and not kept.is_asked:
            # The rest of its request is for the stream that it came on: nobody sends it again.
            self.drop([attempt])
            kept = None
        if kept is None:
            return False
        kept.attach(line, stream)
        self.listeners.moved()
        return True

    def taken(self, attempts: Iterable[Attempt]) -> None:
        """Their answers are on the server's disk."""
        for attempt in attempts:
            kept = self._calls.get(attempt)
            if kept is not None:
                self._remove(kept)
                kept.forget()

    def drop(self, attempts: Iterable[Attempt]) -> None:
        """Nobody wants these: what runs of them is told that its caller is gone."""
        for attempt in attempts:
            kept = self._calls.get(attempt)
            if kept is not None:
                self._remove(kept)
                kept.caller_gone()
                kept.forget()

    def drop_all(self) -> None:
        """No server will come for any of them."""
        self.drop(list(self._calls))

    async def emptied(self, wait_s: float) -> None:
        """Wait until a server has taken all answers; not longer than that."""
        if self._calls:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=wait_s)

    # for its calls

    def code_ended(self, kept: Kept) -> None:
        """From here on its answer waits, if it is still wanted, and not for ever."""
        self._running.discard(kept)
        if self._calls.get(kept.attempt) is kept:
            self._ended_s[kept.attempt] = self._now_s()
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(KEPT_S, self.sweep)

    def sweep(self) -> None:
        """Forget what nobody came for in time."""
        self._sweep = None
        now_s = self._now_s()
        for attempt, ended_s in list(self._ended_s.items()):
            if ended_s + KEPT_S > now_s:
                self._sweep = asyncio.get_running_loop().call_later(ended_s + KEPT_S - now_s, self.sweep)
                return
            self.drop([attempt])

    def _remove(self, kept: Kept) -> None:
        del self._calls[kept.attempt]
        self._ended_s.pop(kept.attempt, None)
        if not self._calls and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)


class Kept:
    """One kept call. To its `Call` it is the wire (dispatch.Wire); to a connection, what its stream's frames go to."""

    def __init__(self, attempt: Attempt, request: Request, keep: Keep, line: Line, stream: int, output: Output) -> None:
        self.attempt = attempt
        self.call = Call(stream, request, self, output)
        self._keep = keep
        self._line: Line | None = line
        self._stream = stream
        self._holds_slot = False
        """While it is on no connection: its code runs still."""
        self.is_asked = False
        """The whole request has arrived."""
        self._code_ended = False
        self._forgotten = False
        # the answer
        self._head: bytes | None = None
        self._body = Retained(keep.room)
        self._body_ended = False
        self._failure: tuple[str, str] | None = None
        # how much of it was given to the connection that it is on
        self._head_sent = False
        self._sent = 0
        self._end_sent = False
        self._waiter: asyncio.Future[None] | None = None

    # for connections

    def feed(self, data: bytes, *, end: bool) -> None:
        self.is_asked = self.is_asked or end
        self.call.feed(data, end=end)

    def caller_gone(self) -> None:
        """The handler is told; what it answers after that goes to nobody."""
        if not self._code_ended:
            self.call.caller_gone()

    def flow(self) -> None:
        """The peer has taken what it was sent."""
        self._play()
        self._wake()

    def detach(self) -> None:
        """Its connection is gone."""
        assert self._line is not None
        self._leave()
        if not self.is_asked and not self._forgotten:
            # The rest of the request will never come, so there can be no answer to wait for.
            self._keep.drop([self.attempt])
        self._wake()

    def attach(self, line: Line, stream: int) -> None:
        """Go on there, from the first byte of the answer."""
        if self._line is not None:
            self._leave()
        takes_slot, self._holds_slot = self._holds_slot, False
        self._line, self._stream = line, stream
        self._head_sent, self._sent, self._end_sent = False, 0, False
        line.resumed(stream, self, takes_slot=takes_slot)
        self._play()
        self._wake()

    def forget(self) -> None:
        """Nobody will ask for the answer again."""
        self._forgotten = True
        self._body.forget()
        if self._line is not None:
            if not self._end_sent:
                self._end_sent = True
                self._line.reset(self._stream, "client_disconnected", "nobody wants the answer any more")
            self._play()
        self._wake()

    # dispatch.Wire

    def respond(self, stream: int, head: bytes) -> None:
        self._head = head
        if not self._forgotten:
            self._play()

    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        if self._forgotten or self._failure is not None:
            return True
        try:
            self._body.append(data)
        except OSError as error:
            self.reset(stream, "runner_incomplete_response", f"the answer could not be kept, so nobody gets it: {error}")
            return True
        self._body_ended = end
        line = self._line
        if line is not None and self._sent == self._body.size - len(data) and line.writable(self._stream):
            # Usual: the peer has all that was before it. Not read back, whether it lies in memory or in a file.
            self._sent, self._end_sent = self._body.size, end
            line.send_body(self._stream, data, end=end)
        else:
            self._play()
        return self.clear(stream)

    def consumed(self, stream: int, size: int) -> None:
        if self._line is not None:
            self._line.consumed(self._stream, size)

    def reset(self, stream: int, code: str, detail: str) -> None:
        if not self._body_ended and self._failure is None:
            self._failure = (code, detail)
            self._play()

    def clear(self, stream: int) -> bool:
        """Whether the peer has taken what was sent so far, or, while there is none, there is room. Once the answer is whole, it is ours to deliver."""
        if self._body_ended or self._failure is not None or self._forgotten:
            return True
        if self._line is None:
            return self._body.size < DETACHED_LIMIT
        return self._sent == self._body.size and self._line.writable(self._stream)

    async def drained(self, stream: int) -> None:
        while not self.clear(stream):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def done(self, stream: int) -> None:
        self._code_ended = True
        self._keep.code_ended(self)
        if self._line is not None:
            self._play()
        else:
            self._give_slot()
            self._keep.listeners.call_ended()

    def process_ends(self) -> None:
        self._keep.listeners.process_ends()

    # the answer, on its way

    def _play(self) -> None:
        """Give the connection as much of the answer as it takes."""
        line, stream = self._line, self._stream
        if line is None:
            return
        if self._head is not None and not self._head_sent:
            self._head_sent = True
            line.respond(stream, self._head)
        while not self._end_sent and line.writable(stream):
            data = self._body.read(self._sent, frames.CHUNK)
            self._sent += len(data)
            at_end = self._sent == self._body.size
            if at_end and self._failure is not None:
                line.send_body(stream, data)
                line.reset(stream, *self._failure)
                self._end_sent = True
            elif data or (at_end and self._body_ended):
                self._end_sent = at_end and self._body_ended
                line.send_body(stream, data, end=self._end_sent)
            else:
                break
        if self._end_sent and self._code_ended and line.writable(stream):
            self._line = None
            line.done(stream)

    def _leave(self) -> None:
        """Go away from the connection, with the slot if code still runs in it."""
        assert self._line is not None
        line, self._line = self._line, None
        self._holds_slot = line.let_go(self._stream)
        if self._code_ended:
            self._give_slot()

    def _give_slot(self) -> None:
        if self._holds_slot:
            self._holds_slot = False
            self._keep.slots.give()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
