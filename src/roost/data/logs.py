"""What runners print: their raw output files as lines, the newest, those since a moment, or each as it is written.

A file holds records and raw lines (docs/internals/contracts.md, "A runner's output"). Its runner appends to it; here it is read,
its head is freed when it grows too long, and how the runner ended is added if it could not say that itself. Nothing here is async: a poll reads a few pages that were just written.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from roost.data import holes
from roost.wire.errors import RoostError

MAX_MESSAGE: Final = 64 * 1024
"""Characters of one line; the rest of a longer one is cut off."""
MOST_LINES: Final = 50_000
"""Lines that one reading answers at most, the newest ones."""
MOST_CHARACTERS: Final = 8 * 1024 * 1024
"""The same in characters: 50,000 lines may be a gigabyte."""
KEEP_BYTES: Final = 32 * 1024 * 1024

_PATHS_KNOWN: Final = 1_000
_RECORD: Final = b"\x1e"
# A record is longer than its message: JSON may need six bytes for one character.
_MAX_RAW: Final = 8 * MAX_MESSAGE
_PORTION: Final = 1024 * 1024
_BLOCK: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_STREAMS: Final = {"out": ("STDOUT", "user"), "err": ("STDERR", "user"), "sys": ("INFO", "runner")}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output. `level` is STDOUT or STDERR for author's code, INFO or ERROR for ours; `source` is user, runner or builder."""

    at_ms: int
    level: str
    source: str
    message: str
    request_id: str = ""
    endpoint: str = ""
    runner_id: str = ""


@dataclass(frozen=True, slots=True)
class Beginning:
    """From the first line that is still there."""


@dataclass(frozen=True, slots=True)
class Last:
    """From the last `lines` lines on; 0 = only what comes."""

    lines: int


@dataclass(frozen=True, slots=True)
class Since:
    """What was printed at or after this moment."""

    ms: int


Start = Beginning | Last | Since
BEGINNING: Final = Beginning()
NOW: Final = Last(0)

Parse = Callable[[bytes], Iterator[LogLine]]
"""The lines in one raw line, which is without its newline. `at_ms` 0 = it does not say when."""


