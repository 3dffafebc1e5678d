"""Bodies of queued requests that are too large for the database: one file each, durable before the row that names it.

payloads/<first 2>/<name>     mode 0400; the body, then 16 bytes of hash for each block of it, then its size in 8 bytes
payloads/.incoming/<random>   one that is being written; swept at the next start

The second half of a name is the hash of what follows the body. So each part that is read is checked by what the row says: a file that is
missing, cut short or changed by a single bit is a named error and never wrong bytes (faults.md F-36), and reading a part reads nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from roost.core.requests import Content
from roost.data.incoming import FOLDER, Incoming, is_full
from roost.kit.failpoints import failpoint
from roost.wire.errors import RoostError

T = TypeVar("T")

INLINE: Final = 64 * 1024
"""Bodies up to this size lie in the database."""
BLOCK: Final = 64 * 1024
_PORTION: Final = 4 * BLOCK
"""Handed to a thread at a time."""
_NAME: Final = re.compile(r"[0-9a-f]{32}([0-9a-f]{32})")
_TABLES: Final = 64
"""Files whose hashes are kept at hand: those that are being sent or fetched now."""


class PayloadTrouble(RoostError):
    """A body could not be written: 507 when the disk is full, else 503."""

    @classmethod
    def of(cls, error: OSError) -> PayloadTrouble:
        if is_full(error):
            detail, status = "the server's disk is full; the body was not kept", 507
        else:
            detail, status = f"the server's disk fails ({error.strerror}); the body was not kept", 503
        return cls(
            "internal_error", detail, hint="Make room on the disk of ROOST_HOME, or look at it, and send the request again.", status=status
        )


class DamagedPayload(RoostError):
    """A body that was kept is missing, or is not what it was. It cannot be had any more."""

    def __init__(self, detail: str) -> None:
        super().__init__("internal_error", detail, hint="Send the request again.", status=500)


@dataclass(frozen=True, slots=True)
class _Table:
    """What follows the body in its file."""

    size: int
    hashes: bytes


class Payloads:
    """The bodies below one folder. Methods may run at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: OrderedDict[str, _Table] = OrderedDict()

    async def put(self, body: bytes) -> Content:
        """Keep a body that is there. Raises `PayloadTrouble`."""
        if len(body) <= INLINE:
            return Content(len(body), body)
        growing = Growing(self)
        try:
            return await growing.end(body)
        finally:
            growing.discard()

    def read(self, name: str, start: int, limit: int) -> bytes:
        """Up to `limit` bytes from `start`; b"" at the end. Blocks as a read of the disk does. Raises `DamagedPayload`."""
        try:
            file = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DamagedPayload(f"the body {name[:8]} is missing ({error.strerror})") from error
        try:
            table = self._table(name, file)
            stop = min(start + limit, table.size)
            first, last = start // BLOCK, -(-stop // BLOCK)
            blocks = [_block(file, table, n, name) for n in range(first, last)]
        except OSError as error:
            raise DamagedPayload(f"the body {name[:8]} cannot be read ({error.strerror})") from error
        finally:
            os.close(file)
        return b"".join(blocks)[start - first * BLOCK : stop - first * BLOCK] if blocks else b""

    async def remove(self, names: Iterable[str]) -> None:
        """Remove those that are there. After their rows are gone: a row without its file would be damage."""
        await asyncio.to_thread(self._remove, list(names))

    async def sweep(self, needed: set[str]) -> int:
        """Remove what no row names, and what was left half written; answers how many. Before the first write, never beside one."""
        return await asyncio.to_thread(self._sweep, needed)

    def _path(self, name: str) -> Path:
        # Names come from the database, which somebody may have edited.
        if not _NAME.fullmatch(name):
            raise DamagedPayload(f"{name[:80]!r} is no name of a body")
        return self.folder / name[:2] / name

    def _table(self, name: str, file: int) -> _Table:
        table = self._tables.get(name) or _read_table(name, file)
        self._tables[name] = table
        self._tables.move_to_end(name)
        if len(self._tables) > _TABLES:
            self._tables.popitem(last=False)
        return table

    def _remove(self, names: list[str]) -> None:
        for name in names:
            if _NAME.fullmatch(name):
                failpoint("payloads.remove")
                self._path(name).unlink(missing_ok=True)

    def _sweep(self, needed: set[str]) -> int:
        failpoint("payloads.sweep")
        shutil.rmtree(self.folder / FOLDER, ignore_errors=True)
        orphans = [path for path in self.folder.glob("??/*") if path.name not in needed]
        for path in orphans:
            failpoint("payloads.sweep_one")
            path.unlink(missing_ok=True)
        return len(orphans)


