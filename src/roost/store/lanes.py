"""From the event loop to a database connection and back: works queue up in a lane, and whatever queued up is run together.

A lane knows no SQL and a worker knows no asyncio. `ThreadLane` gives each worker a thread of its own, because a write to disk blocks.
`LoopLane` runs its one worker on the event loop itself: right for a database in memory, and under a virtual clock the only way that
time stands still while the store works.
"""

from __future__ import annotations

import asyncio
import threading
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


class Lane(Protocol):
    async def do(self, work: Callable[[Any], T]) -> T: ...

    async def close(self) -> None:
        """Run what is queued, close the workers, come back. Closing twice is fine."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Work
    future: asyncio.Future[Any]


class ThreadLane:
    """One queue, one thread for each worker. A worker takes up to `together` waiting works at once."""

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

    async def do(self, work: Callable[[Any], T]) -> T:
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
                self._on_loop(_settle, jobs, worker.run([job.work for job in jobs]))
        worker.close()
        self._on_loop(ended.set_result, None)

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

    def _on_loop(self, call: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            # The loop is closed, so nobody waits any more. The thread must go on: what was handed over still has to be written.
            pass


class LoopLane:
    """One worker, on the event loop: what one turn of the loop queued up is run together at the start of the next."""

    def __init__(self, worker: Worker) -> None:
        self._loop = asyncio.get_running_loop()
        self._worker = worker
        self._jobs: list[_Job] = []
        self._closed = False

    async def do(self, work: Callable[[Any], T]) -> T:
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