class RunnerLogs:
    """The output files of all runners, `<folder>/<runner id>.log`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, str] = {}

    def path(self, runner_id: str) -> Path:
        """Where this runner's output goes, or would go. Raises `not_found` for what can be no runner's id."""
        # The name comes from a request: "../../x" must never become a path.
        if not _NAME.fullmatch(runner_id):
            raise RoostError("not_found", f"Runner {runner_id[:80]!r} not found")
        return self._folder / f"{runner_id}.log"

    def size(self, runner_id: str) -> int:
        """Where the runner's output ends now, freed parts included."""
        # Asked twice a request: making the path anew each time would cost ten times as much as looking at the file.
        path = self._paths.get(runner_id)
        if path is None:
            if len(self._paths) >= _PATHS_KNOWN:
                self._paths.clear()
            path = self._paths[runner_id] = str(self.path(runner_id))
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return 0

    def follow(self, runner_id: str, start: Start = BEGINNING) -> Follower:
        """The runner's lines from `start` on. Its file need not be there yet."""
        return Follower(self.path(runner_id), lambda raw: parse(raw, runner_id), start)

    def tail(self, runner_id: str, lines: int) -> list[LogLine]:
        """The newest lines, oldest first."""
        return _all(self.follow(runner_id, Last(min(lines, MOST_LINES))), min(lines, MOST_LINES))

    def read(self, runner_id: str, since_ms: int) -> list[LogLine]:
        """The lines since a moment, oldest first; of more than MOST_LINES the newest."""
        return _all(self.follow(runner_id, Since(since_ms)), MOST_LINES)

    def add(self, runner_id: str, message: str, at_ms: int) -> None:
        """A last line about a runner that has ended, as the runner's own talk. One that never printed has no log, and gets none."""
        path = self.path(runner_id)
        with contextlib.suppress(FileNotFoundError):
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 1))
                whole = file.read() in (b"", b"\n")
            line = json.dumps({"t": at_ms, "s": "sys", "l": message}, ensure_ascii=False).encode()
            with path.open("ab") as file:
                # What it was just printing is a line of its own.
                file.write((b"" if whole else b"\n") + _RECORD + line + b"\n")

    def trim(self, runner_id: str, keep_bytes: int = KEEP_BYTES) -> int:
        """Free the head of a file that takes more than `keep_bytes`, and answer the bytes that the disk got back (0 where it cannot be done).

        Call it also for runners that are writing.
        """
        try:
            fd = os.open(self.path(runner_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            before = os.fstat(fd)
            end = (before.st_size - keep_bytes) // _BLOCK * _BLOCK
            if end <= holes.first_data(fd) or not holes.free_head(fd, end):
                return 0
            return max(0, (before.st_blocks - os.fstat(fd).st_blocks) * 512)
        finally:
            os.close(fd)

    def prune(self, older_than_ms: int, keep: Collection[str]) -> int:
        """Remove the files that nobody wrote to since, except those of the runners in `keep`; answers how many."""
        removed = 0
        for path in self._folder.glob("*.log"):
            with contextlib.suppress(FileNotFoundError):
                if path.stem not in keep and path.stat().st_mtime_ns // 1_000_000 < older_than_ms:
                    path.unlink()
                    removed += 1
        return removed


class Follower:
    """The lines of one growing file, each once, in order. Holds nothing open between polls."""

    def __init__(self, path: Path, parse: Parse, start: Start = BEGINNING) -> None:
        self._path = path
        self._parse = parse
        self._start = start
        self._since_ms = start.ms if isinstance(start, Since) else 0
        self._offset: int | None = None
        self._unfinished = b""
        self._at_ms = 0
        if isinstance(start, Last) and (start.lines == 0 or not path.exists()):
            # What comes from this moment on is new, all of it.
            self._offset = path.stat().st_size if path.exists() else 0

    def poll(self) -> list[LogLine]:
        """What was written since the last poll, a megabyte of it at most. Empty: there is no more now."""
        while True:
            raws, mtime_ms = self._read()
            if not raws:
                return []
            if lines := self._timed([line for raw in raws for line in self._parse(raw)], mtime_ms):
                return lines

    def rest(self) -> list[LogLine]:
        """The last line if it has no end. For when its writer is gone: whatever comes later would begin a new line."""
        raw, self._unfinished = self._unfinished, b""
        if not raw:
            return []
        return self._timed(list(self._parse(raw)), self._at_ms)

    def _read(self) -> tuple[list[bytes], int]:
        """Whole raw lines, and when the file was last written to. No lines: the end is reached."""
        try:
            found = os.stat(self._path)
            if self._offset == found.st_size:
                return [], 0
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return [], 0
        try:
            if self._offset is None:
                self._offset = _begin(fd, self._start)
            elif self._offset > found.st_size:
                # Somebody began the file anew: a build that is tried again.
                self._offset, self._unfinished = 0, b""
            while data := os.pread(fd, _PORTION, self._offset):
                self._offset += len(data)
                *raws, rest = (self._unfinished + data).split(b"\n")
                self._unfinished = rest[:_MAX_RAW]
                if raws:
                    return raws, found.st_mtime_ns // 1_000_000
            return [], 0
        finally:
            os.close(fd)

    def _timed(self, lines: list[LogLine], else_ms: int) -> list[LogLine]:
        """Lines without a time get that of the line before them, or of the next one that has any."""
        known = self._at_ms or next((line.at_ms for line in lines if line.at_ms), else_ms)
        timed: list[LogLine] = []
        for line in lines:
            known = line.at_ms or known
            if known >= self._since_ms:
                timed.append(line if line.at_ms else replace(line, at_ms=known))
        if lines:
            self._at_ms = known
        return timed


def newest(lines: list[LogLine], most: int = MOST_LINES) -> list[LogLine]:
    """The last `most` of them, or as many as MOST_CHARACTERS allow."""
    at, room = len(lines), MOST_CHARACTERS
    while at > max(0, len(lines) - most) and (room := room - len(lines[at - 1].message)) >= 0:
        at -= 1
    return lines[at:]


def parse(raw: bytes, runner_id: str) -> Iterator[LogLine]:
    """The lines in one raw line of a runner's file: a record, a raw line, or a record behind raw text that had no end."""
    if raw.startswith(b"\0"):
        # The end of a line whose beginning was freed.
        return
    loose, *records = raw[:_MAX_RAW].split(_RECORD)
    if loose or not records:
        yield _loose(loose, runner_id)
    for piece in records:
        body = _record(piece)
        if body is None:
            yield _loose(piece, runner_id)
            continue
        level, source = _STREAMS.get(str(body.get("s")), _STREAMS["out"])
        at_ms = body.get("t")
        yield LogLine(
            at_ms if isinstance(at_ms, int) else 0,
            level,
            source,
            str(body.get("l", ""))[:MAX_MESSAGE],
            str(body.get("r", "")),
            str(body.get("e", "")),
            runner_id,
        )


def parse_build(raw: bytes, at_ms: int) -> Iterator[LogLine]:
    """A line of a build's output."""
    yield LogLine(at_ms, "INFO", "builder", _text(raw))


def _record(piece: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(piece)
    except (ValueError, RecursionError):
        # An author may print whatever it likes behind a record separator.
        return None
    return value if isinstance(value, dict) else None


def _loose(raw: bytes, runner_id: str) -> LogLine:
    return LogLine(0, "STDOUT", "user", _text(raw), runner_id=runner_id)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").rstrip("\r")[:MAX_MESSAGE]


def _all(follower: Follower, limit: int) -> list[LogLine]:
    found: list[LogLine] = []
    while lines := follower.poll():
        found = newest([*found, *lines], limit)
    return newest([*found, *follower.rest()], limit)


def _begin(fd: int, start: Start) -> int:
    """The offset to read from. One byte before a freed head's end: that byte is a zero, which marks the broken line behind it."""
    first = holes.first_data(fd)
    first = first - 1 if first else 0
    if not isinstance(start, Last):
        return first
    end = os.fstat(fd).st_size
    wanted = start.lines
    if end and os.pread(fd, 1, end - 1) == b"\n":
        # The newline at the very end belongs to the last line that is wanted.
        wanted += 1
    while end > first:
        block_at = max(first, end - 65536)
        block = os.pread(fd, end - block_at, block_at)
        newlines = block.count(b"\n")
        if newlines >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            return block_at + at + 1
        wanted -= newlines
        end = block_at
    return first
