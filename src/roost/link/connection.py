"""One call connection to a runner: exchanges on streams, frames of one loop turn in one write."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar, cast

from roost.kit.failpoints import PLANNED, FailpointError, failpoint
from roost.wire import frames
from roost.wire.frames import Attempt, RequestHead, ResponseHead
from roost.wire.launch import KEEPING
from roost.wire.session import Event, GatewaySession, decoded

_E = TypeVar("_E", bound="Exchange")


class Exchange:
    """One call on a connection, as its caller in the gateway sees it. News arrives in `events`, a caller waits with `next`.

    `released` runs once, when the runner's slot is free again (or the connection is gone); it is told whether the runner was busy.
    """

    __slots__ = ("_consumed", "_released", "_waiter", "accepted", "answered", "connection", "events", "finished", "stream")

    queued = False
    """Whether it hears of ACCEPT: only who sends nothing before it does."""

    def __init__(self, connection: CallConnection, stream: int, released: Callable[[bool], None] | None) -> None:
        self.connection = connection
        self.stream = stream
        self.events: deque[Event] = deque()
        self.accepted = False
        self.answered = False
        """The head of the response has arrived."""
        self.finished = False
        """DONE or BUSY, or the connection is gone: nothing more will arrive."""
        self._released = released
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        self.events.append(event)
        self.wake()

    def whole(self, response: bytes, body: bytes) -> None:
        """A whole answer has arrived at once: the payload of its RESPONSE and its body. Raises ProtocolError for a head that is none."""
        self.put(decoded((frames.RESPONSE, self.stream, response)))
        self.put((frames.BODY_END, self.stream, body))

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> Event:
        """The next event of this call. After the connection is lost: (0, stream, None), again and again."""
        while not self.events:
            if self.finished:
                return (0, self.stream, None)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.events.popleft()

    def release(self, *, busy: bool = False) -> None:
        released, self._released = self._released, None
        if released is not None:
            released(busy)

    # what a caller may ask of the runner

    def send_body(self, data: bytes, *, end: bool) -> bool:
        return self.connection.send_body(self.stream, data, end=end)

    def consumed(self, size: int) -> None:
        self.connection.consumed(self.stream, size)

    def cancel(self) -> None:
        """The caller is gone; what still arrives is thrown away. The slot is freed when the runner says so."""
        self.connection.cancel(self.stream)


class QueuedExchange(Exchange):
    """A queued call's exchange: reserved first, sent when its claim is durable; or an attempt under way that was taken up again.

    Its first event is ACCEPT or BUSY; what is claimed already may be sent before it. A RESET with the code `session.MOVED` says that the call was resumed on another stream, which has its outcome.
    Failpoints stand around each of its messages (docs/internals/durable-queue.md).
    """

    __slots__ = ("attempt", "holds_slot", "kept", "resumed")
    queued = True

    def __init__(self, connection: CallConnection, stream: int, released: Callable[[bool], None] | None) -> None:
        super().__init__(connection, stream, released)
        self.attempt: Attempt | None = None
        """Set by `keep`, or by `CallConnection.resume`."""
        self.kept = False
        """The runner keeps the call when the connection breaks. False: it is of an older version, and the attempt is then lost."""
        self.resumed = False
        """Taken up by `CallConnection.resume`."""
        self.holds_slot = False
        """A resumed call whose code still runs. The directory counts it as one of this gateway's by itself."""

    def keep(self, request_id: str, attempt: int) -> None:
        """After ACCEPT, before `send`: the call outlives this connection, and its result is kept until `CallConnection.taken`."""
        self.attempt = (request_id, attempt)
        self.kept = self.connection.keep(self.stream, self.attempt)

    def send(self, head: RequestHead, body: bytes, body_ended: bool) -> None:
        """The call itself, once its claim is durable; more of the body goes by `send_body`.

        Raises ValueError when the head cannot be carried: nothing was sent then, and `release_unused` is still to be called.
        """
        self.connection.send_head(self.stream, head.encode(), body, body_ended)

    def release_unused(self) -> None:
        """Give back a reservation that nothing was sent on; also before ACCEPT. Nothing needs to be read afterwards."""
        self.connection.release(self.stream)

    def put(self, event: Event) -> None:
        kind = event[0]
        if kind == frames.ACCEPT:
            self.connection.visit("link.accepted")
            if self.resumed and event[2] != frames.BYPASS:
                self.holds_slot = True
                self.connection.on_resumed(self.connection, True)
        elif kind == frames.RESPONSE:
            self.connection.visit("link.response")
        elif kind == frames.DONE:
            self.connection.visit("link.done")
        super().put(event)

    def release(self, *, busy: bool = False) -> None:
        if self.holds_slot:
            self.holds_slot = False
            self.connection.on_resumed(self.connection, False)
        super().release(busy=busy)


