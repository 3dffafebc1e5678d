"""The addresses that queue answers carry: they begin with what the caller dialled, so that they lead it back the way it came."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from roost.web.headers import find
from roost.wire.frames import Headers

_HOST: Final = re.compile(r"[A-Za-z0-9.\-_:\[\]%]{1,255}")


def request_url(base_url: str, owner: str, name: str, request_id: str) -> str:
    return f"{base_url}/{quote(owner)}/{quote(name)}/requests/{request_id}"


def base_url(scheme: str, headers: Headers, root_path: str, prefix: str, public_url: str) -> str:
    """The address that the caller dialled, up to and with the prefix that made this a request for the queue ("" when the host's name did).

    Scheme and Host field are what was dialled, also behind a proxy that says it (`web.forwarded`), and `root_path` what the proxy cut off.
    `public_url`, where it names the same host, knows better by which scheme and below which path.
    """
    return _base_url(scheme, find(headers, b"host") or b"", root_path, prefix, public_url)


@lru_cache(1024)
def _base_url(scheme: str, host: bytes, root_path: str, prefix: str, public_url: str) -> str:
    dialled = host.decode("latin-1")
    if not _HOST.fullmatch(dialled):
        # A field that is no name of a host would be a way to write whatever one likes into our JSON.
        return public_url.rstrip("/") + prefix
    public_scheme, _, public = public_url.rstrip("/").partition("://")
    public_host, slash, below = public.partition("/")
    if dialled in (public_host, f"queue.{public_host}") and scheme != "https":
        # A proxy that says nothing has ended TLS; who came by https dialled that, whatever else the server is called.
        scheme = public_scheme
    if dialled == public_host and slash:
        root_path = f"/{below}"
    return f"{scheme}://{dialled}{root_path}{prefix}"
