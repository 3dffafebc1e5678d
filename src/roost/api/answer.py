"""What a handler answers, and how that goes out: a JSON value, a text, nothing, or a stream of JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from roost.kit import log
from roost.kit.clock import Clock
from roost.store import StoreClosed
from roost.web.answers import Receive, Send
from roost.wire.errors import RoostError

QUIET_MS: Final = 1_500
"""A stream says that it is alive when it said nothing else for so long; both ends take 2 s as promised."""


PIECE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Json:
    value: Any
    status: int = 200
    max_age_s: int = 0
    """How long whoever is in between may answer it again; 0: never."""


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Empty:
    """204."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """Lines of JSON that `write` says, for as long as it runs. What can be refused must be refused before this is answered."""

    write: Callable[[Lines], Awaitable[None]]


Answer = Json | Text | Empty | Streamed


class Lines:
    """An open stream of JSON objects, one a line."""

    def __init__(self, send: Send, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._said_ms = clock.now_ms()
        self.gone = False
        """The caller hung up; what is said now goes nowhere."""

    async def say(self, *values: dict[str, Any]) -> None:
        await self.say_all(values)

    async def say_all(self, values: Iterable[dict[str, Any]]) -> None:
        """In large pieces: a burst of log lines must not be a burst of packets, and megabytes must wait for their reader."""
        piece = bytearray()
        for value in values:
            piece += json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            if len(piece) >= PIECE:
                await self._say(bytes(piece))
                piece.clear()
        await self._say(bytes(piece))

    async def _say(self, body: bytes) -> None:
        if body and not self.gone:
            self._said_ms = self._clock.now_ms()
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def beat(self) -> None:
        """A sign of life, if it is time for one."""
        if self._clock.now_ms() - self._said_ms >= QUIET_MS:
            await self.say({"event": "beat"})


async def send_answer(answer: Answer, receive: Receive, send: Send, clock: Clock, request_id: str) -> None:
    match answer:
        case Json(value, status, max_age_s):
            body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
            await _send_whole(send, status, b"application/json", body, request_id, max_age_s)
        case Text(text):
            await _send_whole(send, 200, b"text/plain; charset=utf-8", text.encode("utf-8", "replace"), request_id)
        case Empty():
            await _send_whole(send, 204, b"", b"", request_id)
        case Streamed(write):
            await _send_stream(write, receive, send, clock, request_id)


async def _send_whole(send: Send, status: int, kind: bytes, body: bytes, request_id: str, max_age_s: int = 0) -> None:
    kept = b"max-age=%d" % max_age_s if max_age_s else b"no-store"
    headers = [(b"x-fal-request-id", request_id.encode()), (b"cache-control", kept)]
    if kind:
        headers += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_stream(write: Callable[[Lines], Awaitable[None]], receive: Receive, send: Send, clock: Clock, request_id: str) -> None:
    headers = [
        (b"content-type", b"application/x-ndjson"),
        (b"x-fal-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        # nginx would hold the lines back until its buffer is full.
        (b"x-accel-buffering", b"no"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    lines = Lines(send, clock)
    watcher = asyncio.get_running_loop().create_task(_notice_end(lines, receive), name="caller of a stream")
    try:
        await write(lines)
    except StoreClosed:
        # This server handed over between two looks; the one that follows has the truth.
        await lines.say({"event": "restarting"})
    except RoostError as error:
        await lines.say({"event": "error", **error.body()})
    except Exception as error:
        log.exception("api.stream_failed", error, request_id=request_id)
        await lines.say({"event": "error", **RoostError("internal_error", f"Roost failed to handle this request ({request_id})").body()})
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
    await send({"type": "http.response.body", "body": b""})


async def _notice_end(lines: Lines, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    lines.gone = True
