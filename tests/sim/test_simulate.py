"""What a server has lived through, replayed: with the same settings the past comes out as it was (issue 6, "Simulation")."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator

import pytest

from roost.core.model import Scale
from roost.core.whatif import Call, Lived, Past, measured, replayed
from roost.testkit.script import Answer, Received, Script
from roost.testkit.world import OWNER, World

SECONDS = 300
Trace = Callable[[random.Random], Iterator[tuple[float, int]]]
"""(when, how long it works in ms) of each call."""


def as_told(call: Received) -> Answer:
    """A handler that works as long as its caller says."""
    return Answer(after_ms=json.loads(call.body)["ms"])


def bursts(dice: random.Random) -> Iterator[tuple[float, int]]:
    for begin in range(0, SECONDS, 25):
        for _ in range(20):
            yield begin + dice.uniform(0, 0.2), dice.randrange(100, 900)


def steady(dice: random.Random) -> Iterator[tuple[float, int]]:
    at = dice.expovariate(3)
    while at < SECONDS:
        yield at, round(dice.lognormvariate(6.6, 0.6))
        at += dice.expovariate(3)


def on_off(dice: random.Random) -> Iterator[tuple[float, int]]:
    for begin in range(0, SECONDS, 30):
        for number in range(8):
            yield begin + number * dice.uniform(0.3, 1), dice.randrange(100, 500)


async def lived(world: World, name: str, trace: Trace, *, queued: bool = False) -> Past:
    """Make these calls, wait for their end, and read what is on record."""
    since_ms = world.clock.now_ms()
    for at_s, ms in trace(random.Random(7)):
        path, body = f"/{OWNER}/{name}", b'{"ms": %d}' % ms
        # Each second one through the queue, if any.
        made = f"/_queue{path}" if queued and ms % 2 else path
        world.later(at_s, lambda made=made, body=body: world.call(made, body=body))
    await world.advance(SECONDS + 60)
    await world.server.recording.round()
    until_ms = world.clock.now_ms()
    rows = [*await world.ended(), *await world.runners(name)]
    lives = tuple(Lived(row.created_ms, row.ready_ms, row.ended_ms) for row in rows)
    calls = tuple(world.server.traffic.read(f"{OWNER}/{name}", since_ms, until_ms, 10_000))
    return Past(since_ms, until_ms, calls, lives)


@pytest.mark.parametrize("queued", [False, True], ids=["direct", "half queued"])
@pytest.mark.parametrize(("trace", "keep_alive_s"), [(bursts, 60), (steady, 5), (on_off, 10)])
async def test_replayed_with_the_same_settings_the_past_comes_out_as_it_was(
    world: World, trace: Trace, keep_alive_s: int, queued: bool
) -> None:
    # Worlds share a folder: a name of its own for each.
    name = f"simulated-{trace.__name__.replace('_', '-')}-{int(queued)}-{int(world.over_http)}"
    scale = Scale(keep_alive_ms=keep_alive_s * 1_000, max_concurrency=4)
    scripts = (Script(answer=as_told, setup_ms=ms) for ms in (400, 1_500, 900))
    await world.app(*scripts, name=name, keep_alive_ms=scale.keep_alive_ms, max_concurrency=scale.max_concurrency)
    past = dataclasses.replace(await lived(world, name, trace, queued=queued), scale=scale)
    was, would = measured(past), replayed(past, scale)
    assert was.calls == would.calls == len(list(trace(random.Random(7)))) and would.unserved == 0
    assert was.wait_p95_ms > 200
    assert would.wait_p95_ms == pytest.approx(was.wait_p95_ms, rel=0.15)
    assert would.runner_ms == pytest.approx(was.runner_ms, rel=0.1)
    assert would.starts == pytest.approx(was.starts, rel=0.15, abs=1) and would.peak == was.peak


async def test_a_call_is_on_record_with_its_wait_and_the_time_that_it_held_its_slot(world: World) -> None:
    name = f"recorded-{int(world.over_http)}"
    await world.app(Script(answer=as_told), name=name)
    past = await lived(world, name, lambda dice: iter([(0.0, 300), (5.0, 200)]))
    first, second = past.calls
    assert first.wait_ms == pytest.approx(1_000, abs=20) and first.service_ms == 300
    assert second == Call(first.at_ms + 5_000, 0, 200)


async def test_a_call_that_no_runner_took_is_not_on_record(world: World) -> None:
    name = f"refused-{int(world.over_http)}"
    await world.app(Script(answer=as_told), name=name)
    reply = await world.call(f"/{OWNER}/{name}", body=b'{"ms": 1}', headers={"x-fal-request-timeout": "0.2"})
    assert reply.status == 504
    await world.server.recording.round()
    assert world.server.traffic.read(f"{OWNER}/{name}", 0, world.clock.now_ms() + 1, 10) == []
