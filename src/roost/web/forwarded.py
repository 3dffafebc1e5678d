"""What proxies before us say about a request, and whose word counts.

A reverse proxy is itself the other end of its connections to us. Whom it asks for, and what that one dialled, it says in `X-Forwarded-For`,
`-Proto`, `-Host` and `-Prefix`. Anybody can write such fields, so they count from the addresses in the setting `trusted_proxies` only. They are
read once, as soon as a head is parsed: behind that a request looks as if its caller had come without a proxy, and has no such fields any more.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from roost.wire.frames import Headers

_FIELDS: Final = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix"))
_HOST: Final = re.compile(rb"[A-Za-z0-9.\-_]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_PREFIX: Final = re.compile(r"((?:/[A-Za-z0-9._~!$&'()*+;=:@%-]+){1,16})/?")
_LONGEST_PREFIX: Final = 256
_WITH_PORT: Final = re.compile(r"\[(.*)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+")
_REMEMBERED: Final = 1024


class Trusted:
    """The proxies whose word counts."""

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        """Addresses and networks. Raises ValueError for anything else."""
        self._networks = [_network(proxy) for proxy in proxies]
        # Callers come again, and reading addresses costs more than the rest of a request's head.
        self.has = lru_cache(_REMEMBERED)(self._has)
        """Whether an address is one of them; what is no address is not."""
        self.read = lru_cache(_REMEMBERED)(self._read)
        """What fields of forwarding say: scheme, host, `Dialled.via` and `Dialled.root_path`, each "" if they do not say it."""

    def _has(self, address: str) -> bool:
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def _read(self, said: tuple[tuple[bytes, bytes], ...]) -> tuple[str, bytes, str, str]:
        proto, host = _first(said, b"x-forwarded-proto").lower(), _first(said, b"x-forwarded-host")
        prefix = _PREFIX.fullmatch(_first(said, b"x-forwarded-prefix").decode("latin-1"))
        return (
            proto.decode() if proto in (b"http", b"https") else "",
            host if _HOST.fullmatch(host) else b"",
            self._via(b",".join(value for name, value in said if name == b"x-forwarded-for")),
            prefix[1] if prefix is not None and len(prefix[1]) <= _LONGEST_PREFIX else "",
        )

    def _via(self, callers: bytes) -> str:
        """Each proxy adds at the end whom it was asked by: so the list is believed from there, up to the first that is no proxy of ours."""
        believed: list[str] = []
        for entry in reversed(callers.split(b",")):
            address = _address(entry.decode("latin-1").strip())
            if address is None:
                break
            believed.append(str(address))
            if not self.has(str(address)):
                break
        return ", ".join(reversed(believed))


@dataclass(frozen=True, slots=True)
class Dialled:
    """A request as its caller sent it to the first proxy."""

    scheme: str
    headers: Headers
    """With the host that was dialled, and without what proxies added."""
    via: str = ""
    """The caller's address, and behind it those of the proxies between it and the last one; "" if nobody says."""
    root_path: str = ""
    """The part of the path that a proxy has cut off, such as /roost."""


def dialled(headers: Headers, scheme: str, proxies: Trusted, *, from_proxy: bool) -> Dialled | None:
    """What a request was before its proxies. None: nobody says anything about that. `from_proxy`: its connection is one of `proxies`."""
    for name, _ in headers:
        if name in _FIELDS:
            break
    else:
        return None
    kept = [field for field in headers if field[0] not in _FIELDS]
    if not from_proxy:
        return Dialled(scheme, kept)
    proto, host, via, root_path = proxies.read(tuple(field for field in headers if field[0] in _FIELDS))
    if host:
        kept = [(b"host", host), *(field for field in kept if field[0] != b"host")]
    return Dialled(proto or scheme, kept, via, root_path)


def chain(via: str, peer: str) -> str:
    """What an app reads in `x-forwarded-for`: the caller first, the other end of the connection last."""
    return f"{via}, {peer}" if via else peer


def _first(said: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Several proxies may have added theirs; the first is the caller's."""
    return next((value for key, value in said if key == name), b"").partition(b",")[0].strip()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """With or without a port, as the different proxies write it."""
    with_port = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((with_port[1] or with_port[2]) if with_port else text)
    except ValueError:
        return None
    # A socket that takes both kinds sees IPv4 like that.
    return getattr(address, "ipv4_mapped", None) or address


def _network(proxy: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(proxy, strict=False)
    except ValueError as error:
        raise ValueError(f"{proxy!r} is neither an address nor a network; write such as 10.0.0.7, ::1 or 10.0.0.0/8") from error
