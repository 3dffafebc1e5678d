"""Content-addressed pieces on the local disk: a file named by its SHA-256 is complete, durable and holds just that content.

blobs/<first 2>/<sha256>      mode 0400: bundles hard-link to it, so nothing may write through either name
blobs/.incoming/<random>      one upload under way; swept at the next start
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import Final

from roost.wire.errors import RoostError

_HASH: Final = re.compile(r"[0-9a-f]{64}")
# Bytes handed to a thread at a time: small enough for memory, large enough that a big upload is not all thread switches.
_PORTION: Final = 1024 * 1024


class Blobs:
    """The pieces below one folder. Methods may run at the same time, also for the same piece."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / ".incoming"

    def path(self, sha256: str) -> Path:
        """Where this piece is, or would be. Raises `unprocessable` for what is no SHA-256 in lower-case hexadecimal."""
        # The name comes from a request: "../../x" must never become a path.
        if not _HASH.fullmatch(sha256):
            raise RoostError("unprocessable", f"{sha256[:80]!r} is not a SHA-256", hint="Send 64 lower-case hexadecimal digits.")
        return self._folder / sha256[:2] / sha256

    async def missing(self, hashes: Iterable[str]) -> list[str]:
        """Those that are not here, each once, in the order given."""
        wanted = {sha256: self.path(sha256) for sha256 in hashes}
        return await asyncio.to_thread(lambda: [sha256 for sha256, path in wanted.items() if not path.is_file()])

    async def put(self, sha256: str, stream: AsyncIterable[bytes]) -> None:
        """Store the stream under its hash; when this returns, the piece survives a power cut.

        The stream is read to its end even if the piece is here already. Raises `unprocessable` when the bytes have another
        hash, and 507 when the disk is full; then nothing is kept.
        """
        target = self.path(sha256)
        try:
            upload = _Upload(self._incoming)
            try:
                portion = bytearray()
                async for chunk in stream:
                    portion += chunk
                    if len(portion) >= _PORTION:
                        await asyncio.to_thread(upload.write, bytes(portion))
                        portion.clear()
                await asyncio.to_thread(upload.write, bytes(portion))
                if upload.sha256 != sha256:
                    raise RoostError(
                        "unprocessable",
                        f"the bytes sent have SHA-256 {upload.sha256}, not {sha256}",
                        hint="The upload was cut short or changed on its way; send it again.",
                    )
                await asyncio.to_thread(upload.keep, target)
            finally:
                await asyncio.to_thread(upload.drop)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            detail = "the server's disk is full; the upload was not kept"
            raise RoostError(
                "internal_error", detail, hint="Free space on the server, for example with `roost builds prune`.", status=507
            ) from error

    async def remove(self, sha256: str) -> int:
        """Remove the piece and answer the bytes that the disk got back: 0 if it was not here or a bundle still links to it."""
        return await asyncio.to_thread(_remove, self.path(sha256))

    def sweep(self) -> None:
        """Remove what interrupted uploads left. Call before the first `put`, never beside one."""
        shutil.rmtree(self._incoming, ignore_errors=True)


class _Upload:
    """A file that becomes a blob, or disappears."""

    def __init__(self, incoming: Path) -> None:
        incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = incoming / secrets.token_hex(16)
        self._hash = hashlib.sha256()
        # A caller that is cancelled drops the upload while a thread may still write: without the lock those bytes could go
        # to whatever file got the descriptor's number next.
        self._lock = threading.Lock()
        self._file: int | None = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._hash.update(data)
            view = memoryview(data)
            while view and self._file is not None:
                view = view[os.write(self._file, view) :]

    def keep(self, target: Path) -> None:
        with self._lock:
            if self._file is None:
                return
            os.fsync(self._file)
            target.parent.mkdir(exist_ok=True, mode=0o700)
            os.rename(self._path, target)
            # The name must be as durable as the bytes, and the folder that the name is in as well.
            for folder in (target.parent, target.parent.parent):
                _fsync_folder(folder)

    def drop(self) -> None:
        """Close, and remove whatever was not kept."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None
            self._path.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> int:
    try:
        found = path.stat()
        path.unlink()
    except FileNotFoundError:
        return 0
    return found.st_size if found.st_nlink == 1 else 0
