"""Facts of Linux processes that Python has no word for: prctl, /proc, OOM counters, process groups. Nothing here waits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

# Loaded once, before any fork: between fork and exec nothing may be imported or looked up in a library.
_prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)


class NotLinux(OSError):
    """This machine cannot run a Roost server."""


def require_linux() -> None:
    """Raise NotLinux where process trees cannot be kept. Authors' machines may be anything; this is for the server's."""
    if not sys.platform.startswith("linux") or _prctl is None:
        raise NotLinux(
            f"a Roost server needs Linux (subreaper, parent-death signals), this is {sys.platform}; "
            "run it on a Linux machine or in a container and point ROOST_HOST at it"
        )


def die_with_parent(parent: int, sig: int = signal.SIGKILL) -> bool:
    """Get `sig` when the parent (precisely: the thread that forked us) ends. False if `parent` has ended already."""
    _set(_PR_SET_PDEATHSIG, sig)
    # A parent that ended before the call above sends nothing any more.
    return os.getppid() == parent


def become_subreaper(yes: bool = True) -> None:
    """Descendants whose parent ends become our children, instead of init's; or, with False, no longer."""
    _set(_PR_SET_CHILD_SUBREAPER, int(yes))


def _set(option: int, value: int) -> None:
    if _prctl is None or _prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed: {os.strerror(ctypes.get_errno())}")


@dataclass(frozen=True, slots=True)
class Stat:
    """The start of /proc/<pid>/stat."""

    pid: int
    state: str
    """"R" running, "S" sleeping, "D" in the kernel, "T" stopped, "Z" ended but not waited for."""
    parent: int
    group: int
    session: int


def stat(pid: int) -> Stat | None:
    """None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The program's name is in parentheses and may itself contain parentheses and spaces.
    state, parent, group, session, *_ = text[text.rindex(")") + 2 :].split(" ", 4)
    return Stat(pid, state, int(parent), int(group), int(session))


def processes() -> Iterator[int]:
    """The pids of everything that /proc shows us."""
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def children(pid: int) -> set[int]:
    """The pids of a process's children, ended ones included until they are waited for."""
    found: set[int] = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found.update(map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()))
    except OSError:
        # Kernels without CONFIG_PROC_CHILDREN: ask everybody for their parent.
        found.update(other for other in processes() if (facts := stat(other)) is not None and facts.parent == pid)
    return found


def environment_value(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with. None: not there, or not ours to read."""
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    start = os.fsencode(name) + b"="
    return next((os.fsdecode(entry[len(start) :]) for entry in block.split(b"\0") if entry.startswith(start)), None)


def pss_mb(pid: int) -> float | None:
    """A process's share of the memory: pages of its own, and its part of those that it shares. None if it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        return None
    return None


def signal_process(pid: int, sig: int) -> None:
    """Send a signal; a process that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


def kill_group(leader: int) -> None:
    """SIGKILL everything in the process group of `leader`, which must not have been waited for yet.

    Until then its pid, and so the group's number, cannot belong to anybody else.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def peek_ended(pid: int) -> bool:
    """Whether our child has ended. It stays waitable, so that its pid keeps its meaning."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended: exactly one of the two is set."""

    code: int | None
    signal: int | None


def reap(pid: int) -> Ending:
    """Wait for our child, which has ended, and let its pid go."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return Ending(code, None) if code >= 0 else Ending(None, -code)


class OomKills:
    """Tells whether a SIGKILL came from the kernel for want of memory, by the counters of our own control group.

    `counters` are files with a line "oom_kill N"; the first that can be read is believed.
    """

    def __init__(self, counters: Iterable[Path] | None = None) -> None:
        self._counter = next((path for path in counters or _oom_counters() if _oom_kills(path) is not None), None)
        self._seen = self._count()

    def claim(self) -> bool:
        """One process was killed by somebody else: was it the kernel? Each kill that was counted answers one question."""
        if self._count() > self._seen:
            self._seen += 1
            return True
        return False

    def _count(self) -> int:
        return (_oom_kills(self._counter) or 0) if self._counter is not None else 0


def _oom_counters() -> Iterator[Path]:
    """Files with a line "oom_kill N", best first: our group's (v2, then v1), then the whole machine's."""
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield root / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                yield root / "memory" / path.lstrip("/") / "memory.oom_control"
    # Inside a container the path above may be the host's; the group that we see then is the mount itself.
    yield root / "memory.events"
    yield root / "memory" / "memory.oom_control"
    yield Path("/proc/vmstat")


def _oom_kills(counter: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in counter.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None
