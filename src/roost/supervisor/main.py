"""`roost up`: the supervisor in the foreground, until Ctrl-C.

python -m roost.supervisor --home ~/.roost --listen 127.0.0.1:8700
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from roost.kit import linux
from roost.supervisor import sockets
from roost.supervisor.guard import guarded
from roost.supervisor.lock import StateLock
from roost.supervisor.options import DEFAULT_LISTEN, Options, default_home, limits_from_environ
from roost.supervisor.problem import CannotStart
from roost.supervisor.tree import PARENT_ENDED, Tree


def main(argv: list[str] | None = None) -> int:
    """The command line of `python -m roost.supervisor`."""
    parser = argparse.ArgumentParser(prog="python -m roost.supervisor", description="Run a Roost server until Ctrl-C.")
    parser.add_argument("--home", type=Path, default=default_home(), help="state folder (ROOST_HOME, ~/.roost)")
    parser.add_argument("--listen", action="append", metavar="HOST:PORT", help=f"where callers connect; may be repeated ({DEFAULT_LISTEN})")
    parser.add_argument("--connect", action="append", metavar="HOST:PORT", help="where the CONNECT door is, on this machine; default: none")
    given = parser.parse_args(argv)
    try:
        limits = limits_from_environ()
    except CannotStart as problem:
        return _say(problem)
    listen, connect = tuple(given.listen or [DEFAULT_LISTEN]), tuple(given.connect or [])
    return run(Options(home=given.home.absolute(), listen=listen, connect=connect, limits=limits))


def run(options: Options) -> int:
    """Run the process tree until it is stopped; answers the exit code. A problem is said on stderr in one sentence.

    The calling process must be single-threaded: it forks. It waits here, as the guard of the tree.
    """
    try:
        linux.require_linux()
        _open_standard_streams()
        _make_folders(options)
        lock = StateLock.take(options.state / "lock", options.home)
    except (CannotStart, linux.NotLinux) as problem:
        return _say(problem)
    try:
        sockets.remove_stale(options.run)
        # The lock is held on both sides of the fork: as long as it is, something of this tree may still be running.
        return guarded(lambda: _supervise(options, lock), PARENT_ENDED)
    finally:
        lock.release()


def _supervise(options: Options, lock: StateLock) -> int:
    lock.write_pid()
    linux.become_subreaper()
    try:
        opened = sockets.open_all(options.listen, options.run, options.connect)
    except CannotStart as problem:
        return _say(problem)
    try:
        return Tree(options, opened).run()
    except CannotStart as problem:
        return _say(problem)
    finally:
        opened.close()


def _make_folders(options: Options) -> None:
    try:
        options.home.mkdir(parents=True, exist_ok=True)
        for folder in (options.state, options.run):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
    except OSError as error:
        raise CannotStart(
            f"the state folder {options.home} cannot be used: {error.filename}: {error.strerror}; choose another with `roost up --home`"
        ) from error


def _open_standard_streams() -> None:
    # A socket that gets number 0, 1 or 2 would become a server's output.
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _say(problem: Exception) -> int:
    sys.stderr.write(f"roost: {problem}\n")
    return 1
