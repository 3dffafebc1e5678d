"""From a template's fork to a process of its own: nobody's child but the supervisor's, with its own output, dice and signals.

The fork is a double one. The kernel's parent-death signal belongs to whoever forked, so that a runner forked once would die with
its template; forked twice it is the supervisor's child, as every other runner, and dies with the supervisor alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import signal
import sys
import time
import warnings
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_REPARENTED_WITHIN_S: Final = 5.0
OOM_SCORE: Final = b"500"
MARK: Final = "ROOST_RUNNER_ID"
"""The variable that tells the supervisor whose a stray process is (kit/launch.py)."""

# Loaded before any fork: a child should make system calls, not look for libraries.
_prctl: Any = ctypes.CDLL(None, use_errno=True).prctl


class CannotFork(Exception):
    """The fork was not made, or came to nothing; says why."""


def double_fork() -> int:
    """0 in the new process, its pid in this one. Raises CannotFork here; it has a session of its own and our subreaper as parent by then."""
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        middle = once()
        if middle == 0:
            _middle(write)
            # Said only now: whoever kills our template's group must not find us in it, and whoever kills ours must find one.
            os.setsid()
            os.write(write, b"%d" % os.getpid())
            return 0
        os.waitpid(middle, 0)
        os.close(write)
        write = -1
        told = os.read(read, 64)
    except OSError as error:
        raise CannotFork(f"a process could not be forked: {error.strerror}") from error
    finally:
        for fd in (read, write):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
    if not told.isdigit():
        raise CannotFork(f"a process could not be forked: {told.decode(errors='replace') or 'the first of two forks died'}")
    return int(told)


def _middle(write: int) -> None:
    """Fork again and end; returns in the second child only."""
    try:
        pid = once()
    except OSError as error:
        os.write(write, (error.strerror or "fork failed").encode())
        os._exit(1)
    if pid:
        os._exit(0)


def once() -> int:
    """`os.fork()`, for a process without threads of Python's."""
    with warnings.catch_warnings():
        # Python 3.12+ warns of forks beside threads. Which of those may be there, `fitness` has judged.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def leave(supervisor: int) -> None:
    """In the new process, first of all: a parent of its own, usual signals. Ends the process if `supervisor` is gone."""
    _wait_for_parent(supervisor)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def settle(output: int, name: str, title: str) -> None:
    """When it is known what the process is to be: its streams, its mark and its title.

    `output` is a file opened for appending; it becomes stdout and stderr, and is closed.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    _write("/proc/self/oom_score_adj", OOM_SCORE)  # a preference, not a promise: some sandboxes do not let us say it
    _prctl(_PR_SET_NAME, ctypes.c_char_p(title.encode()[:15]), 0, 0, 0)
    rewrite_mark(name)


def _wait_for_parent(supervisor: int) -> None:
    """Until the process between us and our template has ended, and we are the supervisor's: only then is it whose death is told."""
    deadline = time.monotonic() + _REPARENTED_WITHIN_S
    while os.getppid() != supervisor:
        if time.monotonic() > deadline:
            os._exit(127)
        time.sleep(0.0001)
    # A parent that ended before this call sends nothing any more.
    if _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0 or os.getppid() != supervisor:
        os._exit(127)


def rewrite_mark(name: str) -> None:
    """Put our name where the kernel shows the environment of this process's program, in place of the template's.

    Without it a descendant that left our session would pass for the template's, and outlive us. The template's name is at least as long.
    """
    # Also so that no pointer of the C library's reads what is half written.
    os.environ[MARK] = name
    start = f"{MARK}=".encode()
    try:
        with open("/proc/self/stat") as file:
            fields = file.read().rpartition(") ")[2].split()
        begin, end = int(fields[47]), int(fields[48])  # env_start and env_end, counted from the state
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(begin)
            block = memory.read(end - begin)
            at = (b"\0" + block).find(b"\0" + start)
            if at < 0:
                return
            size = block.find(b"\0", at) - at
            entry = start + name.encode()
            if len(entry) <= size:
                memory.seek(begin + at)
                memory.write(entry.ljust(size, b"\0"))
    except (OSError, ValueError, IndexError):
        return  # the session still tells whose most of them are


def reseed() -> None:
    """Dice of its own for this process: brothers must not draw the same numbers, names or keys."""
    random.seed()
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed()
    if (ssl := sys.modules.get("ssl")) is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    if "uuid" in sys.modules:
        # uuid1() counts on from the last one that its process made.
        vars(sys.modules["uuid"])["_last_timestamp"] = None
    if (process := sys.modules.get("multiprocessing.process")) is not None:
        process.current_process().authkey = os.urandom(32)


def freeze() -> None:
    """Before a fork: a collection in a child would write into every page that it shares."""
    gc.collect()
    gc.disable()
    gc.freeze()


def thaw() -> None:
    """In the child: what it makes itself is collected as usual."""
    gc.enable()


def _write(path: str, text: bytes) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, text)
        finally:
            os.close(fd)
