"""Servers that a subject starts: each listens on 127.0.0.1, has a log, is ended by its process id, and does not outlive us."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import processes

PATIENCE_S = 60.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Broken(Exception):
    """Something that a subject needs does not work. Not: it is slow."""


def until(what: str, condition: Callable[[], object], patience_s: float = PATIENCE_S, every_s: float = 0.02) -> None:
    """Wait for a condition. Raises Broken with `what` when patience ends."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"after {patience_s:g} s still not: {what}")
        time.sleep(every_s)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def program(
    words: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for a while. SIGTERM ends it, SIGKILL if that takes longer than 45 s, and what it leaves behind ends too."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_end_with_us,  # noqa: PLW1509  # servers are started while there is one thread
        )
    try:
        yield process
    finally:
        family = processes.family(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in processes.still(family):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def listening(
    words: Sequence[str],
    port: int,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    patience_s: float = PATIENCE_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program, from when it listens on the port. Raises Broken with its log when it ends before."""
    with program(words, log, env, cwd) as process:

        def ready() -> bool:
            if process.poll() is not None:
                raise Broken(f"{words[0]} ended with {process.returncode}:\n{log.read_text(errors='replace')[-4000:]}")
            return listens(port)

        until(f"{' '.join(words[:4])} listens", ready, patience_s)
        yield process


def _end_with_us() -> None:
    # Also when we are killed, nothing stays behind.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
