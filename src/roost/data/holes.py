"""Giving the head of a growing file back to the disk, while its writer goes on appending.

The freed part reads as zeros and takes no space; sizes and offsets stay, so neither writer nor readers notice (fallocate(2), punch hole).
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def free_head(fd: int, length: int) -> bool:
    """Free the first `length` bytes. False where the system or the file system cannot do that; then nothing has changed."""
    return _fallocate is not None and length > 0 and _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, 0, length) == 0


def first_data(fd: int) -> int:
    """Where the first byte that was not freed lies; 0 where the file system cannot tell, the size where nothing is left."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:
        # ENXIO: a file without any data, which an empty one is too.
        return os.fstat(fd).st_size
