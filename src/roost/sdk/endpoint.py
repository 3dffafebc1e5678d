"""Routes: the `endpoint` decorator and the routes of a class (spec: app-class.md §1.7)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from roost.sdk.health import HealthCheck

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__roost_route__"


@dataclass(frozen=True)
class Route:
    """What the author declared about one method."""

    path: str
    is_websocket: bool = False
    health_check: HealthCheck | None = None


def endpoint(path: str, *, is_websocket: bool = False, health_check: HealthCheck | None = None) -> Callable[[F], F]:
    """Serve a method of an App at `POST path`, or as a websocket.

    The method's first parameter is a pydantic model (the JSON body), or without annotation any JSON; FastAPI's other parameters
    (Request, Response, Header, File, Depends, ...) work too. It may be `def` (runs in a thread) or `async def` (runs on the loop).
    The decorated method stays callable as it is.
    """
    _check_path(path)
    if health_check is not None and is_websocket:
        raise ValueError(f"endpoint({path!r}): a websocket cannot be a health check. Put health_check on an endpoint of its own")
    route = Route(path, is_websocket, health_check)

    def mark(method: F) -> F:
        if not inspect.isfunction(cast("object", method)):
            raise TypeError(f"endpoint({path!r}) decorates a method written with def or async def, not {method!r}")
        earlier = getattr(method, _MARK, None)
        if earlier is not None:
            raise ValueError(f"{method.__name__}() has two routes, {earlier.path!r} and {path!r}. Write a second method that calls it")
        setattr(method, _MARK, route)
        return method

    return mark


def collect(cls: type) -> dict[str, Route]:
    """The routes of a class by method name, inherited ones first, in the order in which they are written.

    Raises ValueError if two methods claim one path, or two are health checks.
    """
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        names.update(dict.fromkeys(vars(base)))
    routes: dict[str, Route] = {}
    for name in names:
        route = getattr(inspect.getattr_static(cls, name, None), _MARK, None)
        if isinstance(route, Route):
            routes[name] = route
    _refuse_doubles(cls, routes)
    return routes


def _refuse_doubles(cls: type, routes: dict[str, Route]) -> None:
    owners: dict[str, str] = {}
    for name, route in routes.items():
        other = owners.setdefault(route.path, name)
        if other != name:
            raise ValueError(f"{cls.__name__}: {other}() and {name}() are both at {route.path!r}. Give one of them another path")
    checks = [name for name, route in routes.items() if route.health_check is not None]
    if len(checks) > 1:
        raise ValueError(f"{cls.__name__}: {' and '.join(f'{name}()' for name in checks)} are health checks; an app has at most one")


def _check_path(path: object) -> None:
    if not isinstance(path, str):
        raise TypeError(f"endpoint() needs its path first, as in @endpoint('/'), not {path!r}")
    if not path.startswith("/"):
        raise ValueError(f"endpoint({path!r}): a path starts with '/'. Write {'/' + path!r}")
    if any(character in "?#" or character.isspace() or not character.isprintable() for character in path):
        raise ValueError(f"endpoint({path!r}): a path holds no spaces, '?' or '#'")
