"""Listening: uvicorn's protocol on sockets that the supervisor holds, able to stop accepting and yet finish what is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from email.utils import formatdate

import uvicorn
from uvicorn.server import ServerState

from roost.kit import log
from roost.kit.timeouts import Timeouts
from roost.web.answers import Asgi
from roost.web.first_bytes import Opening
from roost.web.forwarded import Trusted
from roost.web.guests import Guests
from roost.web.protocol import LimitedProtocol
from roost.web.shortcut import Shortcut, Shorts

KEEP_ALIVE_S = 75


class _IntoOurLog(logging.Handler):
    """What uvicorn says, in our lines. What a caller alone can cause is debug: it must not fill an operator's log."""

    def emit(self, record: logging.LogRecord) -> None:
        say = log.error if record.levelno >= logging.ERROR else log.debug
        say("http.said", message=record.getMessage())


class HttpServer:
    """Serves one ASGI app on already listening sockets."""

    def __init__(
        self,
        app: Asgi,
        shortcut: Shortcut | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        proxies: Trusted | None = None,
        most_per_address: int = 0,
    ) -> None:
        """`shortcut` serves usual requests without the app. `tls` is asked for each connection that wants it; None: there is none.

        `proxies` are those before us whose word counts; None: nobody's does. All others may have `most_per_address` connections; 0: any number.
        """
        # Two: a head says nothing about the scheme it came by, and what is remembered of it depends on that.
        self._shorts = (Shorts(shortcut), Shorts(shortcut)) if shortcut is not None else None
        self._tls = tls
        self._proxies = proxies
        self._guests = Guests(most_per_address, proxies.has if proxies is not None else lambda address: False)
        self._config = uvicorn.Config(
            app,  # type: ignore[arg-type]  # our narrower ASGI types
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            server_header=False,
            proxy_headers=False,
        )
        self._config.load()
        uvicorn_log = logging.getLogger("uvicorn")
        uvicorn_log.handlers = [_IntoOurLog()]
        uvicorn_log.propagate = False
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._openings: set[Opening] = set()
        self._clock: asyncio.Task[None] | None = None
        self._timeouts: Timeouts | None = None

    async def listen(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        self._timeouts = Timeouts(loop)
        self._state.default_headers = _date()
        self._clock = loop.create_task(self._keep_date(), name="http date")
        for sock in sockets:
            # A duplicate: closing the listener must not close the socket that the supervisor lent.
            server = await loop.create_server(self._opening, sock=sock.dup(), backlog=4096)
            self._servers.append(server)

    def stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    @property
    def busy(self) -> int:
        """Requests being answered."""
        return len(self._state.tasks) + sum(len(shorts.under_way) for shorts in self._shorts or ())

    @property
    def connections(self) -> int:
        return len(self._state.connections) + len(self._openings)

    def shut_idle(self) -> None:
        """Close idle connections; busy ones end after their answer."""
        self._close_openings()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def close(self) -> None:
        self.stop_accepting()
        self._close_openings()
        for connection in list(self._state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        if self._clock is not None:
            self._clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._clock

    def newcomer(self, secure: bool = False) -> LimitedProtocol:
        """The protocol of a new connection, whatever transport it comes on; `secure` says that this is TLS."""
        shorts = self._shorts[secure] if self._shorts is not None else None
        return LimitedProtocol(
            self._config, self._state, {}, timeouts=self._timeouts, shorts=shorts, proxies=self._proxies, guests=self._guests
        )

    def _opening(self) -> Opening:
        assert self._timeouts is not None, "listening"
        return Opening(self._openings, self.newcomer, self._tls, self._timeouts, self._guests)

    def _close_openings(self) -> None:
        for opening in list(self._openings):
            opening.close()

    async def _keep_date(self) -> None:
        while True:
            self._state.default_headers = _date()
            await asyncio.sleep(1)


def _date() -> list[tuple[bytes, bytes]]:
    return [(b"date", formatdate(usegmt=True).encode())]
