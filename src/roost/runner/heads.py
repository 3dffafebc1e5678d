"""Heads of requests and answers between the link and ASGI. Callers repeat themselves, and so do apps: what was read or written before is
looked up instead, since that is a tenth of the work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from roost.wire.frames import RequestHead, ResponseHead

_ID_FIELD: Final = b"x-fal-request-id"
_ID_MARK: Final = b"\n" + _ID_FIELD + b"\n"
_ID_SIZE: Final = 36
_REMEMBERED: Final = 256
_LARGEST: Final = 4096
"""Requests that are remembered at a time, and the largest head among them: 1 MB, with what is kept beside them twice that."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call's ASGI scope, and its id ("" if nobody gave it one)."""

    id: str
    scope: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A head without its request id."""

    scope: dict[str, Any]
    headers: tuple[tuple[bytes, bytes], ...]
    at: int
    """Where among the headers the request id is."""


class Requests:
    """Makes a request of each head that arrives."""

    def __init__(self) -> None:
        self._seen: dict[bytes, _Seen] = {}

    def read(self, payload: bytes) -> Request:
        """Raises ProtocolError when it is no head."""
        mark = payload.find(_ID_MARK)
        if mark < 0:
            return request_of(RequestHead.decode(payload))
        at = mark + len(_ID_MARK)
        after = at + _ID_SIZE
        # Two requests differ in their ids, and mostly in nothing else.
        key = payload[:at] + payload[after:]
        seen = self._seen.get(key)
        if seen is None:
            return self._first(payload, at, key)
        value = payload[at:after]
        headers = list(seen.headers)
        headers[seen.at] = (_ID_FIELD, value)
        scope = seen.scope.copy()
        scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
        scope["headers"] = headers
        scope["state"] = {}
        return Request(value.decode("latin-1"), scope)

    def _first(self, payload: bytes, at: int, key: bytes) -> Request:
        head = RequestHead.decode(payload)
        request = request_of(head)
        index = next((index for index, (name, _) in enumerate(head.headers) if name == _ID_FIELD), -1)
        before = [head.method.encode(), head.path, head.query, *[part for field in head.headers[:index] for part in field], _ID_FIELD]
        # A caller's field may have that name for a value: only the field itself counts, and only the one, with an id of the usual length.
        usual = sum(map(len, before)) + len(before) == at and request.id.encode() == head.headers[index][1]
        if usual and len(request.id) == _ID_SIZE and len(payload) <= _LARGEST:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[key] = _Seen(request.scope.copy(), tuple(head.headers), index)
        return request


def request_of(head: RequestHead) -> Request:
    """The request as an ASGI server shows it."""
    request_id = ""
    client: tuple[str, int] | None = None
    for name, value in head.headers:
        if name == _ID_FIELD:
            request_id = value.decode("latin-1")
        elif name == b"x-forwarded-for":
            client = (value.decode("latin-1"), 0)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": head.method,
        "scheme": "http",
        "path": (unquote_to_bytes(head.path) if b"%" in head.path else head.path).decode("utf-8", "replace"),
        "raw_path": head.path,
        "query_string": head.query,
        "root_path": "",
        "headers": head.headers,
        "client": client,
        "server": None,
        "state": {},
    }
    return Request(request_id, scope)


def answer(status: int, headers: Iterable[Iterable[bytes]]) -> bytes:
    """The payload of an answer's head. Raises ValueError for fields that HTTP cannot carry."""
    return _answer(status, tuple([(bytes(name), bytes(value)) for name, value in headers]))


@lru_cache(_REMEMBERED)
def _answer(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return ResponseHead(status, [(name.lower(), value) for name, value in headers]).encode()
