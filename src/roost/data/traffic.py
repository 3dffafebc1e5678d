"""What came, in numbers: when each call arrived, how long it waited for a runner, and how long it held its slot there.

traffic/<owner>/<app>/<YYYY-MM-DDTHH>.bin     one file an hour (UTC) of arrivals, 16 bytes a call: arrived, in ms since 1970, with
                                              the highest bit set if through the queue; waited; held, in ms

`roost simulate` replays it. It is no promise, like what runners print: a crash loses the last seconds, a damaged record is skipped, and what
is old or too much goes, the oldest first. So nothing here is synced, and nobody who is called waits for it.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from roost.core.whatif import Call

HOUR_MS: Final = 3_600_000
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of one app: four million calls."""
_MOST_NOTED: Final = 200_000
"""Calls that may wait to be written. A disk that hangs must not fill the memory."""
_PORTION: Final = 500
_NAME: Final = "%Y-%m-%dT%H.bin"
_RECORD: Final = struct.Struct("<QII")
_QUEUED: Final = 1 << 63
_LONGEST_MS: Final = 2**32 - 1
_Fields = tuple[str, int, int, int, bool]
"""Of `Served`."""


class Served(NamedTuple):
    """One call whose slot is free again, as it is noted: moments, in ms."""

    application: str
    arrived_ms: int
    sent_ms: int
    """It got its slot, and was sent to a runner."""
    ended_ms: int
    queued: bool = False


class Traffic:
    """The records below one folder. `note` is for the event loop, `write`, `prune` and `read` are for threads and other processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._noted: deque[_Fields] = deque(maxlen=_MOST_NOTED)
        self.note = self._noted.append
        """Take in one call. The collection's own method, and a bare tuple: this is on the path of every call."""

    def take(self) -> list[_Fields]:
        """What was noted since the last time. The oldest calls of a flood are forgotten."""
        taken = list(self._noted)
        self._noted.clear()
        return taken

    def write(self, calls: Iterable[_Fields]) -> None:
        """Append them to their files. Raises OSError; what was not written then is lost."""
        files: dict[tuple[str, int], list[bytes]] = defaultdict(list)
        for application, arrived_ms, sent_ms, ended_ms, queued in calls:
            waited, held = (min(max(0, ms), _LONGEST_MS) for ms in (sent_ms - arrived_ms, ended_ms - sent_ms))
            files[application, arrived_ms // HOUR_MS].append(_RECORD.pack(arrived_ms | _QUEUED * queued, waited, held))
        for (application, hour), records in files.items():
            _append(self._folder / application / _name(hour), b"".join(records))

    def read(self, application: str, since_ms: int, until_ms: int, most: int) -> list[Call]:
        """The newest `most` calls that arrived from `since_ms` on and before `until_ms`, in the order in which they came."""
        calls: list[Call] = []
        first, last = _name(since_ms // HOUR_MS), _name(until_ms // HOUR_MS)
        files = [file for file in (self._folder / application).glob("*.bin") if first <= file.name <= last]
        for file in sorted(files, reverse=True):
            found = [call for call in _calls(file) if since_ms <= call.at_ms < until_ms]
            found.sort(key=lambda call: call.at_ms)
            calls = found[-(most - len(calls)) :] + calls
            if len(calls) >= most:
                break
        return calls

    def prune(self, before_ms: int, most_bytes: int = MOST_BYTES) -> None:
        """Remove files of hours that ended before `before_ms`, then an app's oldest until it has no more than `most_bytes`."""
        oldest = _name(before_ms // HOUR_MS)
        for app in self._folder.glob("*/*"):
            left = most_bytes
            for file in sorted(app.glob("*.bin"), reverse=True):
                left -= file.stat().st_size
                if file.name < oldest or left < 0:
                    file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # there is something in it
                app.rmdir()


def portions(calls: Sequence[_Fields]) -> Iterator[list[_Fields]]:
    """Small enough that a thread which writes one never keeps the event loop from running for longer than a switch takes anyway."""
    rest = iter(calls)
    while portion := list(islice(rest, _PORTION)):
        yield portion


def _append(path: Path, records: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Appended: during a planned restart the server that leaves writes the last of its calls beside the new one.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size % _RECORD.size:
            # Half a record, left by a crash or a full disk, would turn all that follow it into nonsense.
            os.ftruncate(fd, size - size % _RECORD.size)
        if size + len(records) <= MOST_BYTES:
            os.write(fd, records)
    finally:
        os.close(fd)


def _calls(path: Path) -> Iterator[Call]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    begin = _hour(path.name) * HOUR_MS
    whole = memoryview(data)[: len(data) // _RECORD.size * _RECORD.size]
    for moment, wait_ms, service_ms in _RECORD.iter_unpack(whole):
        at_ms, queued = moment & ~_QUEUED, bool(moment & _QUEUED)
        # Power loss leaves zeros where bytes were on their way.
        if begin <= at_ms < begin + HOUR_MS:
            yield Call(at_ms, wait_ms, service_ms, queued)


def _hour(name: str) -> int:
    return int(datetime.strptime(name, _NAME).replace(tzinfo=timezone.utc).timestamp()) // 3600


def _name(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, timezone.utc).strftime(_NAME)
