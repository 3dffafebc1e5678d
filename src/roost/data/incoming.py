"""A file on its way to its name: written beside, and there only when it is complete and survives a power cut; else it was never there."""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roost.kit.failpoints import failpoint
from roost.wire.errors import RoostError

FOLDER = ".incoming"
"""Beside the files that it is for: a rename does not leave its file system. Swept at the next start."""


class Incoming:
    """One such file. Methods block; they may be called from any thread."""

    def __init__(self, folder: Path, point: str) -> None:
        """`point` names its failpoints: `<point>:written`, `:synced`, `:renamed` and `:after`."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / secrets.token_hex(16)
        self._point = point
        # A caller that is cancelled drops the file while a thread may still write: without the lock those bytes could go
        # to whatever file got the descriptor's number next.
        self._lock = threading.Lock()
        self._file: int | None = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)

    def write(self, data: bytes | memoryview) -> None:
        with self._lock:
            failpoint(f"{self._point}:write")
            view = memoryview(data)
            while view and self._file is not None:
                view = view[os.write(self._file, view) :]

    def keep(self, target: Path) -> None:
        """Give it its name, for good. A file of this name is replaced."""
        with self._lock:
            if self._file is None:
                return
            failpoint(f"{self._point}:written")
            os.fsync(self._file)
            failpoint(f"{self._point}:synced")
            target.parent.mkdir(exist_ok=True, mode=0o700)
            os.rename(self._path, target)
            failpoint(f"{self._point}:renamed")
            # The name must be as durable as the bytes, and the folder that the name is in as well.
            for folder in (target.parent, target.parent.parent):
                fsync_folder(folder)
            failpoint(f"{self._point}:after")

    def drop(self) -> None:
        """Close, and remove whatever was not kept."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None
            failpoint(f"{self._point}:drop")
            self._path.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        failpoint("folder:fsync")
        os.fsync(handle)
    finally:
        os.close(handle)


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def full_disk_told(detail: str, hint: str) -> Iterator[None]:
    """Raise a full disk as a RoostError with status 507; other errors pass."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise RoostError("internal_error", detail, hint=hint, status=507) from error
