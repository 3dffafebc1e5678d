"""The bytes of the link: frames, and the heads of requests and responses inside them. Sans-IO, standard library only.

A frame is a nine-byte header (payload length, kind, stream) and its payload. Heads are fields joined by line feeds, which HTTP
forbids inside every field, so that encoding and decoding each cost one call in C.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any

Headers = list[tuple[bytes, bytes]]
"""Header fields in order, names in lower case."""

_HEADER = struct.Struct(">IBI")
HEADER_SIZE = _HEADER.size
MAX_PAYLOAD = 1 << 20
CHUNK = 64 * 1024
"""Largest body payload that this code sends in one frame: one call's chunk must not hold up another's for long."""

# connection
HELLO, WELCOME, REFUSED, CONTROL, PING, PONG, GOAWAY, GOAWAY_OK = 1, 2, 3, 4, 5, 6, 7, 8
# a stream, gateway -> runner
RESERVE, HEAD, CANCEL, RELEASE, KEEP, RESUME = 16, 17, 18, 19, 20, 21
# a stream, runner -> gateway
ACCEPT, BUSY, RESPONSE, RESET, DONE = 32, 33, 34, 35, 36
# a stream, both ways
BODY, BODY_END, CREDIT = 48, 49, 50

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
"""Of a header field, in lower case: what is left out of an answer is found by its name."""
_ID = re.compile(r"[0-9A-Za-z-]+")
# Besides the line feed, which joins the fields.
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")

NAMES = {
    value: name
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, int) and name not in ("MAX_PAYLOAD", "CHUNK", "HEADER_SIZE")
}

BYPASS = b"\x01"
"""RESERVE payload: this call takes no slot (cancel calls, health checks). ACCEPT payload, after RESUME: the code has ended, no slot is held."""


class ProtocolError(Exception):
    """The peer broke the link's rules; the connection cannot go on."""


def frame(kind: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame as bytes."""
    return _HEADER.pack(len(payload), kind, stream) + payload


def whole_call(stream: int, reserve: bytes, head: bytes, body: bytes) -> bytes:
    """RESERVE, HEAD and BODY_END of one stream: a call whose body fits into one frame."""
    return b"".join(
        (
            _HEADER.pack(len(reserve), RESERVE, stream),
            reserve,
            _HEADER.pack(len(head), HEAD, stream),
            head,
            _HEADER.pack(len(body), BODY_END, stream),
            body,
        )
    )


class Reader:
    """Cuts a byte stream into frames."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The frames (kind, stream, payload) that `data` completes. Raises ProtocolError on an impossible length."""
        if self._rest:
            data = self._rest + data
        found: list[tuple[int, int, bytes]] = []
        position, size = 0, len(data)
        while size - position >= HEADER_SIZE:
            length, kind, stream = _HEADER.unpack_from(data, position)
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"a frame of {length} bytes is larger than {MAX_PAYLOAD}")
            stop = position + HEADER_SIZE + length
            if stop > size:
                break
            found.append((kind, stream, data[position + HEADER_SIZE : stop]))
            position = stop
        self._rest = data[position:]
        return found


Attempt = tuple[str, int]
"""An attempt of a queued request: request id and number."""


def encode_attempt(attempt: Attempt) -> bytes:
    """Payload of KEEP and RESUME."""
    request_id, number = attempt
    if not _ID.fullmatch(request_id):
        return json.dumps({"request_id": request_id, "attempt": number}).encode()
    # The same by hand, for what needs no escapes: each queued call has one.
    return f'{{"request_id": "{request_id}", "attempt": {number}}}'.encode()


def decode_attempt(payload: bytes) -> Attempt:
    """Raises ProtocolError when there is no sense in it."""
    try:
        value: Any = json.loads(payload)
        return str(value["request_id"]), int(value["attempt"])
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError("a payload that names no attempt") from error


def attempts_of(body: dict[str, Any]) -> list[Attempt]:
    """Those that an order or a report names. Raises ProtocolError."""
    try:
        return [(str(request_id), int(number)) for request_id, number in body.get("attempts", ())]
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"attempts that are none: {error}") from None


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body. `path` is as the caller sent it (percent-encoded), below the app."""

    method: str
    path: bytes
    query: bytes
    headers: Headers

    def encode(self) -> bytes:
        parts = [self.method.encode("ascii"), self.path, self.query]
        for name, value in self.headers:
            parts.append(name)
            parts.append(value)
        return _join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> RequestHead:
        parts = payload.split(b"\n")
        if len(parts) < 3 or not len(parts) & 1:
            raise ProtocolError("a request head with an impossible number of fields")
        return cls(parts[0].decode("ascii"), parts[1], parts[2], list(zip(parts[3::2], parts[4::2], strict=True)))


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response without its body."""

    status: int
    headers: Headers

    def encode(self) -> bytes:
        """Raises ValueError for what HTTP cannot carry: fields come from an app, which may have them from its caller."""
        parts = [b"%d" % self.status]
        for name, value in self.headers:
            parts.append(name)
            parts.append(value)
        payload = _join(parts)
        fault = _fault(self.status, self.headers, payload)
        if fault:
            raise ValueError(fault)
        return payload

    @classmethod
    def decode(cls, payload: bytes) -> ResponseHead:
        parts = payload.split(b"\n")
        if not len(parts) & 1 or not parts[0].isdigit():
            raise ProtocolError("a response head with an impossible number of fields")
        head = cls(int(parts[0][:4]), list(zip(parts[1::2], parts[2::2], strict=True)))
        # Judged again: what is on the other end has an app in its process, and its answers leave on connections that others share.
        fault = _fault(head.status, head.headers, payload)
        if fault:
            raise ProtocolError(fault)
        return head


def _fault(status: int, headers: Headers, payload: bytes) -> str:
    """What makes this no single answer to one who reads it (faults.md S-28); "" if nothing does."""
    if not 200 <= status <= 599:
        # One below 200 announces another answer: whoever reads it would take the next one on the connection for that.
        return f"{status} is no status that an answer may have"
    if _CONTROL.search(payload):
        return "a header field contains a control character"
    sized = False
    for name, value in headers:
        if not _NAME.fullmatch(name):
            return f"{name!r} is no name of a header field"
        if name == b"content-length":
            if sized or not value.isdigit() or len(value) > 18:
                return "content-length is not one number"
            sized = True
    return ""


def _join(parts: list[bytes]) -> bytes:
    payload = b"\n".join(parts)
    # A line feed inside a field would move every later field by one: response splitting (faults.md S-28).
    if payload.count(b"\n") != len(parts) - 1:
        raise ValueError("a header field contains a line feed")
    if len(payload) > MAX_PAYLOAD:
        raise ValueError("the head is larger than a frame may be")
    return payload
