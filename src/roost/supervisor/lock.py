"""One supervisor a state folder: an flock on `state/lock`, which holds the supervisor's pid as text."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final

from roost.supervisor.problem import CannotStart

PATIENCE_S: Final = 1.0
"""A supervisor that was just ended may need a moment to let go."""


class StateLock:
    """Held as long as any process that was forked with it lives or until `release`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, path: Path, home: Path, patience_s: float = PATIENCE_S) -> StateLock:
        """Raises CannotStart within 2 seconds if another supervisor holds it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience_s
        while not _try(fd):
            if time.monotonic() >= deadline:
                holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
                os.close(fd)
                raise CannotStart(
                    f"already running (pid {holder}) on this state folder ({home}); "
                    "stop that one first, or start another with `roost up --home OTHER_FOLDER --port 0`"
                )
            time.sleep(0.02)
        return cls(fd)

    def write_pid(self) -> None:
        """Say who holds it: the calling process."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of it here; the file stays, since a lock on a file that was removed in between guards nothing."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
