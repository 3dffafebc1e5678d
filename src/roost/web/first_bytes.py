"""One port for several protocols: a connection's first bytes say which it speaks, and below TLS what was agreed on there (ALPN).

    0x16 (a TLS handshake)   TLS, and in it one of ALPN
    anything else            HTTP/1.1, whose parser says what is wrong with it if it is not

The bytes are read as they come and given on. To peek at them costs a plain connection half as much again as all else that happens to it; this
costs it two microseconds (docs/decisions/0007-tls-in-the-servers-loop.md).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

from roost.kit import log
from roost.kit.timeouts import Timeouts
from roost.web.guests import Guests

ALPN: Final = ("http/1.1",)
"""What a TLS context of ours offers. Whoever agrees on nothing speaks this too."""
OPENING_S: Final = 20.0
"""How long a connection may take to say something, and to agree on TLS."""
_TLS_HANDSHAKE: Final = 0x16


class Opening(asyncio.Protocol):
    """A connection of which it is not known yet what it speaks. `http` makes the protocol that goes on with it, and is told whether below TLS.

    `context` None: there is no TLS here, and who tries it is hung up on without a word that it could not read.
    """

    __slots__ = ("_address", "_context", "_guests", "_handshake", "_http", "_late", "_openings", "_then", "_transport")

    def __init__(
        self,
        openings: set[Opening],
        http: Callable[[bool], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext] | None,
        timeouts: Timeouts,
        guests: Guests | None = None,
    ) -> None:
        """`openings` are those of the server; this one is there until it is known. `guests` says whether there is room for one more."""
        self._openings = openings
        self._http = http
        self._context = context
        self._transport: Any = None
        self._handshake: asyncio.Task[None] | None = None
        self._then: asyncio.Protocol | None = None
        self._guests = guests or Guests()
        self._address = ""
        """Of the other end, while this counts it."""
        self._late = timeouts.start(OPENING_S, self.close)
        openings.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._address = str(peer[0])
            if not self._guests.come(self._address):
                self.close()

    def data_received(self, data: bytes) -> None:
        if data[0] != _TLS_HANDSHAKE:
            self._begin(self._transport, False).data_received(data)
        elif self._context is None:
            self.close()
        else:
            # What comes next is for the TLS protocol, which is not there yet.
            self._transport.pause_reading()
            loop = asyncio.get_running_loop()
            self._handshake = loop.create_task(self._agree(self._context()), name="tls handshake")
            # Queued when the task has begun, so behind what start_tls queues: the TLS protocol has begun then, and in the same turn of the loop
            # as that, which is before more is read.
            loop.call_soon(loop.call_soon, _give, self._transport, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()
        if self._then is not None:
            # The news was on its way when the connection was given on.
            self._then.connection_lost(exc)

    def close(self) -> None:
        """End the connection, wherever it stands."""
        self._over()
        if self._handshake is not None:
            self._handshake.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def _agree(self, context: ssl.SSLContext) -> None:
        try:
            secured = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_side=True)
        except OSError as error:
            # Also what scanners and those who do not trust us cause: nothing that an operator could act on.
            log.debug("tls.refused", reason=str(error) or type(error).__name__)
        else:
            if secured is not None:
                self._begin(secured, True)
        finally:
            self._over()

    def _begin(self, transport: Any, secure: bool) -> asyncio.Protocol:
        self._over()
        self._then = then = self._http(secure)
        transport.set_protocol(then)
        then.connection_made(transport)
        return then

    def _over(self) -> None:
        self._late.cancel()
        self._openings.discard(self)
        if self._address:
            # What goes on with it counts it anew.
            self._guests.go(self._address)
            self._address = ""


def _give(transport: Any, hello: bytes) -> None:
    """Give the TLS protocol what was read before it was there."""
    if not transport.is_closing():
        protocol: asyncio.BufferedProtocol = transport.get_protocol()
        memoryview(protocol.get_buffer(len(hello)))[: len(hello)] = hello
        protocol.buffer_updated(len(hello))
