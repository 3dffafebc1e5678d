from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from roost.store.errors import StoreClosed
from roost.store.lanes import CommitLane, Done, LoopLane, Outcome, ThreadLane, Work


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


class Ledger(Notebook):
    """A committer: notes its commits, which wait to be let go."""

    def __init__(self, held_by_another: int = 0) -> None:
        super().__init__()
        self.held_by_another = held_by_another
        self.begun: list[int] = []
        self.commits: list[int] = []
        self.begun_on: set[int] = set()

    def begin(self, works: Sequence[Work]) -> list[Outcome] | None:
        if self.held_by_another:
            self.held_by_another -= 1
            return None
        self.begun.append(len(works))
        self.begun_on.add(threading.get_ident())
        return [Done(work(None)) for work in works]

    def commit(self, outcomes: list[Outcome]) -> list[Outcome]:
        self.go.wait()
        self.commits.append(len(outcomes))
        self.threads.add(threading.get_ident())
        return outcomes


async def test_quick_works_of_one_turn_run_on_the_loop_and_are_committed_by_the_thread() -> None:
    ledger = Ledger()
    lane = CommitLane("test", ledger, 4)
    waiting = [asyncio.ensure_future(lane.do(lambda _, n=n: n, quick=True)) for n in range(6)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert (ledger.begun, ledger.commits) == ([4], [])
    assert not any(task.done() for task in waiting)
    ledger.go.set()
    assert await asyncio.gather(*waiting) == list(range(6))
    assert (ledger.begun, ledger.commits) == ([4, 2], [4, 2])
    here = {threading.get_ident()}
    assert ledger.begun_on == here and ledger.threads.isdisjoint(here)
    await lane.close()
    await lane.close()
    assert ledger.closed == 1
    with pytest.raises(StoreClosed):
        await lane.do(lambda _: 1, quick=True)


async def test_quick_and_long_works_keep_their_order_and_never_share_a_commit() -> None:
    ledger = Ledger()
    ledger.go.set()
    lane = CommitLane("test", ledger, 4)
    order: list[int] = []
    kinds = (True, True, False, False, True, False)
    await asyncio.gather(*(lane.do(lambda _, n=n: order.append(n), quick=quick) for n, quick in enumerate(kinds)))
    assert (order, ledger.begun, ledger.batches) == (list(range(6)), [2, 1], [2, 1])
    await lane.close()


async def test_quick_works_go_to_the_thread_while_another_process_holds_the_database() -> None:
    ledger = Ledger(held_by_another=1)
    ledger.go.set()
    lane = CommitLane("test", ledger, 4)
    assert await lane.do(lambda _: "waited", quick=True) == "waited"
    assert await lane.do(lambda _: "at once", quick=True) == "at once"
    assert (ledger.batches, ledger.begun) == ([1], [1])
    await lane.close()


async def test_those_who_are_answered_put_their_next_works_into_the_next_commit() -> None:
    ledger = Ledger()
    lane = CommitLane("test", ledger, 10)

    async def twice() -> None:
        await lane.do(lambda _: None, quick=True)
        await lane.do(lambda _: None, quick=True)

    callers = [asyncio.ensure_future(twice()) for _ in range(3)]
    for _ in range(3):
        await asyncio.sleep(0)
    late = asyncio.ensure_future(lane.do(lambda _: None, quick=True))
    ledger.go.set()
    await asyncio.gather(*callers, late)
    assert ledger.commits == [3, 4]
    await lane.close()


async def test_a_lane_that_closes_commits_what_it_has() -> None:
    ledger = Ledger()
    lane = CommitLane("test", ledger, 1)
    waiting = [asyncio.ensure_future(lane.do(lambda _, n=n: n, quick=True)) for n in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(lane.close())
    await asyncio.sleep(0)
    ledger.go.set()
    await closing
    assert (await asyncio.gather(*waiting), ledger.closed) == ([0, 1, 2], 1)
