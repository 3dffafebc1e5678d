"""The short way of usual requests, as the HTTP protocol sees it: who serves them, and what all connections of a server share for it.

A request is usual when all that it needs is known at the moment it is here. It then gets no task and no ASGI scope; the answer is written
from the callback that brings it. Whatever else happens to it, the application takes it over (`LimitedProtocol.hand_over_short`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from roost.web.forwarded import chain
from roost.web.headers import find
from roost.web.passed_on import FIELD
from roost.wire.frames import Headers

MAX_BODY: Final = 256 * 1024
"""Larger requests go to the application, which reads them with limits of its own."""
_KNOWN: Final = 1024
_KNOWN_HEAD: Final = 2048
"""Heads that are remembered at a time, and their largest size: 8 MB at most, with what is kept beside them."""


@dataclass(slots=True)
class Request:
    """The head of a request. `path` is percent-encoded, names of fields are in lower case."""

    method: str
    path: bytes
    query: bytes
    headers: Headers
    scheme: str
    http_version: str
    keep_alive: bool
    via: str = ""
    """Whom the proxies before us name as caller, see `forwarded.Dialled`."""
    root_path: str = ""

    def client(self, peer: str) -> str:
        """The caller's address, and those of the proxies before us; `peer` is the other end of the connection."""
        return chain(self.via, peer)

    def declared_size(self) -> int:
        """What Content-Length says; without it more than anybody waits for."""
        size = next((value for name, value in self.headers if name == b"content-length"), b"")
        return int(size) if size.isdigit() and len(size) < 19 else MAX_BODY + 1


class Door(Protocol):
    """The caller's connection, as who serves a request on the short way sees it."""

    client: tuple[str, int] | None

    def answer_short(self, start: bytes, rest: bytes) -> bool: ...
    def hand_over_short(self, begun: object) -> None: ...


class ShortCall(Protocol):
    """One request on the short way."""

    def caller_lost(self) -> None:
        """The caller hung up; nobody waits for an answer."""
        ...

    def hand_over(self) -> None:
        """Call `hand_over_short` of the door now."""
        ...


class Answered:
    """In place of a call: it was answered before `begin` returned."""

    def caller_lost(self) -> None:
        pass

    def hand_over(self) -> None:
        pass


ANSWERED: Final = Answered()


class Shortcut(Protocol):
    """Who serves usual requests."""

    def plan(self, request: Request) -> Any:
        """What is to be done with every request of this head; None if that is no usual one."""
        ...

    def holds(self, plan: Any) -> bool:
        """Whether nothing has changed since this was planned."""
        ...

    def begin(self, plan: Any, door: Door, body: bytes) -> ShortCall | None:
        """Serve a request now. ANSWERED: that is done already. None: not this one, or not now; nothing has happened."""
        ...


class Shortcuts:
    """Several of them, for requests of different kinds."""

    def __init__(self, *shortcuts: Shortcut) -> None:
        self._shortcuts = shortcuts

    def plan(self, request: Request) -> tuple[Shortcut, Any] | None:
        if find(request.headers, FIELD) is not None:
            return None  # whom it is from must be read first
        for shortcut in self._shortcuts:
            plan = shortcut.plan(request)
            if plan is not None:
                return shortcut, plan
        return None

    def holds(self, plan: tuple[Shortcut, Any]) -> bool:
        return plan[0].holds(plan[1])

    def begin(self, plan: tuple[Shortcut, Any], door: Door, body: bytes) -> ShortCall | None:
        return plan[0].begin(plan[1], door, body)


@dataclass(frozen=True, slots=True)
class Known:
    """A head that was parsed before."""

    request: Request
    plan: Any
    size: int
    """Of the body."""


class Shorts:
    """What all connections of a server share."""

    def __init__(self, shortcut: Shortcut) -> None:
        self.shortcut = shortcut
        self.known: dict[bytes, Known] = {}
        """By all bytes up to and with the empty line: clients mostly repeat themselves, and comparing costs a tenth of parsing."""
        self.under_way: set[object] = set()
        """Connections that wait for an answer."""
        self._default: list[tuple[bytes, bytes]] = []
        self._lines = b""
        self._of_proxies: Shorts | None = None

    def of_proxies(self) -> Shorts:
        """The same for connections whose word about a request counts: a head may mean another thing there."""
        if self._of_proxies is None:
            self._of_proxies = Shorts(self.shortcut)
            self._of_proxies.under_way = self.under_way
        return self._of_proxies

    def remember(self, request: Request, plan: Any, data: bytes, body: bytes) -> None:
        """`data` is what the request was read from."""
        start = len(data) - len(body)
        # Only if head and body are all there is, and told apart by the length alone: the next one is not parsed.
        if not data.endswith(b"\r\n\r\n", 0, start) or data.find(b"\r\n\r\n") != start - 4 or data[start:] != body or start > _KNOWN_HEAD:
            return
        lengths = [value for name, value in request.headers if name in (b"content-length", b"transfer-encoding")]
        if lengths != [b"%d" % len(body)] and (lengths or body):
            return
        if len(self.known) >= _KNOWN:
            self.known.clear()
        self.known[data[:start]] = Known(request, plan, len(body))

    def lines(self, default: list[tuple[bytes, bytes]]) -> bytes:
        """The fields of every answer, as lines. The list is a new one when they change."""
        if default is not self._default:
            self._default = default
            self._lines = b"".join(b"%b: %b\r\n" % field for field in default)
        return self._lines
