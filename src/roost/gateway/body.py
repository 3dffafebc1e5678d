"""A request's body, read whole before a slot is taken: a slow caller must hold up nobody but itself."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import MutableMapping
from typing import IO, Any

from roost.data.payloads import PayloadTrouble
from roost.web.answers import Receive
from roost.web.headers import find
from roost.wire.errors import RoostError
from roost.wire.frames import Headers

MEMORY_LIMIT = 1024 * 1024
"""Larger bodies wait in an unlinked temporary file."""
STALL_S = 30.0
SLOWEST = 1024
"""Bytes a second. Slower callers would hold their connection for hours, one byte at a time."""


class CallerGone(Exception):
    """The caller hung up."""


class Body:
    """A whole body, in memory or on disk. `read` may be called from the start again: a call that was answered BUSY is sent anew."""

    __slots__ = ("_file", "_memory", "size")

    def __init__(self, memory: bytes, file: IO[bytes] | None = None, size: int | None = None) -> None:
        self._memory = memory
        self._file = file
        self.size = len(memory) if size is None else size

    def first(self, limit: int) -> bytes:
        return self.read(0, limit)

    def read(self, start: int, limit: int) -> bytes:
        if self._file is None:
            return self._memory if start == 0 and self.size <= limit else self._memory[start : start + limit]
        # Straight from the page cache mostly: it was written a moment ago.
        return os.pread(self._file.fileno(), limit, start)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


async def read(headers: Headers, receive: Receive, limit: int, folder: str) -> Body:
    """Read it all. Raises RoostError `payload_too_large` before reading more than the limit, `bad_request` on a stall, CallerGone; and
    PayloadTrouble when the disk does not take a large one.
    """
    declared = find(headers, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    if declared is None and find(headers, b"transfer-encoding") is None:
        return Body(b"")
    try:
        return await _whole(receive, limit, folder)
    except OSError as error:
        raise PayloadTrouble.of(error) from error


async def _whole(receive: Receive, limit: int, folder: str) -> Body:
    loop = asyncio.get_running_loop()
    began = loop.time()
    memory = bytearray()
    file: IO[bytes] | None = None
    size = 0
    try:
        while True:
            message = await _next(receive, max(1.0, began + STALL_S + size / SLOWEST - loop.time()))
            data: bytes = message.get("body", b"")
            size += len(data)
            if size > limit:
                raise too_large(limit)
            if file is None and size > MEMORY_LIMIT:
                file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by Body.close
                file.write(memory)
                memory.clear()
            if file is not None:
                await loop.run_in_executor(None, file.write, data)
            elif not memory and not message.get("more_body", False):
                return Body(data)
            else:
                memory += data
            if not message.get("more_body", False):
                break
        if file is None:
            return Body(bytes(memory))
        file.flush()
        body, file = Body(b"", file, size), None
        return body
    finally:
        if file is not None:
            file.close()


async def _next(receive: Receive, wait_s: float) -> MutableMapping[str, Any]:
    try:
        message = await asyncio.wait_for(receive(), min(wait_s, STALL_S))
    except (asyncio.TimeoutError, TimeoutError):
        raise RoostError(
            "bad_request", f"the request's body arrives too slowly: {STALL_S:g} s and at least {SLOWEST} bytes a second", status=408
        ) from None
    if message["type"] != "http.request":
        raise CallerGone
    return message


def too_large(limit: int) -> RoostError:
    return RoostError(
        "payload_too_large",
        f"the request's body is larger than {limit} bytes",
        hint="Upload large inputs first and send their URL, or raise max_body_bytes in the server's settings.",
    )
