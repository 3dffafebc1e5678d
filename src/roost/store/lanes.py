"""From the event loop to a database connection and back: works queue up in a lane, and whatever queued up is run together.

A lane knows no SQL and a worker knows no asyncio. `ThreadLane` gives each worker a thread of its own, because a write to disk blocks.
`CommitLane` does the same for the writer's commits, which write to disk, and runs quick works on the event loop. `LoopLane` runs its one worker on the event loop itself: right for a database in memory, and under a virtual clock the only way that
time stands still while the store works.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar, cast

from roost.store.errors import StoreClosed, StoreError

T = TypeVar("T")
Work = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Done:
    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    error: Exception


Outcome = Done | Failed


class Worker(Protocol):
    """Owns a connection."""

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        """Run them and answer one outcome each, in their order. Raises nothing."""
        ...

    def close(self) -> None: ...


class Committer(Worker, Protocol):
    """A worker that can be stopped before its commit."""

    def begin(self, works: Sequence[Work]) -> list[Outcome] | None:
        """Run them up to their commit, which must follow. None: nothing was done, and only `run` can wait until it may be. Raises nothing."""
        ...

    def commit(self, outcomes: list[Outcome]) -> list[Outcome]:
        """End what `begin` began, and answer how each of its works ended. Raises nothing."""
        ...


class Lane(Protocol):
    async def do(self, work: Callable[[Any], T], *, quick: bool = False) -> T:
        """`quick`: so few and short statements that they may run on the event loop."""
        ...

    async def close(self) -> None:
        """Run what is queued, close the workers, come back. Closing twice is fine."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Work
    future: asyncio.Future[Any]
    quick: bool = False


class ThreadLane:
    """One queue, one thread for each worker; nothing of it is on the loop, also not what is quick. A worker takes up to `together` waiting works at once."""

    def __init__(self, name: str, workers: Sequence[Worker], together: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._together = together
        self._closed = False
        self._ended: list[asyncio.Future[None]] = [self._loop.create_future() for _ in workers]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker, ended), name=f"{name}-{n}", daemon=True)
            for n, (worker, ended) in enumerate(zip(workers, self._ended, strict=True))
        ]
        for thread in self._threads:
            thread.start()

    async def do(self, work: Callable[[Any], T], *, quick: bool = False) -> T:
        if self._closed:
            raise _closed()
        job = _Job(work, self._loop.create_future())
        self._jobs.put(job)
        return cast("T", await job.future)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
        # wait() leaves the futures alone when this caller is cancelled: a second close() must still be able to wait for them.
        await asyncio.wait(self._ended)
        for thread in self._threads:
            thread.join()

    def _serve(self, worker: Worker, ended: asyncio.Future[None]) -> None:
        last = False
        while not last:
            jobs, last = self._take()
            if jobs:
                _on_loop(self._loop, _settle, jobs, worker.run([job.work for job in jobs]))
        worker.close()
        _on_loop(self._loop, ended.set_result, None)

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for a job, then take along what else is waiting. True with it: there will be no more for this thread."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == self._together:
                return jobs, False
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return jobs, False
        return jobs, True


class CommitLane:
    """One worker and a thread for its commits; quick works run on the event loop, the others in the thread too. All in the order they came in.

    Between two statements a thread gives up the interpreter and has to wait, up to 5 ms while the loop is busy, to get it back: several thousand
    times a second that costs more than the statements do. So what is many and quick is left to the loop, and the thread does what takes long.
    """

    def __init__(self, name: str, worker: Committer, together: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._worker = worker
        self._together = together
        self._jobs: deque[_Job] = deque()
        self._begins = False
        """Works are about to begin, or under way: what comes now goes with the next ones."""
        self._closed = False
        self._steps: SimpleQueue[tuple[list[_Job], list[Outcome] | None] | None] = SimpleQueue()
        """For the thread: works and what `begin` answered."""
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[Any], T], *, quick: bool = False) -> T:
        if self._closed:
            raise _closed()
        job = _Job(work, self._loop.create_future(), quick)
        self._jobs.append(job)
        self._plan()
        return cast("T", await job.future)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if not self._begins:
                self._steps.put(None)
        # wait() leaves the future alone when this caller is cancelled: a second close() must still be able to wait for it.
        await asyncio.wait([self._ended])
        self._thread.join()

    # on the loop

    def _plan(self) -> None:
        if not self._begins:
            self._begins = True
            # At the end of this turn, so that all that it asks for goes together.
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        jobs = self._take()
        outcomes = self._worker.begin([job.work for job in jobs]) if jobs[0].quick else None
        self._steps.put((jobs, outcomes))

    def _take(self) -> list[_Job]:
        """What is next and of one kind."""
        jobs = [self._jobs.popleft()]
        while self._jobs and self._jobs[0].quick == jobs[0].quick and len(jobs) < self._together:
            jobs.append(self._jobs.popleft())
        return jobs

    def _ends(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
        self._begins = False
        _settle(jobs, outcomes)
        if self._jobs:
            # Those who were answered are woken before it begins: what they ask for next goes along.
            self._plan()
        elif self._closed:
            self._steps.put(None)

    # in the thread

    def _serve(self) -> None:
        while (step := self._steps.get()) is not None:
            jobs, begun = step
            outcomes = self._worker.commit(begun) if begun is not None else self._worker.run([job.work for job in jobs])
            _on_loop(self._loop, self._ends, jobs, outcomes)
        self._worker.close()
        _on_loop(self._loop, self._ended.set_result, None)


class LoopLane:
    """One worker, on the event loop: what one turn of the loop queued up is run together at the start of the next."""

    def __init__(self, worker: Worker) -> None:
        self._loop = asyncio.get_running_loop()
        self._worker = worker
        self._jobs: list[_Job] = []
        self._closed = False

    async def do(self, work: Callable[[Any], T], *, quick: bool = False) -> T:
        if self._closed:
            raise _closed()
        job = _Job(work, self._loop.create_future())
        if not self._jobs:
            self._loop.call_soon(self._run)
        self._jobs.append(job)
        return cast("T", await job.future)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._run()
            self._worker.close()

    def _run(self) -> None:
        jobs, self._jobs = self._jobs, []
        if jobs:
            _settle(jobs, self._worker.run([job.work for job in jobs]))


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        # The loop is closed, so nobody waits any more. The thread must go on: what was handed over still has to be written.
        pass


def _settle(jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.future.done():
            continue  # its caller was cancelled
        match outcome:
            case Done(value):
                job.future.set_result(value)
            case Failed(error):
                job.future.set_exception(error)


def _closed() -> StoreError:
    return StoreClosed("The store is closed: the server is stopping.", hint="Ask again once the server is up.", code="server_stopping")
