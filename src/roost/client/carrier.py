"""One caller's connections to one server, and flows carried out over them: blocking and awaiting.

httpx and the settings are looked at with the first call, so that making a client costs nothing and cannot fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from roost.client import calls, config
from roost.client.addresses import AppId
from roost.client.flows import Caller, Ticket
from roost.client.steps import Emit, Flow

if TYPE_CHECKING:
    import asyncio

    import httpx


@dataclass(frozen=True)
class Said:
    """What the program said about where to call, and as whom."""

    key: str | None = field(repr=False)
    host: str | None
    profile: str | None
    timeout_s: float | None

    def __getstate__(self) -> dict[str, Any]:
        # A client among an app's module constants travels to its runners. It finds its server and key there: those found here, perhaps
        # of an operator's profile, must not be in the bundle.
        return {"key": self.key, "host": self.host, "profile": self.profile, "timeout_s": self.timeout_s}

    @cached_property
    def target(self) -> config.Target:
        return config.resolve(host=self.host or "", key=self.key or "", profile=self.profile or "", key_from="the argument `key`")

    @cached_property
    def caller(self) -> Caller:
        return calls.caller(self.target, self.timeout_s)

    def app(self, application: str) -> AppId:
        """Raises ValueError for what names no app."""
        return AppId.parse(application, self.target.owner)

    def url(self, ticket: Ticket) -> str:
        return self.caller.place.request(ticket.app, ticket.request_id)


class Carrier:
    """Blocking."""

    def __init__(self, said: Said, transport: httpx.BaseTransport | None, pause: Callable[[float], None]) -> None:
        self.said = said
        self._transport, self._pause = transport, pause

    def __reduce__(self) -> tuple[type[Carrier], tuple[Any, ...]]:
        return Carrier, (self.said, None, self._pause)  # connections stay here

    def finish(self, flow: Flow[Any], tell: Callable[[Any], None] = lambda value: None) -> Any:
        """The flow's result; `tell` hears what it emits before."""
        from roost.client.drivers import Drive

        drive = Drive(flow, self._http, self._pause)
        try:
            while isinstance(step := drive.next(), Emit):
                tell(step.value)
            return step.value
        finally:
            drive.close()

    def values(self, flow: Flow[Any]) -> Iterator[Any]:
        """What the flow emits. Leaving early hangs up."""
        from roost.client.drivers import Drive

        drive = Drive(flow, self._http, self._pause)
        try:
            while isinstance(step := drive.next(), Emit):
                yield step.value
        finally:
            drive.close()

    def close(self) -> None:
        if "_http" in self.__dict__:
            self._http.close()

    @cached_property
    def _http(self) -> httpx.Client:
        from roost.client.drivers import LIMITS
        from roost.client.lighthttp import httpx
        from roost.client.trust import trust

        return httpx.Client(**trust(self.said.target), limits=LIMITS, transport=self._transport)


class AsyncCarrier:
    """The same for event loops."""

    def __init__(self, said: Said, transport: httpx.AsyncBaseTransport | None, pause: Callable[[float], Awaitable[None]] | None) -> None:
        self.said = said
        self._transport, self._pause = transport, pause
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __reduce__(self) -> tuple[type[AsyncCarrier], tuple[Any, ...]]:
        return AsyncCarrier, (self.said, None, self._pause)

    async def finish(self, flow: Flow[Any], tell: Callable[[Any], Awaitable[None]] | None = None) -> Any:
        from roost.client.drivers import AsyncDrive

        drive = AsyncDrive(flow, self._connections(), self._pause)
        try:
            while isinstance(step := await drive.next(), Emit):
                if tell is not None:
                    await tell(step.value)
            return step.value
        finally:
            await drive.close()

    async def values(self, flow: Flow[Any]) -> AsyncIterator[Any]:
        from roost.client.drivers import AsyncDrive

        drive = AsyncDrive(flow, self._connections(), self._pause)
        try:
            while isinstance(step := await drive.next(), Emit):
                yield step.value
        finally:
            await drive.close()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def _connections(self) -> httpx.AsyncClient:
        import asyncio

        from roost.client.drivers import LIMITS
        from roost.client.lighthttp import httpx
        from roost.client.trust import trust

        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            # Connections belong to a loop; a program may have several, as with one `asyncio.run` after another.
            self._loop = loop
            self._http = httpx.AsyncClient(**trust(self.said.target), limits=LIMITS, transport=self._transport)
        return self._http
