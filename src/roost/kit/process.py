"""`LocalSpawner`: the contract of `kit.spawn.Spawner` kept inside one asyncio process, for tests and tools without a supervisor.

Its processes end with it. It is no subreaper, so that it takes nobody's children: what an ended process leaves behind is found in /proc.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from roost.kit import linux
from roost.kit.launch import RUNNER_ID, launch
from roost.kit.spawn import NO_LIMITS, Exited, Limits, Living, Spawn

SPAWNER_ID = "ROOST_SPAWNER"


@dataclass(slots=True)
class Process:
    spawn: Spawn
    pid: int
    pidfd: int
    ended: asyncio.Event
    killed_by_us: bool = False
    last_word: asyncio.TimerHandle | None = None
    """Pending SIGKILL at the end of a grace."""


class LocalSpawner:
    """Starts processes as children of this one. `close()` ends them all."""

    def __init__(self) -> None:
        linux.require_linux()
        self._processes: dict[str, Process] = {}
        self._subscribers: dict[str, Callable[[Exited], None]] = {}
        self._oom = linux.OomKills()
        self._id = secrets.token_hex(8)

    async def start(self, spawn: Spawn) -> int:
        if spawn.name in self._processes:
            raise OSError(f"cannot start {spawn.name}: a process of this name is running (pid {self._processes[spawn.name].pid})")
        pid = launch(dataclasses.replace(spawn, env={**spawn.env, RUNNER_ID: spawn.name, SPAWNER_ID: self._id}))
        process = Process(spawn, pid, _pidfd(pid), asyncio.Event())
        self._processes[spawn.name] = process
        asyncio.get_running_loop().add_reader(process.pidfd, self._on_end, process)
        return pid

    async def adopt(self, name: str, kind: str, pid: int, grace_ms: int, limits: Limits = NO_LIMITS) -> None:
        """Only where this process is the subreaper of what it starts (`kit.linux.become_subreaper`)."""
        if name in self._processes:
            raise OSError(f"cannot adopt {name}: a process of this name is running (pid {self._processes[name].pid})")
        if pid not in linux.children(os.getpid()):
            raise OSError(f"cannot adopt {name}: {pid} is no process that a template left to us")
        process = Process(Spawn(name, kind, ("adopted",), grace_ms=grace_ms, limits=limits), pid, _pidfd(pid), asyncio.Event())
        self._processes[name] = process
        asyncio.get_running_loop().add_reader(process.pidfd, self._on_end, process)

    async def stop(self, name: str, grace_ms: int) -> None:
        process = self._processes.get(name)
        if process is None:
            return
        linux.signal_process(process.pid, signal.SIGTERM)
        if process.last_word is not None:
            process.last_word.cancel()
        process.last_word = asyncio.get_running_loop().call_later(grace_ms / 1000, self._kill, process)

    async def kill(self, name: str) -> None:
        if (process := self._processes.get(name)) is not None:
            self._kill(process)

    async def living(self) -> list[Living]:
        return [
            Living(p.spawn.name, p.spawn.kind, p.pid, "stopped" if facts.state == "T" else "running")
            for p in self._processes.values()
            if (facts := linux.stat(p.pid)) is not None
        ]

    def subscribe(self, kind: str, on_exit: Callable[[Exited], None]) -> None:
        self._subscribers[kind] = on_exit

    async def acknowledge(self, names: Iterable[str]) -> None:
        """Nothing to forget: exits are told once, to whoever subscribed."""

    async def close(self) -> None:
        """Kill everything and wait until it has ended."""
        processes = list(self._processes.values())
        for process in processes:
            self._kill(process)
        for process in processes:
            await process.ended.wait()

    def _kill(self, process: Process) -> None:
        process.killed_by_us = True
        linux.kill_group(process.pid)

    def _on_end(self, process: Process) -> None:
        # Leftovers first: once we have waited for the leader, its group's number may belong to somebody else.
        linux.kill_group(process.pid)
        _kill_leftovers(process, self._id, spare={other.pid for other in self._processes.values()})
        asyncio.get_running_loop().remove_reader(process.pidfd)
        os.close(process.pidfd)
        ending = linux.reap(process.pid)
        del self._processes[process.spawn.name]
        if process.last_word is not None:
            process.last_word.cancel()
        process.ended.set()
        oom_killed = ending.signal == signal.SIGKILL and not process.killed_by_us and self._oom.claim()
        exited = Exited(process.spawn.name, process.spawn.kind, process.pid, ending.code, ending.signal, oom_killed=oom_killed)
        if (on_exit := self._subscribers.get(process.spawn.kind)) is not None:
            on_exit(exited)


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        # Out of descriptors: a process that nobody watches must not run.
        linux.kill_group(pid)
        linux.reap(pid)
        raise


def _kill_leftovers(process: Process, spawner_id: str, spare: set[int]) -> None:
    """Kill what left the group but not the session, and what left both but still carries the marks that it was started with.

    `spare` have a name of their own: a template's forks carry its marks.
    """
    killed: set[int] = {process.pid} | spare
    # Again until nothing new is found: one of them may have forked while we were reading.
    while found := [pid for pid in linux.processes() if pid not in killed and _belongs_to(pid, process, spawner_id)]:
        for pid in found:
            linux.signal_process(pid, signal.SIGKILL)
        killed.update(found)


def _belongs_to(pid: int, process: Process, spawner_id: str) -> bool:
    facts = linux.stat(pid)
    if facts is None or facts.state == "Z":
        return False
    if facts.session == process.pid:
        return True
    # Both marks: a spawner in another test process may have given the same name.
    marks = {RUNNER_ID: process.spawn.name, SPAWNER_ID: spawner_id}
    return all(linux.environment_value(pid, name) == value for name, value in marks.items())
