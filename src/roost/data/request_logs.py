"""What one queued request printed: its own lines out of the output of the runners that it was on, each read once (spec: queue.md §1).

An attempt names its runner and where in that runner's file it began and ended. Other calls print in between; every record carries the id
of the request whose code printed it. Status is polled many times a second, so what was read is kept, and a poll reads what is new.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from roost.core.requests import Attempt, AttemptState
from roost.data.logs import MAX_MESSAGE, LogLine, RunnerLogs, parse

MOST_LINES: Final = 5_000
MOST_CHARACTERS: Final = 1024 * 1024
"""Of one request; the newest are kept."""
KEPT_CHARACTERS: Final = 32 * 1024 * 1024
"""Of all requests whose lines are in memory."""
_A_LINE: Final = 400
"""What a line costs besides its characters."""
# A record is longer than its message: JSON may need six bytes for one character.
_MAX_RAW: Final = 8 * MAX_MESSAGE
_PORTION: Final = 1024 * 1024
_ON_THE_LOOP: Final = 64 * 1024
"""Bytes that are read without a thread: a file's new end is in memory, and a thread costs more than reading it."""


@dataclass(slots=True)
class _Place:
    """How far one attempt's part of a file has been read."""

    offset: int
    unfinished: bytes = b""
    complete: bool = False


@dataclass(slots=True)
class _Read:
    """The lines of one request so far."""

    lines: list[LogLine] = field(default_factory=list[LogLine])
    dropped: int = 0
    """Lines before the first one in `lines`."""
    size: int = 0
    counted: int = 0
    """Of `size`, what `RequestLogs.kept` has in it."""
    places: dict[int, _Place] = field(default_factory=dict[int, _Place])
    """By the attempt's number."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Lines:
    """A request's lines so far, oldest first; `total` counts also those that were dropped as too many."""

    lines: tuple[LogLine, ...]
    total: int

    def after(self, seen: int) -> tuple[LogLine, ...]:
        """Those that came after the first `seen`."""
        new = self.total - seen
        return self.lines[-new:] if new > 0 else ()


class RequestLogs:
    """Lines by request, read out of the runners' files."""

    def __init__(self, logs: RunnerLogs, most: int = KEPT_CHARACTERS) -> None:
        self._logs = logs
        self._most = most
        self._known: OrderedDict[str, _Read] = OrderedDict()
        self.kept = 0
        """Characters in memory, with what their lines cost."""

    async def read(self, request_id: str, attempts: Sequence[Attempt]) -> Lines:
        """All lines of these attempts, which are all attempts of the request."""
        known = self._known.get(request_id)
        if known is None:
            known = self._known[request_id] = _Read()
        self._known.move_to_end(request_id)
        async with known.busy:
            for attempt in attempts:
                await self._read(known, attempt)
        # Somebody else's reading may have made it forgotten meanwhile.
        if self._known.get(request_id) is known:
            self.kept += known.size - known.counted
            known.counted = known.size
            self._forget_some(request_id)
        return Lines(tuple(known.lines), known.dropped + len(known.lines))

    async def _read(self, known: _Read, attempt: Attempt) -> None:
        place = known.places.get(attempt.number)
        if place is None:
            place = known.places[attempt.number] = _Place(attempt.log_from)
        if place.complete:
            return
        path = self._logs.path(attempt.runner_id)
        try:
            end = os.stat(path).st_size
        except FileNotFoundError:
            return
        if attempt.log_to is not None:
            end = min(end, attempt.log_to)
        tag = attempt.request_id.encode()
        while place.offset < end:
            size = min(_PORTION, end - place.offset)
            if end - place.offset <= _ON_THE_LOOP:
                found = _portion(str(path), place, size, tag, attempt.runner_id)
            else:
                found = await asyncio.to_thread(_portion, str(path), place, size, tag, attempt.runner_id)
            if found is None:
                break
            for line in found:
                _keep(known, line)
        place.complete = attempt.state is not AttemptState.RUNNING and attempt.log_to is not None

    def _forget_some(self, but: str) -> None:
        while self.kept > self._most and len(self._known) > 1:
            request_id, read = next(iter(self._known.items()))
            if request_id == but:
                break
            del self._known[request_id]
            self.kept -= read.counted


def _portion(path: str, place: _Place, size: int, tag: bytes, runner_id: str) -> list[LogLine] | None:
    """The next `size` bytes' lines of one request; None when there are no more. May run on a thread of its own."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        data = os.pread(fd, size, place.offset)
    finally:
        os.close(fd)
    if not data:
        return None
    place.offset += len(data)
    *raws, rest = (place.unfinished + data).split(b"\n")
    place.unfinished = rest[:_MAX_RAW]
    # Looked for before anything is parsed: beside this request, hundreds of others may print into the same file.
    request_id = tag.decode()
    return [line for raw in raws if tag in raw for line in parse(raw, runner_id) if line.request_id == request_id]


def _keep(known: _Read, line: LogLine) -> None:
    known.lines.append(line)
    known.size += len(line.message) + _A_LINE
    if len(known.lines) > MOST_LINES or known.size > MOST_CHARACTERS + MOST_LINES * _A_LINE:
        # A quarter at a time: dropping from a list's head costs its whole length.
        cut = max(1, len(known.lines) // 4)
        known.size -= sum(len(gone.message) + _A_LINE for gone in known.lines[:cut])
        known.dropped += cut
        del known.lines[:cut]
