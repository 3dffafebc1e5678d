"""The shape of every engine: woken by hints, never ended by an error, ended by `stop` whatever happens at that moment."""

from __future__ import annotations

import asyncio

from roost.kit.hints import Hints
from roost.kit.loop import Loop


class Rounds:
    """Counts rounds; each answers a pause longer than any test."""

    def __init__(self) -> None:
        self.count = 0
        self.fail = False

    async def __call__(self) -> float:
        self.count += 1
        if self.fail:
            raise RuntimeError("this round failed")
        return 3600.0


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_hint_makes_another_round():
    hints, rounds = Hints(), Rounds()
    loop = Loop("test", hints, ("topic",), rounds)
    loop.start()
    await turns()
    hints.give("topic")
    await turns()
    assert rounds.count == 2
    await loop.stop()


async def test_a_loop_that_is_hinted_and_stopped_in_the_same_turn_ends():
    hints, rounds = Hints(), Rounds()
    loop = Loop("test", hints, ("topic",), rounds)
    loop.start()
    await turns()
    hints.give("topic")
    stopping = asyncio.ensure_future(loop.stop())
    await turns()
    assert stopping.done()


async def test_an_error_in_a_round_is_counted_and_ends_nothing():
    hints, rounds = Hints(), Rounds()
    loop = Loop("test", hints, ("topic",), rounds)
    rounds.fail = True
    loop.start()
    await turns()
    rounds.fail = False
    hints.give("topic")
    await turns()
    assert (loop.errors, rounds.count) == (1, 2)
    await loop.stop()
