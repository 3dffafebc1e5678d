"""Where a CONNECT goes: to our own server, elsewhere, or nowhere. Decided from the bytes of the request's head, without IO.

decide(b"CONNECT queue.fal.run:443 HTTP/1.1\\r\\n...\\r\\n\\r\\n")  -> Splice()
decide(b"CONNECT pypi.org:443 HTTP/1.1\\r\\n...\\r\\n\\r\\n")       -> Tunnel(Address("pypi.org", 443))
decide(b"GET http://example.com/ HTTP/1.1\\r\\n...\\r\\n\\r\\n")    -> Refuse(405, "...")
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from roost.wire.hosts import public_role

MAX_HEAD: Final = 8 * 1024
HEAD_END: Final = b"\r\n\r\n"
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/1\.[01]")
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# No wider than what Python's resolver takes: it fails on empty and long labels in a way of its own.
_NAME: Final = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(?:\.{_LABEL})*\.?")


@dataclass(frozen=True, slots=True)
class Address:
    """What can be dialled: a name or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Splice:
    """To our own server: the caller asked for a name that clients of the public protocol have built in."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """To where it asked."""

    to: Address


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nowhere; `detail` says why, to the person whose program asked."""

    status: int
    detail: str


Destination: TypeAlias = "Splice | Tunnel | Refuse"


def decide(head: bytes) -> Destination:
    """`head` is all of a request up to and with its blank line."""
    line, *fields = head.removesuffix(HEAD_END).split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if request is None or not all(map(_FIELD.fullmatch, fields)):
        return Refuse(400, "this is no HTTP request; the door takes CONNECT, as programs send it that have https_proxy set")
    if request[1] != b"CONNECT":
        return Refuse(
            405, "this door makes tunnels (CONNECT) only: set https_proxy to it, not http_proxy, and dial http addresses directly"
        )
    to = _authority(request[2].decode("ascii"))
    if to is None:
        return Refuse(400, "CONNECT takes HOST:PORT, such as example.com:443 or [::1]:443")
    # A name may end with a dot, which says that it is complete.
    return Tunnel(to) if public_role(to.host.removesuffix(".")) is None else Splice()


def dialled(listened: str) -> Address:
    """Where to dial a server that listens on this "host:port". Raises ValueError for anything else."""
    address = _authority(listened)
    if address is None:
        raise ValueError(f"{listened!r} is no host:port")
    # Everywhere is a place to listen on, not one to dial; our sockets of IPv6 take no IPv4.
    return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port)


def _authority(text: str) -> Address | None:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        return None
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            return None
    return Address(host, int(port)) if _NAME.fullmatch(host) else None
