"""Hours of calls while everything goes wrong: no direct call runs twice, everybody gets one answer, nothing is left taken."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from roost.testkit.calling import Calling
from roost.testkit.dialling import Dialling
from roost.testkit.script import Answer, Crash, Received, Script
from roost.testkit.world import World

CALLS = 600
MAXIMUM = 4


def moody(dice: random.Random) -> Callable[[Received], Answer | Crash]:
    """An app that mostly works."""

    def answer(call: Received) -> Answer | Crash:
        if call.bypass:
            return Answer(404)
        took = dice.choice((0, 5, 50, 400, 3_000))
        mood = dice.random()
        if mood < 0.01:
            return Crash(after_ms=took, head_first=dice.random() < 0.5)
        if mood < 0.02:
            return Answer(503, after_ms=took)
        if mood < 0.03:
            return Answer(500, after_ms=took)
        return Answer(after_ms=took, stream_ms=dice.choice((0, 0, 20)), linger_ms=dice.choice((0, 0, 100)), minds_caller=mood < 0.5)

    return answer


def mischief(world: World, dice: random.Random, calls: list[Calling | Dialling]) -> None:
    """One thing that goes wrong now and then."""
    runners = world.running()
    kind = dice.randrange(60)
    if kind == 0 and runners:
        dice.choice(runners).kill()
    elif kind == 1 and runners:
        dice.choice(runners).disconnect()
    elif kind == 2 and runners:
        dice.choice(runners).terminate()
    elif kind in (3, 4) and runners:
        runner = dice.choice(runners)
        if runner.slots.take():
            world.later(dice.choice((0.01, 0.5, 5)), runner.slots.give)
    elif kind in (5, 6, 7) and calls:
        dice.choice(calls).hang_up()


@pytest.mark.parametrize("seed", range(3))
async def test_under_kills_busies_disconnects_and_hang_ups_nothing_runs_twice_and_nothing_leaks(world: World, seed: int) -> None:
    dice = random.Random(seed)
    flaky = Script(setup_ms=300, setup_error="a bad day")
    script = Script(answer=moody(dice), setup_ms=300)
    scripts = [flaky if dice.random() < 0.05 else script for _ in range(200)] + [script]
    revision = await world.app(*scripts, max_concurrency=MAXIMUM, max_multiplexing=3, keep_alive_ms=20_000, request_timeout_ms=5_000)
    calls: list[Calling | Dialling] = []
    for _ in range(CALLS):
        calls.append(world.call())
        mischief(world, dice, calls[-20:])
        await world.advance(dice.choice((0, 0.001, 0.05, 0.3, 0.3, 2)))
        if dice.random() < 0.002:
            await world.advance(600)
    await world.advance(600)

    assert all(calling.done for calling in calls)
    replies = [await calling for calling in calls]
    assert all(reply.heads <= 1 for reply in replies)
    assert all(reply.complete or reply.broken or calling.left for calling, reply in zip(calls, replies, strict=True))
    ran = Counter(call.request_id for call in world.backend.received if not call.bypass)
    assert ran.most_common(1)[0][1] == 1
    assert sum(reply.status == 200 for reply in replies) > CALLS * 0.7
    assert world.in_flight() == 0 and world.waiting() == 0
    assert world.running() == [] and await world.states() == []
    assert world.backend.most[revision.id] <= MAXIMUM


async def test_after_a_crash_of_the_server_nothing_that_ran_runs_again(world: World) -> None:
    dice = random.Random(7)
    await world.app(Script(answer=moody(dice), setup_ms=300), max_concurrency=MAXIMUM, max_multiplexing=3)
    calls: list[Calling | Dialling] = []
    for number in range(400):
        calls.append(world.call())
        await world.advance(dice.choice((0, 0.001, 0.05, 0.3)))
        if number % 80 == 79:
            await world.crash()
            await world.advance(dice.choice((0, 0.2, 3)))
            await world.start_server()
    await world.advance(120)
    replies = [await calling for calling in calls]
    assert all(reply.complete or reply.broken for reply in replies)
    ran = Counter(call.request_id for call in world.backend.received if not call.bypass)
    assert ran.most_common(1)[0][1] == 1
    assert world.in_flight() == 0 and world.waiting() == 0 and world.running() == []
