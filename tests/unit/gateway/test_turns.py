"""Slots between callers and the durable queue: whose turn it is, and what a grant that comes to nothing does."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator

import pytest

from roost.core.admission import Deadline, Limits
from roost.core.model import Alias, Scale
from roost.core.requests import Again, Request
from roost.demand.board import Board
from roost.demand.queue import Queue
from roost.gateway.resolve import Routes
from roost.gateway.slots import Slots
from roost.link.connection import CallConnection
from roost.link.directory import Directory, Entry
from roost.wire.errors import RoostError
from tests.unit.demand.queues import APP, NOW, Bench, new

WHENEVER = Deadline(None)


class Desk:
    """Slots with a queue whose requests are taken by the test."""

    def __init__(self, bench: Bench) -> None:
        async def load() -> list[Alias]:
            return [Alias("me", "app", "main", "rev", "public", Scale(), False, None, 0, 0)]

        self.bench = bench
        self.queue: Queue = bench.queue
        self.directory = Directory()
        self.board = Board()
        self.routes = Routes(load)
        self.slots = Slots(self.directory, self.board, self.routes, Limits(), lambda: bench.now_ms)
        self.slots.queue, self.slots.grant = self.queue, self.granted
        self.queue.on_ready = self.slots.pump
        self.grants: list[tuple[str, Request]] = []
        self.refused: list[str] = []
        self.unfit: set[str] = set()

    def granted(self, application: str, entry: Entry) -> bool:
        request = self.queue.next(application, self.bench.now_ms) if entry.runner_id not in self.unfit else None
        if request is None:
            self.refused.append(entry.runner_id)
            return False
        self.grants.append((entry.runner_id, request))
        return True

    def runner(self, name: str, slots: int = 1, hints: tuple[str, ...] = ()) -> Entry:
        connection = CallConnection(name, self.directory.going_away, self.directory.lost, lambda connection, calls: None)
        entry = self.directory.add(name, "rev", slots, connection, 0)
        entry.hints = hints
        return entry

    def call(self) -> asyncio.Task[Entry]:
        route = self.routes.of_application(APP)
        assert route is not None
        take = self.slots.take(route, WHENEVER, place=self.slots.arrive(), since_ms=NOW)
        return asyncio.get_running_loop().create_task(take)

    @property
    def granted_ids(self) -> list[str]:
        return [request.id for _, request in self.grants]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    bench = await Bench.open()
    desk = Desk(bench)
    await desk.routes.refresh()
    yield desk
    await bench.store.close()


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_submit_is_granted_a_free_slot_at_once(desk: Desk) -> None:
    entry = desk.runner("a")
    await desk.bench.submit("x")
    assert desk.granted_ids == ["x"]
    assert (entry.in_flight, entry.served, desk.board.line(APP).in_flight) == (1, 1, 1)


async def test_there_are_no_more_grants_than_requests(desk: Desk) -> None:
    desk.runner("a", slots=8)
    await desk.bench.submit("x", "y")
    assert desk.granted_ids == ["x", "y"] and desk.refused == []


async def test_a_slot_that_comes_free_goes_to_the_next_request(desk: Desk) -> None:
    entry = desk.runner("a")
    await desk.bench.submit("x", "y")
    desk.slots.give_back(APP, entry, queued=True)
    assert desk.granted_ids == ["x", "y"]


async def test_a_slot_that_both_want_goes_to_who_had_less(desk: Desk) -> None:
    entry = desk.runner("a")
    await desk.bench.submit("x", "y")
    caller = desk.call()
    await turn()
    desk.bench.now_ms += 50
    desk.slots.give_back(APP, entry, queued=True)
    assert desk.granted_ids == ["x"]
    assert await caller is entry
    waiting = desk.call()
    await turn()
    desk.bench.now_ms += 60
    desk.slots.give_back(APP, entry)
    assert desk.granted_ids == ["x", "y"]
    waiting.cancel()
    await turn()


@pytest.mark.parametrize(("slots", "call_ms", "job_ms"), [(1, 10, 10), (1, 10, 300), (2, 40, 1_000), (3, 400, 15), (4, 20, 500)])
async def test_with_both_backlogged_each_gets_about_half_of_the_time(desk: Desk, slots: int, call_ms: int, job_ms: int) -> None:
    entry = desk.runner("a", slots=slots)
    submitted = 0
    callers: list[asyncio.Task[Entry]] = []
    ends: list[tuple[int, int, bool]] = []
    time = {True: 0, False: 0}
    for number in range(600):
        while desk.queue.ready(APP) < 3:
            submitted += 1
            await desk.queue.submit(new(f"req-{submitted}"))
        while len(desk.board.line(APP).waiting) < 3:
            callers.append(desk.call())
            await turn()
        for _ in range(len(desk.grants)):
            desk.grants.pop()
            heapq.heappush(ends, (desk.bench.now_ms + job_ms, number, True))
        for caller in [caller for caller in callers if caller.done()]:
            callers.remove(caller)
            heapq.heappush(ends, (desk.bench.now_ms + call_ms, number, False))
        assert len(ends) == slots
        desk.bench.now_ms, _, queued = heapq.heappop(ends)
        time[queued] += job_ms if queued else call_ms
        desk.slots.give_back(APP, entry, queued=queued)
        await turn()
    for caller in callers:
        caller.cancel()
    await turn()
    assert 0.4 <= time[True] / (time[True] + time[False]) <= 0.6


async def test_callers_alone_are_not_measured(desk: Desk) -> None:
    entry = desk.runner("a")
    await desk.call()
    assert desk.board.line(APP).shares is None
    await desk.bench.submit("x")
    assert desk.board.line(APP).shares is not None
    desk.slots.give_back(APP, entry)
    desk.slots.give_back(APP, entry, queued=True)
    assert desk.granted_ids == ["x"]
    assert desk.board.line(APP).shares is None


async def test_a_runner_that_the_queue_does_not_want_stays_free_for_callers(desk: Desk) -> None:
    entry = desk.runner("a")
    desk.unfit.add("a")
    await desk.bench.submit("x")
    assert desk.refused == ["a"]
    assert (entry.in_flight, entry.served, desk.board.line(APP).in_flight) == (0, 0, 0)
    assert await desk.call() is entry


async def test_another_runner_is_offered_when_one_is_not_wanted(desk: Desk) -> None:
    desk.runner("a")
    desk.runner("b")
    desk.unfit.add("a")
    await desk.bench.submit("x", "y")
    assert [runner_id for runner_id, _ in desk.grants] == ["b"]
    assert desk.refused.count("a") == len(desk.refused) <= 2


async def test_a_grant_that_ends_at_once_passes_its_slot_on(desk: Desk) -> None:
    entry = desk.runner("a")

    def give_up(application: str, entry: Entry) -> bool:
        request = desk.queue.next(application, NOW)
        assert request is not None
        desk.grants.append((entry.runner_id, request))
        desk.slots.give_back(application, entry, queued=True)
        return True

    desk.slots.grant = give_up
    await desk.bench.submit("x", "y", "z")
    assert desk.granted_ids == ["x", "y", "z"]
    assert (entry.in_flight, desk.board.line(APP).in_flight) == (0, 0)


async def test_a_request_goes_to_the_runner_that_knows_its_hint(desk: Desk) -> None:
    desk.runner("a")
    desk.runner("b", hints=("lora",))
    await desk.queue.submit(new("x", hint="lora"))
    assert [runner_id for runner_id, _ in desk.grants] == ["b"]


async def test_a_retry_goes_to_another_runner_if_there_is_one(desk: Desk) -> None:
    await desk.bench.submit("x")
    await desk.bench.start("x", "a")
    desk.runner("a")
    desk.runner("b")
    await desk.queue.requeue("x", 1, Again(None, "server_error", "503"))
    assert [runner_id for runner_id, _ in desk.grants] == ["b"]


async def test_a_server_that_hands_over_grants_nothing_any_more(desk: Desk) -> None:
    desk.slots.refuse_all(RoostError("server_stopping", "it stops"))
    desk.runner("a")
    await desk.bench.submit("x")
    assert desk.grants == []


async def test_queued_requests_are_demand_for_runners(desk: Desk) -> None:
    desk.board.queued = desk.queue.oldest
    await desk.bench.submit("x", "y", "z")
    caller = desk.call()
    await turn()
    assert desk.board.waiting_since(APP, 2) == (NOW, NOW, NOW)
    caller.cancel()
    await turn()
