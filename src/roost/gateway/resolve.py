"""From a URL to an app: the gateway's view of all aliases, kept in memory and read again when they change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from roost.core.model import Alias
from roost.web.roles import NAMESPACES
from roost.wire.errors import RoostError


@dataclass(frozen=True, slots=True)
class Route:
    """One app as the data plane needs it."""

    owner: str
    name: str
    application: str
    revision_id: str
    auth: str
    request_timeout_ms: int
    request_start_timeout_ms: int | None
    environment: str = "main"


@dataclass(frozen=True, slots=True)
class Target:
    """A resolved call: the app and the path below it, percent-encoded and with a leading slash."""

    route: Route
    path: bytes


def route_of(alias: Alias) -> Route | None:
    """The route of an alias; None while it points to no revision."""
    if alias.revision_id is None:
        return None
    return Route(
        alias.owner,
        alias.name,
        alias.application,
        alias.revision_id,
        alias.auth,
        alias.scale.request_timeout_ms,
        alias.scale.request_start_timeout_ms,
        alias.environment,
    )


class Routes:
    """All routes. `load` reads the aliases (with their revisions) from the store."""

    def __init__(self, load: Callable[[], Awaitable[list[Alias]]]) -> None:
        self._load = load
        self._routes: dict[tuple[str, str], Route] = {}
        self._by_application: dict[str, Route] = {}
        self._by_revision: dict[str, Route] = {}
        self.edition = 0
        """Another number with each reading: what was concluded from routes of an earlier one holds no longer."""
        self.on_switch: Callable[[Route], None] = lambda route: None
        """An app points to another revision now; callers that wait may be served by it."""

    async def refresh(self) -> None:
        before = self._by_application
        routes = [route for alias in await self._load() if (route := route_of(alias)) is not None]
        self._routes = {(route.owner, route.name): route for route in routes}
        self._by_application = {route.application: route for route in routes}
        self._by_revision = {route.revision_id: route for route in routes}
        self.edition += 1
        for route in routes:
            old = before.get(route.application)
            if old is None or old.revision_id != route.revision_id:
                self.on_switch(route)

    def of_application(self, application: str) -> Route | None:
        return self._by_application.get(application)

    def of_revision(self, revision_id: str) -> Route | None:
        """The app that currently points to this revision."""
        return self._by_revision.get(revision_id)

    def known(self, raw_path: bytes) -> Target | None:
        """The target of a call's path, of the apps that are known here."""
        owner, name, path = split(raw_path)
        route = self._routes.get((owner, name))
        return Target(route, path) if route is not None else None

    async def resolve(self, raw_path: bytes) -> Target:
        """The target of a call's path, `/{owner}/{app}[/path]`. Raises RoostError `not_found`.

        A name that is not known may be new: the store is asked once before it is refused.
        """
        owner, name, path = split(raw_path)
        route = self._routes.get((owner, name))
        if route is None and owner and name:
            await self.refresh()
            route = self._routes.get((owner, name))
        if route is None:
            shown = f"{owner}/{name}" if name else owner
            raise RoostError("not_found", f'Application "{shown}" not found', hint="`roost apps list` shows what is deployed here.")
        return Target(route, path)


@lru_cache(1024)  # a caller's next call is mostly for the same app
def split(raw_path: bytes) -> tuple[str, str, bytes]:
    """(owner, app, path below it) of a call's path (spec: gateway-http.md §2). The rest keeps its encoding and doubled slashes."""
    parts = raw_path[1:].split(b"/", 2)
    owner = unquote(parts[0].decode("latin-1"))
    if owner in NAMESPACES and len(parts) > 2:
        second = parts[2].split(b"/", 1)
        parts = [parts[1], *second]
        owner = f"{owner}/{unquote(parts[0].decode('latin-1'))}"
    name = unquote(parts[1].decode("latin-1")) if len(parts) > 1 else ""
    if not name and (old := legacy(owner)) is not None:
        owner, name = old
    return owner, name, b"/" + parts[2] if len(parts) > 2 else b"/"


def legacy(segment: str) -> tuple[str, str] | None:
    """`NUMBER-rest` was once an app's whole id."""
    number, dash, rest = segment.partition("-")
    return (number, rest) if dash and number.isdigit() and rest else None