class CallConnection(asyncio.Protocol):
    """The gateway's end of one welcomed call connection. Made by the listener, after the handshake."""

    def __init__(
        self,
        runner_id: str,
        on_going_away: Callable[[CallConnection], None],
        on_lost: Callable[[CallConnection], None],
        on_held: Callable[[CallConnection, int], None],
        version: int = KEEPING,
    ) -> None:
        self.runner_id = runner_id
        self.version = version
        """Of the link, as both ends speak it."""
        self.on_resumed: Callable[[CallConnection, bool], None] = lambda connection, holds: None
        """A resumed call holds a slot of the runner from now on (True), or no longer (False)."""
        self.on_kept: Callable[[CallConnection, list[Attempt]], None] = lambda connection, attempts: None
        """The runner has dialled home and keeps these attempts, some of which may have been settled while it had no connection."""
        self._on_going_away = on_going_away
        self._on_held = on_held
        self._on_lost = on_lost
        self._session = GatewaySession()
        self._exchanges: dict[int, Exchange] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._flush_planned = False
        self._taken: list[Attempt] = []
        self._dropped: list[Attempt] = []
        self._leaving: list[str] = []
        """Failpoints to visit once what is queued has left."""
        self.lost = False
        self.arrivals = 0
        """How often bytes have come."""

    def open(
        self, head: RequestHead, body: bytes, *, body_ended: bool, bypass: bool = False, released: Callable[[bool], None] | None = None
    ) -> Exchange:
        """Start a call: reservation, head and the body so far leave together; BUSY as the first event means that nothing of it ran.

        Raises ValueError when the head cannot be carried (a line feed in a field, or too large).
        """
        encoded = head.encode()
        if self.lost:
            return self._refused(released)
        session = self._session
        stream = session.reserve(bypass=bypass)
        exchange = Exchange(self, stream, released)
        self._exchanges[stream] = exchange
        session.send_encoded_head(stream, encoded)
        if body or body_ended:
            session.send_body(stream, body, end=body_ended)
        self._plan_flush()
        return exchange

    def begin(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """Start a call that is here as a whole, with an exchange of the caller's own kind. `head` is encoded.

        Not for a connection that is lost: its entry has no free slot.
        """
        if len(body) > frames.CHUNK:
            session = self._session
            exchange.stream = session.reserve()
            session.send_encoded_head(exchange.stream, head)
            session.send_body(exchange.stream, body, end=True)
        else:
            exchange.stream = self._session.call(head, body)
        alone = not self._exchanges
        self._exchanges[exchange.stream] = exchange
        if alone:
            # No other call to share a write with: waiting for the end of the turn would only make this one wait.
            self._flush()
        else:
            self._plan_flush()

    # queued calls

    def reserve(self, *, released: Callable[[bool], None] | None = None) -> QueuedExchange:
        """Ask for a slot for a queued call: ACCEPT, then `keep` and `send`, or BUSY."""
        if self.lost:
            return self._over(QueuedExchange(self, 0, released))
        self.visit("link.reserve:before")
        return self._opened(QueuedExchange(self, self._session.reserve(), released), "link.reserve:after")

    def resume(self, request_id: str, attempt: int, *, released: Callable[[bool], None] | None = None) -> QueuedExchange:
        """Take up an attempt that an earlier connection began: ACCEPT and the response from its first byte, or BUSY: the runner does not know it.

        The slot is counted by the directory: the call moves from `held` to `in_flight`. `released(False)` follows its end, `released(True)` BUSY.
        """
        exchange = QueuedExchange(self, 0, released)
        exchange.attempt = (request_id, attempt)
        exchange.resumed = True
        if self.lost or self.version < KEEPING:
            return self._over(exchange)
        self.visit("link.resume:before")
        exchange.kept = True
        exchange.stream = self._session.resume(exchange.attempt)
        return self._opened(exchange, "link.resume:after")

    def taken(self, attempts: Iterable[Attempt]) -> None:
        """Their results are durable: the runner forgets them. Those of one turn leave together."""
        if self.version >= KEEPING and not self.lost:
            self._taken += attempts
            self._plan_flush()

    def drop(self, attempts: Iterable[Attempt]) -> None:
        """Nobody wants these attempts any more: the runner cancels what runs of them, and forgets them."""
        if self.version >= KEEPING and not self.lost:
            self._dropped += attempts
            self._plan_flush()

    def keep(self, stream: int, attempt: Attempt) -> bool:
        """As `QueuedExchange.keep`. False: the runner cannot."""
        if self.version < KEEPING:
            return False
        self.visit("link.keep:before")
        self._session.keep(stream, attempt)
        self._leave("link.keep:after")
        return True

    def send_head(self, stream: int, head: bytes, body: bytes, body_ended: bool) -> None:
        self.visit("link.head:before")
        self._session.send_encoded_head(stream, head)
        if body or body_ended:
            self._session.send_body(stream, body, end=body_ended)
        self._leave("link.head:after")

    def release(self, stream: int) -> None:
        self.visit("link.release:before")
        self._session.release(stream)
        self._leave("link.release:after")

    def _opened(self, exchange: QueuedExchange, name: str) -> QueuedExchange:
        self._exchanges[exchange.stream] = exchange
        self._leave(name)
        return exchange

    def visit(self, name: str) -> None:
        """A failpoint. An armed `raise` there is a connection that breaks: whoever sends must bear that and nothing else."""
        if PLANNED:
            try:
                failpoint(name)
            except FailpointError:
                if self._transport is not None:
                    self._transport.abort()

    def _leave(self, name: str) -> None:
        if PLANNED:
            self._leaving.append(name)
        self._plan_flush()

    def _orders(self) -> None:
        for op, attempts in (("taken", self._taken), ("drop", self._dropped)):
            if attempts:
                self.visit(f"link.{op}:before")
                self._session.name_attempts(op, attempts)
                attempts.clear()
                if PLANNED:
                    self._leaving.append(f"link.{op}:after")

    def _refused(self, released: Callable[[bool], None] | None) -> Exchange:
        """The connection broke after the slot was reserved. Nothing can have run, so this is BUSY; an open exchange would never end."""
        return self._over(Exchange(self, 0, released))

    def _over(self, exchange: _E) -> _E:
        exchange.finished = True
        exchange.put((frames.BUSY, 0, None))
        exchange.release(busy=True)
        return exchange

    @property
    def going_away(self) -> bool:
        return self._session.going_away or self.lost

    def send_body(self, stream: int, data: bytes, *, end: bool) -> bool:
        """False: the runner reads more slowly than the caller sends; wait for a CREDIT event."""
        sent = self._session.send_body(stream, data, end=end)
        self._plan_flush()
        return sent

    def writable(self, stream: int) -> bool:
        return self._session.writable(stream)

    def consumed(self, stream: int, size: int) -> None:
        self._session.consumed(stream, size)
        if self._session.has_output():
            self._plan_flush()

    def cancel(self, stream: int) -> None:
        self._session.cancel(stream)
        self._plan_flush()

    def close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.arrivals += 1
        try:
            self._deliver(self._session.arrived(data))
        except frames.ProtocolError:
            # A runner that breaks the rules cannot be trusted with any of its calls; the fleet replaces it.
            if self._transport is not None:
                self._transport.abort()
            return
        if self._session.has_output():
            self._plan_flush()

    def _deliver(self, events: list[Event]) -> None:
        exchanges = self._exchanges
        head: Event | None = None
        for event in events:
            kind, stream, value = event
            if head is not None:
                # Most answers are a head and all of the body right behind it.
                if kind == frames.BODY_END and stream == head[1]:
                    exchanges[stream].whole(head[2], value)
                    head = None
                    continue
                exchanges[head[1]].put(decoded(head))
                head = None
            exchange = exchanges.get(stream)
            if exchange is None:
                if kind == frames.GOAWAY:
                    self._on_going_away(self)
                elif kind == frames.CONTROL and value.get("op") == "held":
                    self._on_held(self, int(value.get("calls", 0)))
                elif kind == frames.CONTROL and value.get("op") == "kept":
                    self.on_kept(self, frames.attempts_of(value))
                continue
            if kind == frames.ACCEPT:
                exchange.accepted = True
                if exchange.queued:
                    exchange.put(event)
                continue
            if kind == frames.RESPONSE:
                exchange.answered = True
                head = event
            elif kind in (frames.DONE, frames.BUSY):
                exchange.finished = True
                del exchanges[stream]
                exchange.put(event)
                exchange.release(busy=kind == frames.BUSY)
            else:
                exchange.put(decoded(event))
        if head is not None:
            exchanges[head[1]].put(decoded(head))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._transport = None
        exchanges, self._exchanges = self._exchanges, {}
        # First the directory: a released slot must not be handed to the next caller on this dead connection.
        self._on_lost(self)
        for exchange in exchanges.values():
            exchange.finished = True
            exchange.wake()
            exchange.release()

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        # The transport may say that its buffer is full; each stream's window already bounds what can lie in it.
        self._flush_planned = False
        if self._taken or self._dropped:
            self._orders()
        if self._transport is not None and self._session.has_output():
            self._transport.write(self._session.take())
        if self._leaving:
            left, self._leaving = self._leaving, []
            for name in left:
                self.visit(name)


def response_of(event: Event) -> ResponseHead:
    """The head that a RESPONSE event carries."""
    head = event[2]
    assert isinstance(head, ResponseHead)
    return head
