"""Bytes of answers that are kept until somebody has them for good: in memory while they are small, else in files without a name."""

from __future__ import annotations

import os
from typing import Final

CALL_MEMORY: Final = 256 * 1024
ALL_MEMORY: Final = 16 * 1024 * 1024


class Room:
    """Memory that all retained answers of a runner share."""

    def __init__(self, limit: int = ALL_MEMORY, of_one: int = CALL_MEMORY) -> None:
        self.of_one = of_one
        self.free = limit

    def take(self, size: int) -> bool:
        if size > self.free:
            return False
        self.free -= size
        return True

    def give(self, size: int) -> None:
        self.free += size


class Retained:
    """The body of one answer, which grows at its end and can be read from any place."""

    __slots__ = ("_file", "_memory", "_room", "size")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._memory = bytearray()
        self._file: int | None = None
        self.size = 0

    @property
    def in_file(self) -> bool:
        return self._file is not None

    def append(self, data: bytes) -> None:
        """Raises OSError when the disk does not take what memory may not hold; what was there before can still be read."""
        if self._file is None and (self.size + len(data) > self._room.of_one or not self._room.take(len(data))):
            self._spill()
        if self._file is None:
            self._memory += data
        else:
            _write(self._file, data, self.size)
        self.size += len(data)

    def read(self, position: int, limit: int) -> bytes:
        """At most so many bytes from there on; b"" at the end."""
        if self._file is None:
            return bytes(self._memory[position : position + limit])
        return os.pread(self._file, min(limit, self.size - position), position)

    def forget(self) -> None:
        """Give back memory and file. Nothing can be read afterwards."""
        if self._file is None:
            self._room.give(len(self._memory))
        else:
            os.close(self._file)
            self._file = None
        self._memory = bytearray()
        self.size = 0

    def _spill(self) -> None:
        # Not at the top: few runners ever need it, and it brings modules that every start would pay for.
        import tempfile

        with tempfile.TemporaryFile(buffering=0) as made:
            file = os.dup(made.fileno())
        try:
            _write(file, self._memory, 0)
        except OSError:
            os.close(file)
            raise
        self._file = file
        self._room.give(len(self._memory))
        self._memory = bytearray()


def _write(file: int, data: bytes | bytearray, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        view, position = view[written:], position + written
