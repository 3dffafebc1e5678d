"""A disk that loses power: SQLite's files in memory, where only what was synced is sure to be there afterwards.

    disk = LossyDisk(random.Random(7))
    driver = disk.driver()          # a store's driver on this disk
    disk.fail_after(40)             # the 40th write, truncation or sync from now is the last thing that happens
    ...                             # until then; afterwards everything raises
    disk.restart()                  # of what was not synced a random part is there, in sectors of 512 bytes
    driver = disk.driver()

With `trouble` set, writes, syncs and locks fail now and then instead: full, input/output error, busy. Real disks do worse only by lying.
"""

# pyright: reportUnknownMemberType=false
# apsw's stubs name `collections.abc.Buffer`, which Python 3.10 and 3.11 do not have.

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import Final

import apsw

from roost.store.sqlite import SqliteDriver

_SECTOR: Final = 512
_NAMES: Final = itertools.count()


class PowerLost(apsw.IOError):
    """The disk is off, or was off since this file was opened."""


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Cut:
    size: int


@dataclass(slots=True)
class _File:
    now: bytearray = field(default_factory=bytearray)
    """As programs see it."""
    safe: bytearray = field(default_factory=bytearray)
    """As it was at the last sync."""
    unsynced: list[_Write | _Cut] = field(default_factory=list[_Write | _Cut])


class LossyDisk:
    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.trouble = 0.0
        """How many of all operations fail, as a fraction."""
        self.operations = 0
        """Writes, truncations and syncs so far."""
        self.troubles = 0
        self._files: dict[str, _File] = {}
        self._left: int | None = None
        self.life = 0
        self._off = False
        self._vfs: _Vfs | None = None

    def driver(self) -> SqliteDriver:
        """The database of this disk, on the event loop that runs. The one before it must be closed, or of an earlier life of the disk."""
        self._vfs = _Vfs(self)
        connection = apsw.Connection("roost.db", vfs=self._vfs.name)
        # Without shared memory, which only files of the system have. Readers then are on the same connection.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        return SqliteDriver.alone("a lossy disk", connection)

    def fail_after(self, operations: int) -> None:
        self._left = operations

    def restart(self) -> None:
        """Lose power (if it is not lost yet) and have it back."""
        keep = self.dice.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        for file in self._files.values():
            for change in file.unsynced:
                self._maybe(file.safe, change, keep)
            file.now = bytearray(file.safe)
            file.unsynced.clear()
        self._off, self._left = False, None
        self.life += 1

    def _maybe(self, data: bytearray, change: _Write | _Cut, keep: float) -> None:
        """The part of an unsynced change that the disk happened to have written."""
        match change:
            case _Cut(size):
                if self.dice.random() < keep:
                    del data[size:]
            case _Write(offset, new):
                end = offset + len(new)
                at = offset
                while at < end:
                    stop = min(end, at - at % _SECTOR + _SECTOR)
                    if self.dice.random() < keep:
                        _put(data, at, new[at - offset : stop - offset])
                    at = stop

    # what the files below ask

    def file(self, name: str) -> _File:
        return self._files.setdefault(name, _File())

    def has(self, name: str) -> bool:
        return name in self._files

    def delete(self, name: str) -> None:
        self.step(self.life, apsw.IOError)
        self._files.pop(name, None)

    def step(self, life: int, *troubles: type[apsw.Error]) -> None:
        """One operation begins; or the power goes, or one of these troubles comes."""
        self.read(life)
        self.operations += 1
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._off = True
                raise PowerLost("the power goes")
        self.maybe_trouble(*troubles)

    def maybe_trouble(self, *troubles: type[apsw.Error]) -> None:
        if self.trouble and self.dice.random() < self.trouble:
            self.troubles += 1
            raise self.dice.choice(troubles)("as the test wants it")

    def read(self, life: int) -> None:
        if self._off or life != self.life:
            raise PowerLost("the disk is off")


class _Vfs(apsw.VFS):
    def __init__(self, disk: LossyDisk) -> None:
        self.name = f"lossy-{next(_NAMES)}"
        self._disk = disk
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _Open:  # type: ignore[override]
        known = name.filename() if isinstance(name, apsw.URIFilename) else name
        flags[1] = flags[0]
        return _Open(self._disk, self._disk.file(known or f"temporary-{next(_NAMES)}"))

    def xFullPathname(self, name: str) -> str:
        return name

    def xSleep(self, microseconds: int) -> int:
        return microseconds  # nothing here takes time, so nobody needs to be waited for

    def xAccess(self, pathname: str, flags: int) -> bool:
        return self._disk.has(pathname)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._disk.delete(filename)


class _Open:
    """An open file, as SQLite wants it."""

    def __init__(self, disk: LossyDisk, file: _File) -> None:
        self._disk = disk
        self._file = file
        self._life = disk.life

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.read(self._life)
        return bytes(self._file.now[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.step(self._life, apsw.FullError, apsw.IOError)
        _put(self._file.now, offset, data)
        self._file.unsynced.append(_Write(offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self._disk.step(self._life, apsw.IOError)
        del self._file.now[newsize:]
        self._file.unsynced.append(_Cut(newsize))

    def xSync(self, flags: int) -> None:
        self._disk.step(self._life, apsw.IOError)
        for change in self._file.unsynced:
            match change:
                case _Cut(size):
                    del self._file.safe[size:]
                case _Write(offset, data):
                    _put(self._file.safe, offset, data)
        self._file.unsynced.clear()

    def xFileSize(self) -> int:
        self._disk.read(self._life)
        return len(self._file.now)

    def xLock(self, level: int) -> None:
        self._disk.maybe_trouble(apsw.BusyError)

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return _SECTOR

    def xDeviceCharacteristics(self) -> int:
        # What SQLite takes real disks for, too: a write does not harm its neighbours.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None:
        pass


def _put(into: bytearray, offset: int, data: bytes) -> None:
    if len(into) < offset:
        into.extend(bytes(offset - len(into)))
    into[offset : offset + len(data)] = data
