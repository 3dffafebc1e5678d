"""The processes under the supervisor: started, stopped, waited for, and nothing of them left behind.

The supervisor is single-threaded, the subreaper of its descendants, and the only one who waits for them. So SIGCHLD plus one
`waitid` loop notices every end, and a pid means the same process until `reap` has let it go; a pidfd each would tell nothing more.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from roost.kit import linux, log
from roost.kit.cgroups import Groups, Unavailable
from roost.kit.launch import NOTHING, RUNNER_ID, Inherited, launch
from roost.kit.spawn import NO_LIMITS, Exited, Limits, Living, Spawn
from roost.supervisor.limits import Keeper, Verdict

# A stray without a mark may be in the middle of an exec, when its environment reads empty: look this often before it is nobody's.
LOOKS_BEFORE_NOBODYS = 3
# One with a mark that we do not know was forked by a template a moment ago: whoever ordered it says in a moment whose it is.
LOOKS_BEFORE_ADOPTION = 500
NO_GROUPS = Unavailable("nobody looked for control groups")
REMEMBERED = 1_000
"""Names that were given back, and ends of children that nobody had adopted."""
OURS: Final = ("server", "front")
"""Kinds that the supervisor itself keeps: servers neither start nor end them, and hear nothing of them."""


@dataclass(slots=True)
class Child:
    name: str
    kind: str
    pid: int
    server: int
    """Number of the server that asked for it; of the server itself for kind "server"; 0 for the front."""
    grace_ms: int
    kill_at_ms: int | None = None
    killed_by_us: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    child: Child
    exited: Exited


class Children:
    """Everything that runs below us. Knows no reasons: who is stopped and when is decided elsewhere."""

    def __init__(self, groups: Groups | Unavailable = NO_GROUPS) -> None:
        self._by_pid: dict[int, Child] = {}
        self._by_name: dict[str, Child] = {}
        self._unowned: dict[int, int] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        """Names of those that have ended: what still bears one is nobody's."""
        self._unclaimed: OrderedDict[int, linux.Ending] = OrderedDict()
        """How children ended that had not been adopted yet."""
        self._oom = linux.OomKills()
        self.limits = Keeper(groups, self._marked_strays)

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_pid.values()))

    def named(self, name: str) -> Child | None:
        return self._by_name.get(name)

    def start(self, spawn: Spawn, server: int, inherited: Inherited = NOTHING) -> Child:
        """Raises OSError with a sentence if it cannot be started."""
        if (running := self._by_name.get(spawn.name)) is not None:
            raise OSError(f"cannot start {spawn.name}: a process of this name is running (pid {running.pid})")
        if spawn.kind not in OURS:
            spawn = dataclasses.replace(spawn, env={**spawn.env, RUNNER_ID: spawn.name})
        child = Child(spawn.name, spawn.kind, launch(spawn, inherited), server, spawn.grace_ms)
        self._by_pid[child.pid] = self._by_name[child.name] = child
        self.limits.take(child.name, child.pid, spawn.limits)
        return child

    def adopt(self, child: Child, limits: Limits = NO_LIMITS) -> Ended | None:
        """Take in a process that a template forked and left to us; answers its end if that came first.

        Raises OSError with a sentence if there is no such child, or its name or pid is taken.
        """
        if (running := self._by_name.get(child.name)) is not None:
            raise OSError(f"cannot adopt {child.name}: a process of this name is running (pid {running.pid})")
        ending = self._unclaimed.pop(child.pid, None)
        if child.pid in self._by_pid or (ending is None and child.pid not in linux.children(os.getpid())):
            raise OSError(f"cannot adopt {child.name}: {child.pid} is no process that a template left to us")
        if ending is not None:
            self._forget(child.name)
            return Ended(child, Exited(child.name, child.kind, child.pid, ending.code, ending.signal))
        self._by_pid[child.pid] = self._by_name[child.name] = child
        self.limits.take(child.name, child.pid, limits, forked=True)
        return None

    def stop(self, child: Child, grace_ms: int, now_ms: int) -> None:
        """SIGTERM to the process itself, SIGKILL to its group when the grace ends. A later stop may shorten the grace only."""
        linux.signal_process(child.pid, signal.SIGTERM)
        self.kill_later(child, now_ms + grace_ms)

    def kill_later(self, child: Child, at_ms: int) -> None:
        """SIGKILL to its group at this time, or at an earlier one that was said before."""
        child.kill_at_ms = at_ms if child.kill_at_ms is None else min(at_ms, child.kill_at_ms)

    def kill(self, child: Child) -> None:
        child.killed_by_us = True
        child.kill_at_ms = None
        linux.kill_group(child.pid)

    def kill_overdue(self, now_ms: int) -> None:
        for child in self:
            if child.kill_at_ms is not None and child.kill_at_ms <= now_ms:
                self.kill(child)

    def next_deadline_ms(self) -> int | None:
        return min((child.kill_at_ms for child in self if child.kill_at_ms is not None), default=None)

    def living(self) -> list[Living]:
        """All but the supervisor's own, with what /proc says of them now."""
        return [
            Living(child.name, child.kind, child.pid, "stopped" if facts.state == "T" else "running")
            for child in self
            if child.kind not in OURS and (facts := linux.stat(child.pid)) is not None
        ]

    def reap(self) -> list[Ended]:
        """Wait for all that has ended and kill what those processes left behind. Does not block."""
        ended: list[Ended] = []
        while (pid := _next_ended()) is not None:
            child = self._by_pid.pop(pid, None)
            if child is None:
                self._unclaimed[pid] = linux.reap(pid)
                if len(self._unclaimed) > REMEMBERED:
                    self._unclaimed.popitem(last=False)
                continue
            # Before its pid is let go: after that the group's number may belong to somebody else.
            linux.kill_group(pid)
            ending = linux.reap(pid)
            del self._by_name[child.name]
            self._forget(child.name)
            ended.append(Ended(child, self._told(child, ending, self.limits.ended(pid))))
        self.sweep()
        return ended

    def _told(self, child: Child, ending: linux.Ending, verdict: Verdict) -> Exited:
        exited = Exited(child.name, child.kind, child.pid, ending.code, ending.signal, memory_peak_mb=verdict.peak_mb)
        if ending.signal != signal.SIGKILL or (child.killed_by_us and not verdict.limit_mb):
            return exited
        # Asked in any case: each kill that was counted answers for one process.
        machine_was = not child.killed_by_us and self._oom.claim()
        oom_killed = verdict.limit_mb > 0 or verdict.killed or machine_was
        return dataclasses.replace(exited, oom_killed=oom_killed, memory_limit_mb=verdict.limit_mb)

    def end_whoever_is_over(self, now_ms: int) -> None:
        """SIGKILL to whoever holds more memory than it may: no grace, in which it would go on taking."""
        for pid in self.limits.look(now_ms):
            if (child := self._by_pid.get(pid)) is not None:
                log.warning("process.over_memory", name=child.name, pid=pid)
                self.kill(child)

    def _forget(self, name: str) -> None:
        self._gone[name] = None
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    def sweep(self) -> None:
        """Kill strays: processes that were re-parented to us and belong to no living child.

        Each killed stray hands us its own children and a SIGCHLD, so that a whole tree goes in a few rounds.
        """
        strays = linux.children(os.getpid()) - self._by_pid.keys()
        self._unowned = {pid: looks for pid, looks in self._unowned.items() if pid in strays}
        for pid in strays:
            if not self._has_an_owner(pid):
                linux.signal_process(pid, signal.SIGKILL)

    def _has_an_owner(self, stray: int) -> bool:
        facts = linux.stat(stray)
        if facts is None or facts.session in self._by_pid:
            return True
        mark = linux.environment_value(stray, RUNNER_ID)
        if mark in self._by_name:
            return True
        if facts.state == "Z" or mark in self._gone:
            return False
        self._unowned[stray] = self._unowned.get(stray, 0) + 1
        return self._unowned[stray] < (LOOKS_BEFORE_NOBODYS if mark is None else LOOKS_BEFORE_ADOPTION)

    def _marked_strays(self) -> dict[int, int]:
        """What left its session and lost its parent, with the child whose mark it bears."""
        strays = linux.children(os.getpid()) - self._by_pid.keys()
        marks = {pid: linux.environment_value(pid, RUNNER_ID) or "" for pid in strays}
        return {pid: self._by_name[mark].pid for pid, mark in marks.items() if mark in self._by_name}

    @property
    def looking_again(self) -> bool:
        """Whether a stray is still to be judged."""
        return bool(self._unowned)


def _next_ended() -> int | None:
    try:
        result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if result is None else result.si_pid


def kill_every_child(spare: frozenset[int], limit_ms: int) -> int:
    """SIGKILL and wait for all children of this process but `spare`, and whom they leave to us, until none is left.

    Answers how many there were. Gives up after `limit_ms`: a process that hangs in the kernel ends when the kernel lets it.
    """
    deadline = time.monotonic() + limit_ms / 1000
    killed: set[int] = set()
    while (left := linux.children(os.getpid()) - spare) and time.monotonic() < deadline:
        for pid in left:
            linux.signal_process(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        killed |= left
        time.sleep(0.002)
    return len(killed)
