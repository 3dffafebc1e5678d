"""One port, several roles: which part of Roost a request is for (ARCHITECTURE §4).

A role is told by a path prefix, by the Host (a name that clients have built in, or its first label), or by a reserved first segment;
everything else is the path of a call, `/{owner}/{app}...`. No owner may have a reserved name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from roost.core.requests import ANONYMOUS
from roost.wire.hosts import Role, public_role

HOST_LABELS: Final[dict[str, Role]] = {"queue": "queue", "ws": "ws", "rest": "rest", "api": "api"}
PREFIXES: Final[dict[str, Role]] = {"_run": "run", "_queue": "queue", "_ws": "ws", "_rest": "rest"}
RESERVED: Final[dict[str, Role]] = {
    "v1": "api",
    "health": "api",
    "dashboard": "api",
    "playground": "api",
    "api": "api",
    "docs": "api",
    "metrics": "api",
    ".well-known": "rest",
    "tokens": "rest",
    "storage": "rest",
    "files": "rest",
    "users": "rest",
    "applications": "rest",
    "runners": "rest",
    "logs": "rest",
    "billing": "rest",
    "static": "api",
    "favicon.ico": "api",
    "robots.txt": "api",
}
NAMESPACES: Final = ("workflows", "comfy")
"""First segments that stand before an owner (spec: gateway-http.md §2), so they are no owners."""
_AROUND_CALLS: Final = (b"tokens", b"storage")
"""First segments of the role "rest" that callers' clients use, and not people who look after a server."""


@dataclass(frozen=True, slots=True)
class Addressed:
    """Which role a request is for, and the path that this role sees."""

    role: Role
    path: bytes


@lru_cache(1024)  # a caller's next call is mostly for the same app
def address(host: bytes, raw_path: bytes) -> Addressed:
    """The role of a request. `host` is the Host header (may be empty), `raw_path` the percent-encoded path."""
    first, _, rest = raw_path[1:].partition(b"/")
    segment = first.decode("latin-1")
    by_prefix = PREFIXES.get(segment)
    if by_prefix is not None:
        return Addressed(by_prefix, b"/" + rest)
    name = host.decode("latin-1").lower()
    label, dot, _ = name.partition(".")
    by_host = (public_role(name.partition(":")[0]) or HOST_LABELS.get(label)) if dot else None
    if by_host is not None:
        return Addressed(by_host, raw_path)
    if segment == "" or segment in RESERVED:
        return Addressed(RESERVED.get(segment, "api"), raw_path)
    return Addressed("run", raw_path)


def for_pages(addressed: Addressed) -> bool:
    """Whether the scripts of any page may ask there. The control plane answers to names of "rest" too, and is not for them (faults.md S-27)."""
    if addressed.role == "rest":
        return addressed.path[1:].partition(b"/")[0] in _AROUND_CALLS
    return addressed.role in ("run", "queue")


def reserved_owner(name: str) -> bool:
    """Whether an owner of this name would be out of reach, or taken for everybody."""
    return name in RESERVED or name in PREFIXES or name in HOST_LABELS or name in NAMESPACES or name == ANONYMOUS