class Growing:
    """A body that arrives in pieces: in memory while it is small, then in a file that is durable when `end` answers.

    growing = Growing(payloads)
    try:
        await growing.add(piece)
        content = await growing.end(last_piece)
    finally:
        growing.discard()  # does nothing once it ended
    """

    def __init__(self, payloads: Payloads) -> None:
        self._folder = payloads.folder
        self._memory = bytearray()
        self._file: Incoming | None = None
        self._hashes = bytearray()
        self.size = 0

    async def add(self, data: bytes) -> None:
        """Raises `PayloadTrouble`; then what was added is of no use."""
        self._memory += data
        self.size += len(data)
        if len(self._memory) >= _PORTION:
            whole = len(self._memory) - len(self._memory) % BLOCK
            portion = bytes(self._memory[:whole])
            del self._memory[:whole]
            await self._in_thread(self._write, portion)

    async def end(self, data: bytes = b"") -> Content:
        """Add the last piece and answer the body as a row may name it. Raises `PayloadTrouble`."""
        self.size += len(data)
        if self.size <= INLINE:
            return Content(self.size, bytes(self._memory) + data)
        self._memory += data
        rest = bytes(self._memory)
        self._memory.clear()
        return Content(self.size, None, await self._in_thread(self._keep, rest))

    def discard(self) -> None:
        """Forget whatever did not come to its end. Twice is fine."""
        if self._file is not None:
            self._file.drop()
        self._memory.clear()

    def _write(self, portion: bytes) -> None:
        """Whole blocks; at the end also a shorter one."""
        if self._file is None:
            self._file = Incoming(self._folder / FOLDER, "payloads.keep")
        view = memoryview(portion)
        for at in range(0, len(portion), BLOCK):
            self._hashes += _hash(view[at : at + BLOCK])
        self._file.write(view)

    def _keep(self, rest: bytes) -> str:
        self._write(rest)
        assert self._file is not None
        after = bytes(self._hashes) + self.size.to_bytes(8, "big")
        self._file.write(after)
        name = secrets.token_hex(16) + _hash(after).hex()
        self._file.keep(self._folder / name[:2] / name)
        return name

    async def _in_thread(self, work: Callable[[bytes], T], data: bytes) -> T:
        try:
            return await asyncio.to_thread(work, data)
        except OSError as error:
            raise PayloadTrouble.of(error) from error


def _hash(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _read_table(name: str, file: int) -> _Table:
    length = os.fstat(file).st_size
    size = int.from_bytes(os.pread(file, 8, max(length - 8, 0)), "big")
    after = os.pread(file, max(length - size, 0), size) if size < length else b""
    match = _NAME.fullmatch(name)
    if match is None or _hash(after).hex() != match[1]:
        raise DamagedPayload(f"the body {name[:8]} is damaged: what follows it was changed or is missing")
    return _Table(size, after[:-8])


def _block(file: int, table: _Table, n: int, name: str) -> bytes:
    data = os.pread(file, min(BLOCK, table.size - n * BLOCK), n * BLOCK)
    if _hash(data) != table.hashes[n * 16 : n * 16 + 16]:
        raise DamagedPayload(f"the body {name[:8]} is damaged: its bytes from {n * BLOCK} on are not what was written")
    return data
