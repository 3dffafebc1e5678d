"""`FakeBackend`: the contract of `backends.base.Backend` without processes, proven by tests/contract/test_backend.py."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable

from roost.backends.base import Launch
from roost.kit.spawn import Exited
from roost.testkit import pipe
from roost.testkit.pipe import PipeEnd
from roost.testkit.runner import FakeRunner, Surroundings
from roost.testkit.script import Received, Script

_EXIT_TOLD_S = 0.002
"""From a process's end until the server hears of it: its sockets are closed before that."""


class FakeBackend:
    """Runners that do what `plays` said. It outlives servers, as the supervisor does: an exit that nobody heard is told to the next."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._scripts: dict[str, list[Script]] = defaultdict(list)
        self._starts: Counter[str] = Counter()
        self._pids = itertools.count(1000)
        self._on_exit: Callable[[Exited], None] | None = None
        self._untold: list[Exited] = []
        self._lost: set[str] = set()
        self._running: dict[str, FakeRunner] = {}
        self.door: Callable[[], asyncio.Protocol] | None = None
        """Makes the server's end of a new connection; None while there is no server."""
        self.launches: list[Launch] = []
        self.started_ms: list[int] = []
        """When each of the `launches` was."""
        self.received: list[Received] = []
        """Every call that began to run, in order."""
        self.most: Counter[str] = Counter()
        """The most runners of each revision at the same time, without those that were told to go."""

    def plays(self, revision_id: str, *scripts: Script) -> None:
        """The nth runner of this revision plays the nth script, later ones the last; without any, the plain one."""
        self._scripts[revision_id] = list(scripts)

    def running(self, revision_id: str | None = None) -> list[FakeRunner]:
        """The living runners, oldest first."""
        return [runner for runner in self._running.values() if revision_id in (None, runner.launch.revision.id)]

    def lose(self, runner_id: str) -> None:
        """This runner ends and nobody will ever say so, as when the whole machine was started anew."""
        self._lost.add(runner_id)
        self._running[runner_id].kill()

    def crash_of_server(self) -> None:
        """Nobody listens any more, until somebody subscribes and opens the door."""
        self.door = None
        self._on_exit = None

    # Backend

    async def start(self, launch: Launch) -> int | None:
        revision_id = launch.revision.id
        scripts = self._scripts[revision_id] or [Script()]
        script = scripts[min(self._starts[revision_id], len(scripts) - 1)]
        self._starts[revision_id] += 1
        self.launches.append(launch)
        self.started_ms.append(self._now_ms())
        if launch.runner_id in self._running:
            raise OSError(f"cannot start {launch.runner_id}: a runner of this id lives")
        if script.start_error:
            raise OSError(script.start_error)
        around = Surroundings(self._dial, self._now_ms, self.received.append, self._ended)
        runner = self._running[launch.runner_id] = FakeRunner(launch, script, next(self._pids), around)
        staying = [other for other in self.running(revision_id) if not other.leaving]
        self.most[revision_id] = max(self.most[revision_id], len(staying))
        return runner.pid

    async def stop(self, runner_id: str, grace_ms: int) -> None:
        runner = self._running.get(runner_id)
        if runner is not None:
            runner.terminate()
            asyncio.get_running_loop().call_later(grace_ms / 1000, runner.kill)

    async def kill(self, runner_id: str) -> None:
        runner = self._running.get(runner_id)
        if runner is not None:
            runner.kill()

    async def living(self) -> dict[str, int]:
        return {runner.id: runner.pid for runner in self._running.values()}

    async def stopped(self) -> frozenset[str]:
        return frozenset(runner.id for runner in self._running.values() if runner.frozen)

    def subscribe(self, on_exit: Callable[[Exited], None]) -> None:
        self._on_exit = on_exit
        untold, self._untold = self._untold, []
        for exited in untold:
            asyncio.get_running_loop().call_soon(self._tell, exited)

    # for its runners

    def _dial(self, protocol: asyncio.Protocol) -> PipeEnd:
        if self.door is None:
            raise ConnectionRefusedError("there is no server")
        return pipe.connect(protocol, self.door())

    def _ended(self, exited: Exited) -> None:
        del self._running[exited.name]
        if exited.name not in self._lost:
            asyncio.get_running_loop().call_later(_EXIT_TOLD_S, self._tell, exited)

    def _tell(self, exited: Exited) -> None:
        if self._on_exit is not None:
            self._on_exit(exited)
        else:
            self._untold.append(exited)
