"""One call connection to a runner: exchanges on streams, frames of one loop turn in one write."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from roost.wire import frames
from roost.wire.frames import RequestHead, ResponseHead
from roost.wire.session import Event, GatewaySession


class Exchange:
    """One call on a connection, as its caller in the gateway sees it. News arrives in `events`, a caller waits with `next`.

    `released` runs once, when the runner's slot is free again (or the connection is gone); it is told whether the runner was busy.
    """

    __slots__ = ("_consumed", "_released", "_waiter", "accepted", "answered", "connection", "events", "finished", "stream")

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


class CallConnection(asyncio.Protocol):
    """The gateway's end of one welcomed call connection. Made by the listener, after the handshake."""

    def __init__(
        self,
        runner_id: str,
        on_going_away: Callable[[CallConnection], None],
        on_lost: Callable[[CallConnection], None],
        on_held: Callable[[CallConnection, int], None],
    ) -> None:
        self.runner_id = runner_id
        self._on_going_away = on_going_away
        self._on_held = on_held
        self._on_lost = on_lost
        self._session = GatewaySession()
        self._exchanges: dict[int, Exchange] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._flush_planned = False
        self.lost = False

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

    def _refused(self, released: Callable[[bool], None] | None) -> Exchange:
        """The connection broke after the slot was reserved. Nothing can have run, so this is BUSY; an open exchange would never end."""
        exchange = Exchange(self, 0, released)
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
        try:
            events = self._session.receive(data)
        except frames.ProtocolError:
            # A runner that breaks the rules cannot be trusted with any of its calls; the fleet replaces it.
            if self._transport is not None:
                self._transport.abort()
            return
        for event in events:
            kind, stream, value = event
            exchange = self._exchanges.get(stream)
            if exchange is None:
                if kind == frames.GOAWAY:
                    self._on_going_away(self)
                elif kind == frames.CONTROL and value.get("op") == "held":
                    self._on_held(self, int(value.get("calls", 0)))
                continue
            if kind == frames.ACCEPT:
                exchange.accepted = True
                continue
            if kind == frames.RESPONSE:
                exchange.answered = True
            if kind in (frames.DONE, frames.BUSY):
                exchange.finished = True
                del self._exchanges[stream]
                exchange.put(event)
                exchange.release(busy=kind == frames.BUSY)
                continue
            exchange.put(event)
        if self._session.has_output():
            self._plan_flush()

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
        if self._transport is not None and self._session.has_output():
            self._transport.write(self._session.take())


def response_of(event: Event) -> ResponseHead:
    """The head that a RESPONSE event carries."""
    head = event[2]
    assert isinstance(head, ResponseHead)
    return head
