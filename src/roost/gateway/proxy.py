"""`/api/fal/proxy`: the address for clients that have all others built in (spec: gateway-http.md §10, clients.md §1.2).

JavaScript clients send their requests there and name in `x-fal-target-url` what they would have dialled. Such a request is served by this very
gateway, as if it had been dialled there. There is no second hop, so nothing is within reach that was not before; and the key that counts is the
caller's own, since nothing of this server is added to it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from roost.web import roles
from roost.web.answers import Scope
from roost.web.headers import find
from roost.wire.errors import RoostError
from roost.wire.hosts import public_role

TARGET: Final = b"x-fal-target-url"
_PATHS: Final = (b"/api/fal/proxy", b"/api/fal/proxy/")
_LONGEST: Final = 8 * 1024
_IN_URLS: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x5C)
_URL: Final = re.compile(rb"(?i:(https?)://)([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?")
_AUTHORITY: Final = re.compile(rb"([A-Za-z0-9.\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_TAKEN: Final = frozenset(
    (
        b"accept",
        b"authorization",
        b"content-encoding",  # with content-length and transfer-encoding: else nobody could read the body
        b"content-length",
        b"content-type",
        b"idempotency-key",
        b"transfer-encoding",
        b"user-agent",
    )
)
_TAKEN_PREFIXES: Final = (b"x-fal-", b"x-app-")


def is_door(raw_path: bytes) -> bool:
    """Whether a request comes through this door."""
    return raw_path in _PATHS


def aimed(scope: Scope, public_url: str) -> Scope:
    """The request as it would be if it had been dialled at its target. Raises `bad_request` without a target, `bad_target` for one that is not here."""
    named = [value for name, value in scope["headers"] if name == TARGET]
    if not named:
        raise RoostError(
            "bad_request",
            "x-fal-target-url is missing: it names the address that a request to this door is for",
            hint="Clients add it when this is their `proxyUrl`. Without such a client, call the app's own address.",
        )
    if len(named) > 1:
        raise _bad("it is there more than once")
    own = _hosts(find(scope["headers"], b"host") or b"", public_url)
    scheme, host, path, query = _read(named[0], own)
    kept = [(name, value) for name, value in scope["headers"] if name != TARGET and (name in _TAKEN or name.startswith(_TAKEN_PREFIXES))]
    caller = scope.get("roost.caller")
    if caller is not None:
        # So that `cors.opening` sees every answer.
        caller.through_asgi = True
    return {
        **scope,
        "scheme": scheme,
        "root_path": "",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "roost.original_path": path,
        "query_string": query,
        "headers": [(b"host", host), *kept],
    }


@lru_cache(1024)  # who polls names the same target again and again
def _read(url: bytes, own: frozenset[str]) -> tuple[str, bytes, bytes, bytes]:
    """(scheme, host with port, path, query) of a target."""
    if len(url) > _LONGEST:
        raise _bad("it is longer than 8 KB")
    if url.translate(None, _IN_URLS):
        raise _bad("it has characters that no address has; they must be percent-encoded")
    found = _URL.fullmatch(url)
    if found is None:
        raise _bad("it is no address that begins with https:// or http://")
    scheme, authority, path, query, fragment = found.groups()
    if b"@" in authority:
        raise _bad("it has a name or password before the host", "Send the key as `Authorization: Key <id>:<secret>`.")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or int(parts[2] or b"1") not in range(1, 65536):
        raise _bad("its host is not a name or an address, with or without a port")
    if fragment is not None:
        raise _bad("it has a fragment (#), which is nothing for a server")
    host = parts[1].decode().lower()
    if public_role(host) is None and host not in own:
        raise _bad(
            f"{host[:80]} is none of the hosts that this server answers for", "It answers for fal.run, queue.fal.run and rest.fal.ai."
        )
    path = path or b"/"
    # Pages of any origin come through this door, so the control plane must not lie behind it (faults.md S-27).
    if not roles.for_pages(roles.address(authority, path)):
        raise _bad(
            "this door leads to apps, their queue and what clients need around them, and to nothing else of this server",
            "Call the control plane at its own address.",
        )
    return scheme.decode().lower(), authority, path, query or b""


@lru_cache(64)
def _hosts(dialled: bytes, public_url: str) -> frozenset[str]:
    """The names that are ours: the one that this caller dialled and the public one, and those that tell roles below them."""
    hosts: set[str] = set()
    for authority in (dialled, public_url.partition("://")[2].partition("/")[0].encode("ascii", "ignore")):
        parts = _AUTHORITY.fullmatch(authority)
        if parts is not None:
            name = parts[1].decode().lower()
            hosts |= {name, *(f"{label}.{name}" for label in roles.HOST_LABELS)}
    return frozenset(hosts)


def _bad(why: str, hint: str = "") -> RoostError:
    return RoostError("bad_target", f"x-fal-target-url cannot be used: {why}", hint=hint)
