"""Content-addressed pieces on the local disk: a file named by its SHA-256 is complete, durable and holds just that content.

blobs/<first 2>/<sha256>      mode 0400: bundles hard-link to it, so nothing may write through either name
blobs/.incoming/<random>      one upload under way; swept at the next start
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import Final

from roost.data.incoming import FOLDER, Incoming, full_disk_told
from roost.kit.failpoints import failpoint
from roost.wire.errors import RoostError

_HASH: Final = re.compile(r"[0-9a-f]{64}")
# Bytes handed to a thread at a time: small enough for memory, large enough that a big upload is not all thread switches.
_PORTION: Final = 1024 * 1024


class Blobs:
    """The pieces below one folder. Methods may run at the same time, also for the same piece."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / FOLDER

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
        with full_disk_told(
            "the server's disk is full; the upload was not kept", "Free space on the server, for example with `roost builds prune`."
        ):
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

    async def remove(self, sha256: str) -> int:
        """Remove the piece and answer the bytes that the disk got back: 0 if it was not here or a bundle still links to it."""
        return await asyncio.to_thread(_remove, self.path(sha256))

    def sweep(self) -> None:
        """Remove what interrupted uploads left. Call before the first `put`, never beside one."""
        failpoint("blobs.sweep")
        shutil.rmtree(self._incoming, ignore_errors=True)


class _Upload:
    """A file that becomes a blob, or disappears."""

    def __init__(self, folder: Path) -> None:
        self._file = Incoming(folder, "blobs.put")
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)

    def keep(self, target: Path) -> None:
        self._file.keep(target)

    def drop(self) -> None:
        self._file.drop()


def _remove(path: Path) -> int:
    try:
        found = path.stat()
        failpoint("blobs.remove")
        path.unlink()
    except FileNotFoundError:
        return 0
    return found.st_size if found.st_nlink == 1 else 0
