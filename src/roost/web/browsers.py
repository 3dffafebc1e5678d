"""What a browser may ask of the control plane: what pages of this server ask, under a name of this server (faults.md S-07, S-27).

A page can make its reader's browser send requests to whatever that can reach, a server on its own machine too. By itself such a request has no
key and can do nothing; this is the second wall, for whatever a browser may one day send by itself. Two things say what a page is, and no script
can write them: `Origin`, and `Sec-Fetch-Site`. A page whose name was bound anew to this machine's address (DNS rebinding) is of the same origin
as this server in the browser's eyes, so the name itself must be one of ours. Requests that are not from browsers have neither field.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from roost.web.headers import find
from roost.web.roles import HOST_LABELS
from roost.wire.frames import Headers
from roost.wire.hosts import public_role

_SAFE: Final = ("GET", "HEAD", "OPTIONS")


class Own:
    """Names by which this server is dialled.

    `strict`: it listens on this machine only, so nobody has reason to dial it by a name that is not here. Else anybody may have given it one.
    """

    def __init__(self, names: Iterable[str] = (), public_url: str = "", *, strict: bool = False) -> None:
        self._names = frozenset(_name(name.encode("latin-1", "replace")) for name in (*names, _authority(public_url)) if name)
        self._public = _authority(public_url).lower()
        self._strict = strict

    def knows(self, host: bytes) -> bool:
        """Whether a Host field is one that people who mean this server send."""
        if not self._strict:
            return True
        name = _name(host)
        label, dot, below = name.partition(".")
        return (
            name in self._names
            or (dot != "" and label in HOST_LABELS and below in self._names)
            or name == "localhost"
            or name.endswith(".localhost")
            or public_role(name) is not None
            or _is_address(name)
        )

    def made(self, origin: bytes, host: bytes) -> bool:
        """Whether a page of this origin is ours, who were dialled as `host`."""
        authority = _authority(origin.decode("latin-1")).lower()
        return authority != "" and authority in (host.decode("latin-1").lower(), self._public)


def foreign(method: str, headers: Headers, own: Own) -> str | None:
    """Why this comes from a page of somebody else; None: it does not, or from no browser."""
    origin, site = find(headers, b"origin"), find(headers, b"sec-fetch-site")
    if origin is None and site is None:
        return None
    host = find(headers, b"host") or b""
    if not own.knows(host):
        return f"{host.decode('latin-1')[:100]} is no name of this server"
    if method in _SAFE:
        return None
    if origin is not None:
        return None if own.made(origin, host) else f"the page is of another origin, {origin.decode('latin-1')[:100]}"
    return None if site in (b"same-origin", b"none") else "the page is of another site"


def _authority(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


@lru_cache(1024)
def _name(host: bytes) -> str:
    """A Host field without its port, in lower case."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")


@lru_cache(1024)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
