"""The process that `roost up` is: it forks the supervisor, passes signals on to it, and outlives it by a moment.

The kernel ends servers, runners and builds with the supervisor, but not *their* children: an author's subprocess would live on
after a `kill -9` of the supervisor. Those are re-parented to the guard, the next subreaper above, which ends them. And when the guard
itself is killed, the kernel tells the supervisor, which ends everything. So nothing is left, whichever of the two is killed.

The supervisor runs in a session of its own: a Ctrl-C in the terminal reaches the guard alone, which passes it on once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from roost.kit import linux, log
from roost.supervisor.children import kill_every_child

PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SWEEP_LIMIT_MS: Final = 10_000


def guarded(body: Callable[[], int], guard_ended: signal.Signals) -> int:
    """Run `body` in a child process and answer its exit code. On return nothing that it started is left.

    `guard_ended` is the signal that the child gets when this process ends before it. The child begins with the signals of a
    shutdown blocked, and unblocks them when it has handlers: one that comes earlier waits.
    """
    linux.become_subreaper()
    spare = frozenset(linux.children(os.getpid()))
    terminal = _has_terminal()
    # Blocked and fetched, instead of handled: none can arrive between two lines and be lost.
    waited_for = {*PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    sys.stdout.flush()
    sys.stderr.flush()
    us = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_the_child(body, us, guard_ended)
    try:
        while not linux.peek_ended(pid):
            number = signal.sigwait(waited_for)
            if number == signal.SIGHUP and terminal and not _has_terminal():
                # The terminal was closed: that asks us to end, not for a restart.
                number = signal.SIGTERM
            if number != signal.SIGCHLD:
                linux.signal_process(pid, number)
        ending = linux.reap(pid)
        left = kill_every_child(spare, SWEEP_LIMIT_MS)
        if ending.signal is not None:
            log.error("supervisor.killed", pid=pid, signal=ending.signal, processes_ended=left)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ending.code if ending.code is not None else 128 + (ending.signal or 0)


def _be_the_child(body: Callable[[], int], guard: int, guard_ended: signal.Signals) -> NoReturn:
    code = 1
    try:
        os.setsid()
        if linux.die_with_parent(guard, guard_ended):
            code = body()
    except BaseException as error:
        log.error("supervisor.bug", error=repr(error))
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: what the caller of `guarded` has on its stack must not run twice.
        os._exit(code)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
