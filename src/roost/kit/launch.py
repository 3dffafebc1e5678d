"""One process, started right: `launch(spawn)` forks and execs it as `kit.spawn.Spawn` says.

The process gets a session of its own, dies (SIGKILL) with the process that started it, and inherits nothing but the file
descriptors that it is given: default signals, umask 077, only its own environment. An exec that fails is an OSError here.

Forks by hand instead of `subprocess`: `preexec_fn` cannot say which step failed, and there is no other way to set the
parent-death signal before the program runs. The caller should be single-threaded; tests that are not are safe as far as the child
only makes system calls, and so it does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, NoReturn

from roost.kit import linux
from roost.kit.spawn import Spawn

# The kernel ends runners before our own processes when memory runs out: a lost runner costs an attempt, a lost server every call.
OOM_SCORE: Final = {"runner": 500, "build": 500, "template": 500, "replay": 900}

RUNNER_ID: Final = "ROOST_RUNNER_ID"
"""Variable with the process's name, set by spawners in its environment and so in its descendants': tells whose a stray is."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a process gets of ours, under the same numbers. None: /dev/null, or the file that `Spawn.output` names."""

    fds: tuple[int, ...] = ()
    stdout: int | None = None
    stderr: int | None = None


NOTHING: Final = Inherited()


def launch(spawn: Spawn, inherited: Inherited = NOTHING) -> int:
    """Start it; answers its pid once its program runs. Raises OSError with a sentence that names the step that failed."""
    if not spawn.argv:
        raise OSError(f"cannot start {spawn.name}: it has no program to run")
    with ExitStack() as ours:

        def keep(fd: int) -> int:
            ours.callback(os.close, fd)
            return fd

        stdin = keep(_stdin(spawn.stdin))
        output = keep(_output(spawn))
        failures, failed = os.pipe2(os.O_CLOEXEC)
        keep(failures)
        streams = (
            stdin,
            output if inherited.stdout is None else inherited.stdout,
            output if inherited.stderr is None else inherited.stderr,
        )
        try:
            pid = _fork_exec(spawn, streams, inherited.fds, failed)
        finally:
            os.close(failed)
        # Ends when the exec closes the child's end. What comes before that is the sentence about what went wrong.
        failure = b"".join(iter(lambda: os.read(failures, 4096), b"")).decode(errors="replace")
    if failure:
        os.waitpid(pid, 0)
        raise OSError(f"cannot start {spawn.name}: {failure}")
    return pid


def _stdin(text: str) -> int:
    if not text:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    # Not a pipe: a ticket longer than the pipe's buffer would block us until the program reads it.
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _output(spawn: Spawn) -> int:
    if not spawn.output:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return os.open(spawn.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    except OSError as error:
        raise OSError(f"cannot start {spawn.name}: its output file {spawn.output} cannot be opened: {error.strerror}") from error


def _fork_exec(spawn: Spawn, streams: tuple[int, int, int], fds: tuple[int, ...], failed: int) -> int:
    us = os.getpid()
    # A signal between fork and exec would run our handlers in the child, or reach our own loop through the shared wake-up socket.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            # Python 3.12+ warns of forks beside threads; see the top of this file for why this one is safe.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _become(spawn, streams, fds, failed, us)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become(spawn: Spawn, streams: tuple[int, int, int], fds: tuple[int, ...], failed: int, parent: int) -> NoReturn:
    """The child, from fork to exec. Whatever happens, it does not return into our program."""
    step = "the new process could not be prepared"
    try:
        os.setsid()
        if not linux.die_with_parent(parent):
            os._exit(127)
        for number in signal.valid_signals():
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        _write_oom_score(spawn.kind)
        for target, source in enumerate(streams):
            os.dup2(source, target)
        _close_all_but(fds, failed)
        for fd in fds:
            os.set_inheritable(fd, True)
        step = f"its working directory {spawn.cwd} cannot be entered"
        os.chdir(spawn.cwd)
        step = f"{spawn.argv[0]} cannot be run"
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(spawn.argv[0], spawn.argv, spawn.env)  # noqa: S606 - no shell is the point
    except BaseException as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        os.write(failed, f"{step}: {reason}".encode())
    finally:
        os._exit(127)


def _write_oom_score(kind: str) -> None:
    if kind not in OOM_SCORE:
        return
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, str(OOM_SCORE[kind]).encode())
        os.close(fd)
    except OSError:
        return  # A preference, not a promise: some sandboxes do not let us say it.


def _close_all_but(fds: tuple[int, ...], failed: int) -> None:
    # Python's own descriptors close at exec; those that our parent left open for us do not.
    # From the list, not by counting to the limit: that may be a million system calls.
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != failed and fd not in fds:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed already
                os.close(fd)
