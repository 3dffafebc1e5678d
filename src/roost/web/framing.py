"""What the HTTP parser takes and we do not: requests that two programs could read as different ones (faults.md S-23).

A proxy before us and we must agree on where a request ends and whom it is for. Whatever leaves that open is answered 400 and ends the
connection, before anybody is given the request. What the parser refuses itself (both lengths, line folding, bare CR or LF, ...) is in
tests/unit/web/test_smuggling.py with the rest.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from roost.wire.frames import Headers

_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._\-]*|\[[0-9A-Fa-f:.%A-Za-z]+\])(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#@]+)/[^#]*")
_VERSIONS: Final = ("1.1", "1.0")
_OF_OTHERS: Final = frozenset(
    "ANNOUNCE DESCRIBE FLUSH GET_PARAMETER PAUSE PLAY RECORD REDIRECT SET_PARAMETER SETUP SOURCE TEARDOWN".split()  # noqa: SIM905
)
"""Methods of RTSP and Icecast, which the parser speaks as well and calls HTTP/1.0."""


TELLING: Final = frozenset((b"host", b"transfer-encoding", b"content-length"))
"""Fields that say where a request leads and where it ends."""


def fault(method: str, version: str, target: bytes, telling: Headers) -> str | None:
    """Why this head could be read in two ways, for its sender; None: it cannot. `telling` are its fields of TELLING."""
    if version not in _VERSIONS or method in _OF_OTHERS:
        return "only HTTP/1.1 and HTTP/1.0 are spoken here"
    host: bytes | None = None
    coded = sized = False
    for name, value in telling:
        if name == b"host":
            if host is not None:
                return "it has more than one Host"
            host = value
        elif name == b"transfer-encoding":
            # Also "gzip, chunked": nobody after us would undo the first.
            if coded or value.lower() != b"chunked":
                return "its Transfer-Encoding is not just `chunked`"
            coded = True
        else:
            if sized or not value.isdigit() or len(value) > 18:
                return "its Content-Length is not one number"
            sized = True
    if coded and (sized or version == "1.0"):
        return "its length is told in two ways, or in one that its version of HTTP does not have"
    if host is None:
        if version != "1.0":
            return "it has no Host"
    elif not _is_host(host):
        return "its Host is no name or address"
    if target.startswith(b"/"):
        return "its address has a fragment (#)" if b"#" in target else None
    return _other_form(method, target, host)


def lines(telling: Headers) -> bytes:
    """What a parser must be told to find the end of a body."""
    return b"".join(b"%b: %b\r\n" % field for field in telling)


@lru_cache(1024)  # callers mostly dial one
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _other_form(method: str, target: bytes, host: bytes | None) -> str | None:
    if target == b"*":
        return None if method == "OPTIONS" else "`*` is an address for OPTIONS only"
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return "its address is neither a path nor a URL with one"
    if host is None or absolute[1].lower() != host.lower():
        # Which of the two decides differs from program to program.
        return "its address names another host than its Host field"
    return None
