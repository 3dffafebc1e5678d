"""Folders that are complete or absent: made beside their place, flushed, renamed into it, and renamed away before they are removed."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import Final

REMOVING: Final = ".removing-"


def publish(made: Path, place: Path, *, replace: bool = False) -> None:
    """Flush the folder `made` and rename it to `place`; after a power cut, `place` is whole or not there.

    Where `place` is there already, it stays and `made` is left as it is, unless `replace`.
    """
    flush(made)
    old = _out_of_the_way(place) if replace and place.exists() else None
    try:
        os.rename(made, place)
    except OSError as error:
        # Somebody else published the same content first.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    _fsync_folder(place.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def remove(place: Path) -> int:
    """Remove the folder, if it is there, and answer the bytes that the disk got back. It is never seen half removed."""
    try:
        old = _out_of_the_way(place)
    except FileNotFoundError:
        return 0
    freed = size(old, only_ours=True)
    shutil.rmtree(old, ignore_errors=True)
    return freed


def size(folder: Path, *, only_ours: bool = False) -> int:
    """Bytes of the files below, each once however many names it has; `only_ours` leaves out those linked to from elsewhere."""
    names: dict[tuple[int, int], int] = {}
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    for root, _, files in os.walk(folder):
        for name in files:
            found = os.lstat(os.path.join(root, name))
            if stat.S_ISREG(found.st_mode):
                inode = (found.st_dev, found.st_ino)
                names[inode] = names.get(inode, 0) + 1
                sizes[inode] = (found.st_size, found.st_nlink)
    return sum(length for inode, (length, links) in sizes.items() if not only_ours or links == names[inode])


def flush(folder: Path) -> None:
    """Everything on this folder's file system is on disk. One call: flushing ten thousand files one by one takes minutes."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{folder} could not be flushed to disk: {os.strerror(code)}")
    finally:
        os.close(handle)


def _out_of_the_way(place: Path) -> Path:
    old = place.parent / f"{REMOVING}{place.name}-{secrets.token_hex(4)}"
    os.rename(place, old)
    return old


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
