"""Direct calls: at most once, never retried after a runner accepted them, failing fast with a named error (ARCHITECTURE §1, promise 4).

The body is read whole, a slot is waited for, the call goes over the link, and the response passes through as it comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from roost.core import admission, fate, stages
from roost.core.stages import Birth
from roost.gateway import body as bodies
from roost.gateway.allowance import Allowance
from roost.gateway.body import Body, CallerGone
from roost.gateway.forward import HandedOver, Successor
from roost.gateway.resolve import Target
from roost.gateway.slots import Slots, refusal
from roost.kit.timeouts import Timeout, Timeouts
from roost.link import cancelling
from roost.link.connection import Exchange, response_of
from roost.link.directory import Entry
from roost.web import fates
from roost.web import headers as fields
from roost.web.answers import Receive, Scope, Send
from roost.web.auth import Principal
from roost.web.protocol import Caller
from roost.wire import frames
from roost.wire.errors import RoostError
from roost.wire.frames import RequestHead
from roost.wire.session import WINDOW

# Events of our own in an exchange's queue, besides the link's frames.
_CALLER_LOST, TIMED_OUT = -1, -2


@dataclass(frozen=True, slots=True)
class Ask:
    """One call, resolved and authenticated."""

    request_id: str
    target: Target
    caller: str
    """Account of the caller; "anonymous" on public apps without a key."""
    is_owner: bool
    key_used: bool
    """The Authorization field is a key of ours, whatever its scheme."""

    @classmethod
    def of(cls, request_id: str, target: Target, principal: Principal | None) -> Ask:
        """`principal` None: an anonymous caller."""
        if principal is None:
            return cls(request_id, target, "anonymous", False, False)
        return cls(request_id, target, principal.owner, principal.owner == target.route.owner, True)


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that the short way has sent to a runner already (`gateway.short`), to be finished as any other."""

    ask: Ask
    body: bytes
    entry: Entry
    exchange: Exchange
    timer: Timeout
    place: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Runners:
    """What the gateway tells those who own the runners' lives."""

    fate: Callable[[str, fate.Fate], None]
    timed_out: Callable[[str], None]
    why_gone: Callable[[str], Awaitable[str]]
    """How this runner ended, as soon as that is known; "" if it is not known within a moment."""
    birth: Callable[[str], Birth | None] = lambda runner_id: None
    """What the start of this runner was made of, if that is known."""


@dataclass(slots=True)
class Trace:
    """A call whose caller asked where its time goes (`x-roost-trace: 1`)."""

    arrived_s: float
    taken_s: float = 0.0
    runner_id: str = ""

    def taken(self, runner_id: str) -> None:
        """It has a slot of this runner."""
        self.taken_s, self.runner_id = time.monotonic(), runner_id


