from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from roost.store.errors import StoreClosed
from roost.store.lanes import Done, LoopLane, Outcome, ThreadLane, Work


class Notebook:
    """A worker that notes its batches and on which thread it ran; it does not begin before it is let go."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.go = threading.Event()
        self.closed = 0

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        self.go.wait()
        self.batches.append(len(works))
        self.threads.add(threading.get_ident())
        return [Done(work(None)) for work in works]

    def close(self) -> None:
        self.closed += 1


async def test_a_thread_takes_no_more_than_it_may_take_together() -> None:
    notebook = Notebook()
    lane = ThreadLane("test", [notebook], 4)
    waiting = [asyncio.ensure_future(lane.do(lambda _, n=n: n)) for n in range(10)]
    await asyncio.sleep(0)
    notebook.go.set()
    assert await asyncio.gather(*waiting) == list(range(10))
    assert max(notebook.batches) <= 4 and sum(notebook.batches) == 10
    assert notebook.threads.isdisjoint({threading.get_ident()})
    await lane.close()
    await lane.close()
    assert notebook.closed == 1
    with pytest.raises(StoreClosed):
        await lane.do(lambda _: 1)


async def test_a_close_that_is_cancelled_can_be_waited_for_again() -> None:
    notebook = Notebook()
    lane = ThreadLane("test", [notebook], 4)
    work = asyncio.ensure_future(lane.do(lambda _: "done"))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(lane.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    notebook.go.set()
    await lane.close()
    assert (await work, notebook.closed) == ("done", 1)


def test_works_that_were_handed_over_are_run_even_if_their_loop_has_ended() -> None:
    notebook = Notebook()
    ran: list[int] = []

    async def leave_in_a_hurry() -> ThreadLane:
        lane = ThreadLane("test", [notebook], 4)
        waiting = [asyncio.ensure_future(lane.do(lambda _, n=n: ran.append(n))) for n in range(6)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        return lane

    lane = asyncio.run(leave_in_a_hurry())
    notebook.go.set()
    lane._jobs.put(None)
    lane._threads[0].join()
    assert ran == list(range(6))


async def test_the_loop_runs_what_one_turn_queued_up_on_its_own_thread_at_the_next() -> None:
    notebook = Notebook()
    notebook.go.set()
    lane = LoopLane(notebook)
    assert await asyncio.gather(*(lane.do(lambda _, n=n: n) for n in range(5))) == list(range(5))
    assert await lane.do(lambda _: "alone") == "alone"
    assert (notebook.batches, notebook.threads) == ([5, 1], {threading.get_ident()})
    await lane.close()
    await lane.close()
    assert notebook.closed == 1
