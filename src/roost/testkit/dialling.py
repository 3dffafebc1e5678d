"""A caller with a connection: one HTTP request in bytes to a server's protocol, which it may leave at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import httptools

from roost.testkit.calling import Reply
from roost.web.protocol import LimitedProtocol
from roost.wire.frames import Headers

_PATIENCE_S = 3600.0
"""How long an answer is awaited."""


def request_bytes(method: str, target: str, headers: Headers, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    fields = b"".join(b"%b: %b\r\n" % field for field in headers)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), target.encode(), fields, body)


class Dialling(asyncio.Transport):
    """A caller's connection, and the transport that the server's protocol has of it. Await it for the Reply to its newest request.

    `pieces` are sent one a turn of the loop. The connection stays open after an answer, and takes the next request with `ask`.
    `peer` is the address that the server sees.
    """

    def __init__(
        self,
        protocol: LimitedProtocol,
        pieces: list[bytes],
        now_ms: Callable[[], int],
        *,
        method: str = "POST",
        peer: str = "192.0.2.1",
    ) -> None:
        super().__init__()
        self.protocol = protocol
        self.peer = peer
        self.received = b""
        """All bytes that the server has sent."""
        self.closed = False
        self.left = False
        """The caller hung up."""
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        protocol.connection_made(self)
        self.ask(pieces, method)

    def ask(self, pieces: list[bytes], method: str = "POST") -> None:
        """Send a request; the one before it must have been answered."""
        self.reply = Reply()
        self._began_ms = self._now_ms()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._parser: Any = httptools.HttpResponseParser(self)
        if method == "HEAD":
            raise ValueError("this caller cannot tell where an answer to HEAD ends")
        for piece in pieces:
            self._loop.call_soon(self._send, piece)

    def __await__(self) -> Generator[Any, None, Reply]:
        return self._ended().__await__()

    async def _ended(self) -> Reply:
        await asyncio.wait([self._over], timeout=_PATIENCE_S)
        assert self.done, f"no end of an answer within {_PATIENCE_S:g} s; until then came {self.received[:500]!r}"
        return self.reply

    @property
    def done(self) -> bool:
        return self._over.done()

    def hang_up(self) -> None:
        """The caller's connection breaks."""
        self.left = True
        self._end()

    def lose_server(self) -> None:
        """The process that served this call is gone: nobody there notices anything any more."""
        self.closed = True
        self.reply.broken = self.reply.broken or not self.reply.complete
        self._answered()
        for task in self.protocol.tasks:
            task.cancel()

    def _send(self, piece: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(piece)

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)
        self._answered()

    def _answered(self) -> None:
        if not self._over.done():
            self.reply.ms = self._now_ms() - self._began_ms
            self._over.set_result(None)

    # the server's transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed:
            return
        self.received += data
        self._parser.feed_data(bytes(data))

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.left and not self.closed:
            self.reply.broken = not self.reply.complete
        self._end()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """See above."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self.peer, 40000), "sockname": ("192.0.2.2", 80)}.get(name, default)

    # the answer's parser

    def on_message_begin(self) -> None:
        self.reply.heads += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.reply.headers[name.decode("latin-1")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.reply.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.reply.body += body

    def on_message_complete(self) -> None:
        self.reply.complete = True
        self._answered()
