"""Handing out slots: what no whole server can be brought to do at the right moment."""

from __future__ import annotations

import asyncio

import pytest

from roost.core.admission import Deadline, Limits
from roost.core.model import Alias, Scale
from roost.demand.board import Board
from roost.gateway.resolve import Route, Routes
from roost.gateway.slots import Slots
from roost.link.connection import CallConnection
from roost.link.directory import Directory, Entry
from roost.wire.errors import RoostError

WHENEVER = Deadline(None)


class Desk:
    """Slots with one app and what stands around them."""

    def __init__(self, aliases: list[Alias]) -> None:
        async def load() -> list[Alias]:
            return self.aliases

        self.aliases = aliases
        self.directory = Directory()
        self.board = Board()
        self.routes = Routes(load)
        self.slots = Slots(self.directory, self.board, self.routes, Limits(), lambda: 0)

    @property
    def route(self) -> Route:
        route = self.routes.of_application("me/app")
        assert route is not None
        return route

    def runner(self, name: str, slots: int = 1) -> Entry:
        connection = CallConnection(name, self.directory.going_away, self.directory.lost, lambda connection, calls: None)
        return self.directory.add(name, "rev", slots, connection, 0)

    def ask(self, place: int | None = None) -> asyncio.Task[Entry]:
        chosen = self.slots.arrive() if place is None else place
        return asyncio.get_running_loop().create_task(self.slots.take(self.route, WHENEVER, place=chosen, since_ms=0))


@pytest.fixture
async def desk() -> Desk:
    desk = Desk([Alias("me", "app", "main", "rev", "public", Scale(), False, None, 0, 0)])
    await desk.routes.refresh()
    return desk


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_free_slot_is_taken_at_once(desk: Desk) -> None:
    entry = desk.runner("a")
    assert await desk.ask() is entry
    assert (entry.in_flight, entry.served, desk.board.line("me/app").in_flight) == (1, 1, 1)


async def test_a_caller_that_leaves_in_the_turn_of_its_slot_gives_it_to_the_next(desk: Desk) -> None:
    entry = desk.runner("a")
    await desk.ask()
    leaving, staying = desk.ask(), desk.ask()
    await turn()
    desk.slots.give_back("me/app", entry)
    leaving.cancel()
    await turn()
    assert leaving.cancelled()
    assert staying.done() and staying.result() is entry
    assert entry.in_flight == desk.board.line("me/app").in_flight == 1


async def test_a_caller_that_leaves_while_it_waits_is_not_in_the_line_any_more(desk: Desk) -> None:
    leaving = desk.ask()
    await turn()
    leaving.cancel()
    await turn()
    assert list(desk.board.line("me/app").waiting) == []


async def test_a_refused_caller_is_not_in_the_line_any_more(desk: Desk) -> None:
    waiting = desk.ask()
    await turn()
    desk.slots.refuse_all(RoostError("server_stopping", "it stops"))
    await turn()
    with pytest.raises(RoostError, match="it stops"):
        await waiting
    assert list(desk.board.line("me/app").waiting) == []


async def test_after_the_end_nobody_is_let_in(desk: Desk) -> None:
    desk.runner("a")
    desk.slots.refuse_all(RoostError("server_stopping", "it stops"))
    with pytest.raises(RoostError, match="it stops"):
        await desk.ask()


async def test_a_busy_runner_is_not_offered_to_the_next_in_line(desk: Desk) -> None:
    entry = desk.runner("a")
    place = desk.slots.arrive()
    await desk.ask(place)
    behind = desk.ask()
    await turn()
    desk.slots.give_back("me/app", entry, busy=True)
    again = desk.ask(place)
    await turn()
    assert not behind.done() and not again.done()
    assert (entry.served, entry.in_flight) == (0, 0)
    assert [waiter.place for waiter in desk.board.line("me/app").waiting] == [0, 1]
    behind.cancel()
    again.cancel()
    await turn()


async def test_a_busy_runner_is_asked_again_after_a_moment(desk: Desk) -> None:
    entry = desk.runner("a")
    place = desk.slots.arrive()
    await desk.ask(place)
    desk.slots.give_back("me/app", entry, busy=True)
    assert await asyncio.wait_for(desk.ask(place), 5) is entry


async def test_slots_go_round_the_runners(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        desk.runner(name, slots=2)
    assert [(await desk.ask()).runner_id for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


async def test_a_deleted_app_tells_those_who_wait(desk: Desk) -> None:
    waiting = desk.ask()
    await turn()
    desk.aliases.clear()
    await desk.routes.refresh()
    desk.slots.judge("me/app")
    with pytest.raises(RoostError, match="was deleted while the request waited"):
        await waiting
