"""Addresses: which handler a method and a path belong to, and who may use it."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from roost.api.answer import Answer
from roost.api.request import Request
from roost.wire.errors import RoostError

Handler = Callable[[Request], Awaitable[Answer]]


class May(Enum):
    """The least that a caller must be."""

    ANYBODY = "anybody"
    READ = "read"
    """Keys that people hold: ADMIN and API."""
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the API. `{name}` in the pattern stands for one segment."""

    method: str
    pattern: str
    handler: Handler
    may: May = May.ADMIN


@dataclass(frozen=True, slots=True)
class Found:
    route: Route
    params: dict[str, str]


class Table:
    """All calls of the API."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(tuple(route.pattern.strip("/").split("/")), route) for route in routes]

    def find(self, method: str, raw_path: bytes) -> Found:
        """The call at this address. Raises `not_found`, `method_not_allowed`."""
        path = raw_path.partition(b"?")[0].decode("latin-1")
        # Split before decoding: a %2F is part of a name.
        segments = [unquote(segment) for segment in path.strip("/").split("/")]
        methods: list[str] = []
        for pattern, route in self._routes:
            params = _match(pattern, segments)
            if params is None:
                continue
            if route.method == method:
                return Found(route, params)
            methods.append(route.method)
        if methods:
            raise _not_allowed(method, path, methods)
        close = difflib.get_close_matches(path, sorted({route.pattern for _, route in self._routes}), n=1)
        raise RoostError("not_found", f"there is nothing at {path[:200]}", hint=f"Did you mean {close[0]}?" if close else "")


def _match(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    params: dict[str, str] = {}
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            params[expected[1:-1]] = segment
        elif expected != segment:
            return None
    return params


def _not_allowed(method: str, path: str, methods: list[str]) -> RoostError:
    allowed = ", ".join(sorted(methods))
    error = RoostError("method_not_allowed", f"{path[:200]} does not take {method}", hint=f"It takes {allowed}.")
    error.headers = ((b"allow", allowed.encode()),)
    return error