class DirectCalls:
    """Serves calls of callers that wait on their connection."""

    def __init__(
        self, slots: Slots, runners: Runners, now_ms: Callable[[], int], *, max_body: int, folder: str, allowance: Allowance | None = None
    ) -> None:
        self._slots = slots
        self._runners = runners
        self.now_ms = now_ms
        self.max_body = max_body
        self.allowance = allowance or Allowance()
        self._folder = folder
        self.timeouts = Timeouts(asyncio.get_running_loop())
        self._cancels: set[asyncio.Task[None]] = set()
        self.closing = False
        """The server hands over or stops: connections end after their answer."""
        self._successor: Successor | None = None

    def hand_over(self, successor: Successor) -> None:
        """Callers that wait for a runner are passed on; what a runner has accepted is finished here."""
        self.closing = True
        self._successor = successor
        self._slots.refuse_all(HandedOver())

    async def serve(self, scope: Scope, receive: Receive, send: Send, ask: Ask) -> None:
        """Answer one call. Raises RoostError for errors that the caller must be told; the response has not begun then."""
        since_ms = self.now_ms()
        route = ask.target.route
        timeout = fields.find(scope["headers"], b"x-fal-request-timeout")
        deadline = admission.start_deadline(
            timeout.decode("latin-1") if timeout is not None else None, route.request_start_timeout_ms if ask.is_owner else None, since_ms
        )
        if isinstance(deadline, admission.Refuse):
            raise refusal(deadline)
        caller: Caller | None = scope.get("roost.caller")
        whole = caller.whole_body(self.max_body) if caller is not None else None
        try:
            body = Body(whole) if whole is not None else await bodies.read(scope["headers"], receive, self.max_body, self._folder)
        except CallerGone:
            return
        try:
            await self._attempts(scope, send, ask, body, caller, deadline, since_ms)
        finally:
            body.close()
            if caller is not None:
                caller.let_go()

    async def go_on(self, scope: Scope, send: Send, begun: Begun) -> None:
        """Finish a call that has been sent to a runner already. Raises as `serve` does."""
        ask = begun.ask
        caller: Caller | None = scope.get("roost.caller")
        deadline = admission.start_deadline(None, ask.target.route.request_start_timeout_ms if ask.is_owner else None, begun.since_ms)
        assert isinstance(deadline, admission.Deadline)
        try:
            await self._attempts(scope, send, ask, Body(begun.body), caller, deadline, begun.since_ms, begun)
        finally:
            if caller is not None:
                caller.let_go()

    async def _attempts(
        self,
        scope: Scope,
        send: Send,
        ask: Ask,
        body: Body,
        caller: Caller | None,
        deadline: admission.Deadline,
        since_ms: int,
        begun: Begun | None = None,
    ) -> None:
        head = request_head(scope["method"], scope["query_string"], scope["headers"], ask, scope.get("client"), scope["scheme"])
        route = ask.target.route
        trace = Trace(time.monotonic()) if fields.find(scope["headers"], b"x-roost-trace") == b"1" else None
        hint = fields.find(scope["headers"], b"x-fal-runner-hint")
        place = self._slots.arrive() if begun is None else begun.place
        # Not `since_ms`: while its body came in it did not wait for a runner.
        asked_ms = self.now_ms() if begun is None else begun.since_ms
        if begun is not None:
            call = _Call(self, ask, head, body, begun.entry, caller, trace, asked_ms)
            if not await call.run(send, scope, route.request_timeout_ms, begun):
                return
        while True:
            try:
                entry = await self._wait(ask, deadline, since_ms, hint.decode("latin-1") if hint else "", caller, place)
            except HandedOver:
                assert self._successor is not None
                await self._successor.pass_on(scope, send, body)
                return
            if entry is None:
                return
            if trace is not None:
                trace.taken(entry.runner_id)
            call = _Call(self, ask, head, body, entry, caller, trace, asked_ms)
            if not await call.run(send, scope, route.request_timeout_ms):
                return

    async def _wait(
        self, ask: Ask, deadline: admission.Deadline, since_ms: int, hint: str, caller: Caller | None, place: int
    ) -> Entry | None:
        """A reserved runner; None when the caller hung up while it waited."""
        if caller is not None and caller.lost:
            return None
        waiting = asyncio.current_task()
        assert waiting is not None
        if caller is not None:
            caller.on_lost = waiting.cancel
        try:
            return await self._slots.take(ask.target.route, deadline, place=place, since_ms=since_ms, hint=hint)
        except asyncio.CancelledError:
            if caller is not None and caller.lost:
                return None
            raise
        finally:
            if caller is not None:
                caller.on_lost = None

    # for the calls

    def give_back(self, ask: Ask, entry: Entry, *, busy: bool = False, times: tuple[int, int] | None = None) -> None:
        self._slots.give_back(ask.target.route.application, entry, busy=busy, times=times)

    def judged(self, entry: Entry, verdict: fate.Fate) -> None:
        if not isinstance(verdict, fate.Keep):
            self._runners.fate(entry.runner_id, verdict)

    def timed_out(self, entry: Entry) -> None:
        self._runners.timed_out(entry.runner_id)

    async def why_gone(self, entry: Entry) -> str:
        return await self._runners.why_gone(entry.runner_id)

    def stages_of(self, trace: Trace) -> bytes:
        """The answer has begun: what the time until now was spent on."""
        birth = self._runners.birth(trace.runner_id)
        return stages.header(stages.of_call(birth, trace.arrived_s, trace.taken_s, time.monotonic())).encode()

    def cancel(self, exchange: Exchange, head: RequestHead) -> None:
        """Tell the app that this call's caller is gone: its `<path>/cancel` first, then the closed connection (streaming-realtime.md §5)."""
        task = asyncio.get_running_loop().create_task(cancelling.abandon(exchange, head))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)


