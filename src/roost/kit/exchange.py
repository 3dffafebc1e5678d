"""One HTTP/1.1 connection that we opened to somebody whom we do not trust: one question at a time, an answer of limited size."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, cast

import h11

from roost.wire.frames import Headers

MAX_HEAD: Final = 64 * 1024
_MAX_PIECES: Final = 4_096
"""Pieces that a head and body may come in: one of a single byte costs as much work as a large one."""


class Broken(Exception):
    """There is no answer. The text says what the other end did, as the end of a sentence about it."""

    def __init__(self, what: str, *, unused: bool = False) -> None:
        super().__init__(what)
        self.unused = unused
        """Not a byte of an answer had come."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    body: bytes
    cut: bool
    """The body was longer; the rest was not read."""


class Connection(asyncio.Protocol):
    """Given to the event loop as the protocol of a new connection. Whoever has it must `abort` it in the end; that is harmless twice."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._transport: asyncio.Transport | None = None
        self._given_up = False
        self._waiter: asyncio.Future[Answer] | None = None
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._limit = 0
        self._received = 0
        self._pieces = 0

    @property
    def reusable(self) -> bool:
        """Whether another question may be asked: the last one was answered to its end, and nothing has arrived since."""
        idle = self._http.our_state is h11.IDLE and self._http.their_state is h11.IDLE
        return idle and self._transport is not None and not self._transport.is_closing() and not self._transport.get_write_buffer_size()

    async def ask(self, head: h11.Request, body: bytes, *, answer_bytes: int) -> Answer:
        """The answer, of whose body no more than `answer_bytes` are read. Raises Broken. There is no time limit in here: cancel it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Broken("closed the connection", unused=True)
        self._head, self._limit, self._received, self._pieces = None, answer_bytes, 0, 0
        self._body.clear()
        self._waiter = asyncio.get_running_loop().create_future()
        http = self._http
        pieces = (http.send(head), http.send(h11.Data(data=body)) if body else b"", http.send(h11.EndOfMessage()))
        transport.write(b"".join([piece for piece in pieces if piece]))
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def abort(self) -> None:
        """End it at once, with whatever is still to be sent."""
        self._given_up = True
        if self._transport is not None:
            self._transport.abort()

    # from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        if self._given_up:
            # Whoever was to have it stopped waiting just now.
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            # Nobody asked: the answer to the next question must not be one that was made up before it.
            self.abort()
            return
        self._received += len(data)
        self._take(data)

    def eof_received(self) -> bool:
        if self._waiter is not None and not self._waiter.done():
            # An answer without a length ends so.
            self._take(b"")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(self._closed())

    def _take(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while self._waiter is not None and not self._waiter.done():
                event: Any = self._http.next_event()
                self._pieces += 1
                if isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self._answered(cut=len(self._body) > self._limit)
                elif not isinstance(event, h11.InformationalResponse):
                    break
                if len(self._body) > self._limit or self._pieces > _MAX_PIECES:
                    self._enough()
        except h11.RemoteProtocolError as error:
            self._fail(f"sent what is no HTTP answer: {error}" if data else self._closed())
            self.abort()
            return
        # Chunks and their extensions are not counted by the body's limit.
        if self._received > 2 * self._limit + 2 * MAX_HEAD:
            self._enough()

    def _enough(self) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if self._head is None:
            self._fail("sent more than the head of an answer may have")
            self.abort()
        else:
            self._answered(cut=True)

    def _answered(self, *, cut: bool) -> None:
        assert self._head is not None and self._waiter is not None
        headers = [(bytes(name), bytes(value)) for name, value in self._head.headers]
        self._waiter.set_result(Answer(self._head.status_code, headers, bytes(self._body[: self._limit]), cut))
        http = self._http
        if not cut and http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]:
            http.start_next_cycle()
        else:
            self.abort()

    def _closed(self) -> str:
        return "closed the connection before its answer was complete" if self._received else "closed the connection without an answer"

    def _fail(self, what: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Broken(what, unused=not self._received))
