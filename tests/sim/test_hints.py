"""Hints of callers: which runner gets a call, on each of the three ways, and what callers are told of the one that served it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from roost.testkit.calling import Reply
from roost.testkit.script import Answer, Received, Script
from roost.testkit.world import World

Way = Callable[[World, str], Awaitable[Reply]]


async def direct(world: World, hint: str) -> Reply:
    world.over_http = False
    return await world.call(headers={"x-fal-runner-hint": hint} if hint else {})


async def short(world: World, hint: str) -> Reply:
    world.over_http = True
    return await world.call(headers={"x-fal-runner-hint": hint} if hint else {})


async def queued(world: World, hint: str) -> Reply:
    return await world.finished(await (world.submit(x_fal_runner_hint=hint) if hint else world.submit()))


WAYS = {"direct": direct, "short way": short, "queued": queued}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def servers(replies: list[Reply]) -> set[str]:
    return {reply.headers["x-fal-served-from"] for reply in replies}


@each_way
async def test_calls_with_one_hint_stay_on_one_runner_though_the_app_reports_none(world: World, way: Way) -> None:
    await world.app(min_concurrency=3)
    await world.advance(3)
    hinted = [await way(world, "lora-7") for _ in range(4)]
    assert len(servers(hinted)) == 1
    assert len(servers([await way(world, "") for _ in range(6)])) == 3
    # What had other calls in between is still where it was.
    assert servers([await way(world, "lora-7")]) == servers(hinted)


@each_way
async def test_a_hint_of_one_way_is_known_to_the_others(world: World, way: Way) -> None:
    await world.app(min_concurrency=3)
    await world.advance(3)
    first = await way(world, "lora-7")
    assert servers([await other(world, "lora-7") for other in WAYS.values()]) == servers([first])


@each_way
async def test_a_busy_match_is_not_waited_for(world: World, way: Way) -> None:
    await world.app(Script(answer=_slow_when_asked), min_concurrency=2, max_concurrency=2)
    await world.advance(3)
    first = await way(world, "lora-7")
    held = world.call(body=b"slow", headers={"x-fal-runner-hint": "lora-7"})
    await world.settle()
    other = await way(world, "lora-7")
    assert not held.done
    assert servers([other]).isdisjoint(servers([first])) and servers([await held]) == servers([first])


@each_way
async def test_callers_are_told_who_served_them_and_what_it_reported(world: World, way: Way) -> None:
    await world.app(Script(answer=lambda call: Answer(headers=((b"x-fal-runner-hints", b"sdxl,lora-7"),))))
    reply = await way(world, "")
    assert reply.headers["x-fal-served-from"] == world.backend.received[-1].runner_id
    assert reply.headers["x-fal-runner-hints"] == "sdxl,lora-7"


@each_way
async def test_the_app_does_not_see_the_hint(world: World, way: Way) -> None:
    await world.app()
    await way(world, "lora-7")
    assert world.backend.received[-1].header("x-fal-runner-hint") == ""


def _slow_when_asked(call: Received) -> Answer:
    return Answer(after_ms=5_000 if call.body == b"slow" else 0)