class _Call:
    """One attempt on one runner."""

    def __init__(
        self,
        calls: DirectCalls,
        ask: Ask,
        head: RequestHead,
        body: Body,
        entry: Entry,
        caller: Caller | None,
        trace: Trace | None,
        asked_ms: int,
    ) -> None:
        self._calls = calls
        self._ask = ask
        self._head = head
        self._body = body
        self._entry = entry
        self._caller = caller
        self._trace = trace
        self._times = asked_ms, calls.now_ms()
        """When it asked for a slot, and when it got this one."""
        self._sent = 0
        """Bytes of the body."""

    async def run(self, send: Send, scope: Scope, timeout_ms: int, begun: Begun | None = None) -> bool:
        """Carry the call to its end. True: the runner was busy and nothing ran; try elsewhere."""
        exchange = self._open() if begun is None else begun.exchange
        self._sent = self._body.size if begun is not None else self._sent
        if self._caller is not None:
            self._caller.on_lost = lambda: exchange.put((_CALLER_LOST, exchange.stream, None))
            if self._caller.lost:
                # Between the short way's last moment and this one.
                self._caller.on_lost()
        if begun is None:
            timer = self._calls.timeouts.start(timeout_ms / 1000, lambda: self._overran(exchange))
        else:
            # It has been running since the call began, or has rung: then the news is in the exchange.
            timer = begun.timer
            timer.callback = lambda: self._overran(exchange)
        try:
            return await self._until_answered(exchange, send, timeout_ms)
        finally:
            timer.cancel()
            if self._caller is not None:
                self._caller.on_lost = None

    def _overran(self, exchange: Exchange) -> None:
        exchange.put((TIMED_OUT, exchange.stream, None))
        if exchange.answered:
            # A caller that does not read its answer blocks the one who would read this news, and holds the slot.
            self._abort()

    def _open(self) -> Exchange:
        first = self._body.first(WINDOW)
        try:
            exchange = self._entry.connection.open(self._head, first, body_ended=len(first) == self._body.size, released=self._released)
        except ValueError as error:
            self._calls.give_back(self._ask, self._entry)
            raise RoostError("bad_request", f"the request cannot be passed on: {error}") from None
        self._sent = len(first)
        # One chunk more than the window takes: credit is told only to who has bytes waiting for it.
        self._feed(exchange)
        return exchange

    def _released(self, busy: bool) -> None:
        self._calls.give_back(self._ask, self._entry, busy=busy, times=self._times)

    def _feed(self, exchange: Exchange) -> None:
        """Send what the runner's window takes of a large body."""
        while self._sent < self._body.size and exchange.connection.writable(exchange.stream):
            data = self._body.read(self._sent, frames.CHUNK)
            self._sent += len(data)
            exchange.send_body(data, end=self._sent >= self._body.size)

    async def _until_answered(self, exchange: Exchange, send: Send, timeout_ms: int) -> bool:
        while True:
            event = await exchange.next()
            kind = event[0]
            if kind == frames.RESPONSE:
                await self._pass_on(exchange, event, send)
                return False
            if kind == frames.BUSY:
                return True
            if kind == frames.CREDIT:
                self._feed(exchange)
            elif kind == frames.RESET:
                raise RoostError(event[2]["code"], event[2]["detail"])
            elif kind == _CALLER_LOST:
                self._calls.cancel(exchange, self._head)
                return False
            elif kind == TIMED_OUT:
                self._time_out(exchange)
                raise RoostError("request_timeout", f"the call took longer than request_timeout ({timeout_ms / 1000:g} s) and was ended")
            elif kind in (0, frames.DONE):
                how = await self._calls.why_gone(self._entry)
                raise RoostError(
                    fate.classify_disconnect(headers_received=False, process_gone=True),
                    f"the runner went away in the middle of the call{': ' if how else ''}{how}",
                )

    def _time_out(self, exchange: Exchange) -> None:
        self._calls.cancel(exchange, self._head)
        self._calls.timed_out(self._entry)

    async def _pass_on(self, exchange: Exchange, event: tuple[int, int, object], send: Send) -> None:
        head = response_of(event)
        self._calls.judged(self._entry, fates.of_response(head))
        hints = fields.runner_hints(head.headers)
        if hints is not None:
            self._entry.hints = hints
        kept = fields.to_caller(head.status, head.headers, request_id=self._ask.request_id, runner_id=self._entry.runner_id)
        if kept is None:
            self._calls.cancel(exchange, self._head)
            raise RoostError(
                "response_headers_too_large", "the app's response headers are larger than 16 KB", hint="Send large values in the body."
            )
        if exchange.finished and not exchange.events:
            raise RoostError(
                fate.classify_disconnect(headers_received=True, process_gone=True), "the runner went away after its response had begun"
            )
        if self._trace is not None:
            kept.append((b"x-roost-stages", self._calls.stages_of(self._trace)))
        if self._calls.closing:
            kept.append((b"connection", b"close"))
        if self._answer_at_once(exchange, head.status, kept):
            return
        await send({"type": "http.response.start", "status": head.status, "headers": kept})
        while True:
            kind, _, value = await exchange.next()
            if kind == frames.BODY_END:
                await send({"type": "http.response.body", "body": value})
                return
            if kind == frames.BODY:
                await send({"type": "http.response.body", "body": value, "more_body": True})
                exchange.consumed(len(value))
            elif kind == _CALLER_LOST:
                self._calls.cancel(exchange, self._head)
                return
            elif kind == TIMED_OUT:
                self._time_out(exchange)
                self._abort()
                return
            elif kind in (0, frames.RESET, frames.DONE):
                self._abort()
                return

    def _answer_at_once(self, exchange: Exchange, status: int, headers: frames.Headers) -> bool:
        """Most answers arrive whole, and leave in one piece."""
        if self._caller is None or not exchange.events:
            return False
        kind, _, value = exchange.events[0]
        return kind == frames.BODY_END and self._caller.answer(status, headers, value)

    def _abort(self) -> None:
        """The response cannot be completed and the caller must notice: only a broken connection says so after the head has gone out."""
        if self._caller is not None:
            self._caller.hang_up_in(0)


def request_head(method: str, query: bytes, headers: frames.Headers, ask: Ask, client: tuple[str, int] | None, scheme: str) -> RequestHead:
    """The request as the app gets it."""
    kept = fields.to_app(
        headers,
        request_id=ask.request_id,
        key_used=ask.key_used,
        endpoint=ask.target.route.application + ask.target.path.decode("latin-1"),
        caller=ask.caller,
        client=client[0] if client else "",
        scheme=scheme,
    )
    return RequestHead(method, ask.target.path, query, kept)
