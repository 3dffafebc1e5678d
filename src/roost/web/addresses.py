"""The addresses that queue answers carry: they begin with what the caller dialled, so that they lead it back the way it came."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from roost.web.headers import find
from roost.wire.frames import Headers

_LOCAL: Final = frozenset(("127.0.0.1", "::1", ""))
_HOST: Final = re.compile(r"[A-Za-z0-9.\-_:\[\]%]{1,255}")


def request_url(base_url: str, owner: str, name: str, request_id: str) -> str:
    return f"{base_url}/{quote(owner)}/{quote(name)}/requests/{request_id}"


def base_url(scheme: str, headers: Headers, client: str, prefix: str, public_url: str) -> str:
    """The address that the caller dialled, up to and with the prefix that made this a request for the queue ("" when the host's name did).

    A proxy on this machine says what its caller dialled (`X-Forwarded-Proto`, `-Host`). Else it is the Host field; and `public_url`, where
    that names the same host, says with which scheme and below which path.
    """
    host = find(headers, b"host") or b""
    proto = forwarded_host = None
    if client in _LOCAL:
        proto, forwarded_host = find(headers, b"x-forwarded-proto"), find(headers, b"x-forwarded-host")
    return _base_url(scheme, host, proto, forwarded_host, prefix, public_url)


@lru_cache(1024)
def _base_url(scheme: str, host: bytes, proto: bytes | None, forwarded_host: bytes | None, prefix: str, public_url: str) -> str:
    dialled = (forwarded_host or host).decode("latin-1").split(",")[0].strip()
    if not _HOST.fullmatch(dialled):
        # A field that is no name of a host would be a way to write whatever one likes into our JSON.
        return public_url.rstrip("/") + prefix
    public_scheme, _, public = public_url.rstrip("/").partition("://")
    public_host, slash, below = public.partition("/")
    if dialled == public_host:
        return f"{public_scheme}://{dialled}{slash}{below}{prefix}"
    if proto in (b"http", b"https"):
        scheme = proto.decode()
    elif dialled == f"queue.{public_host}":
        scheme = public_scheme
    return f"{scheme}://{dialled}{prefix}"
