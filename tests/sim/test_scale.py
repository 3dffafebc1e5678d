"""0 -> 1 -> n -> 0: when runners start, how many, and when they go (spec: scaling-routing.md §1-2)."""

from __future__ import annotations

import dataclasses

import pytest

from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World

SLOW = Script(answer=always(Answer(after_ms=5_000)))


async def test_a_deploy_that_recreates_starts_nothing_before_the_first_call(world: World) -> None:
    await world.app()
    await world.advance(5)
    assert world.backend.launches == []


async def test_a_call_wakes_a_runner_and_is_answered_when_it_is_ready(world: World) -> None:
    await world.app()
    reply = await world.call()
    assert (reply.status, reply.body) == (200, b"ok")
    assert 1_000 <= reply.ms < 1_050


async def test_a_call_to_a_ready_runner_waits_for_nothing(world: World) -> None:
    await world.app()
    await world.call()
    assert (await world.call()).ms == 0
    assert len(world.backend.launches) == 1


async def test_keep_alive_counts_from_the_end_of_the_last_call(world: World) -> None:
    await world.app(SLOW, keep_alive_ms=30_000)
    await world.call()
    await world.advance(20)
    await world.call()
    await world.advance(29.9)
    assert len(world.running()) == 1
    await world.advance(0.2)
    assert world.running() == [] and await world.states() == []
    assert [runner.reason for runner in await world.ended()] == ["drained"]


async def test_the_timeline_says_why_an_idle_runner_went(world: World) -> None:
    await world.app(keep_alive_ms=30_000)
    await world.call()
    await world.advance(31)
    (runner,) = await world.ended()
    told = [(event.kind, event.reason) for event in await world.events(f"runner:{runner.id}")]
    assert [kind for kind, _ in told] == ["PENDING", "SETUP", "IDLE", "DRAINING", "TERMINATING", "TERMINATED"]
    assert told[3][1] == "idle for 30 s: keep_alive is 30 s"


async def test_a_call_during_keep_alive_needs_no_start(world: World) -> None:
    await world.app(keep_alive_ms=30_000)
    for _ in range(10):
        await world.call()
        await world.advance(29)
    assert len(world.backend.launches) == 1


async def test_a_runner_that_was_never_called_goes_ten_seconds_after_it_was_ready(world: World) -> None:
    await world.deploy(keep_alive_ms=60_000)
    assert await world.states() == ["IDLE"]
    await world.advance(9.8)
    assert len(world.running()) == 1
    await world.advance(0.4)
    assert world.running() == []


async def test_a_runner_that_was_called_once_is_not_unused(world: World) -> None:
    await world.deploy(keep_alive_ms=60_000)
    await world.call()
    await world.advance(30)
    assert len(world.running()) == 1


async def test_min_concurrency_is_there_without_any_call_and_stays(world: World) -> None:
    await world.app(min_concurrency=2, keep_alive_ms=1_000)
    await world.advance(600)
    assert await world.states() == ["IDLE", "IDLE"]
    assert len(world.backend.launches) == 2


async def test_a_runner_below_min_concurrency_that_dies_is_replaced(world: World) -> None:
    await world.app(min_concurrency=2)
    await world.advance(5)
    world.running()[0].kill()
    await world.advance(2)
    assert await world.states() == ["IDLE", "IDLE"]


async def test_each_waiting_call_is_worth_a_runner(world: World) -> None:
    await world.app(SLOW, max_concurrency=10)
    calls = await world.calls(4)
    replies = [await call for call in calls]
    assert {reply.headers["x-fal-served-from"] for reply in replies} == {launch.runner_id for launch in world.backend.launches}
    assert len(world.backend.launches) == 4


async def test_max_concurrency_is_never_exceeded_and_everybody_is_answered(world: World) -> None:
    revision = await world.app(SLOW, max_concurrency=3)
    replies = [await call for call in await world.calls(12)]
    assert [reply.status for reply in replies] == [200] * 12
    assert world.backend.most[revision.id] == 3


async def test_slots_are_filled_before_more_runners_start(world: World) -> None:
    await world.app(SLOW, max_multiplexing=4, max_concurrency=10)
    for call in await world.calls(8):
        await call
    assert len(world.backend.launches) == 2


@pytest.mark.parametrize(("calls", "multiplexing", "starts"), [(200, 1, 10), (200, 50, 4), (200, 100, 2)])
async def test_a_burst_on_a_sleeping_app_starts_what_it_needs_and_all_are_answered(
    world: World, calls: int, multiplexing: int, starts: int
) -> None:
    await world.app(Script(answer=always(Answer(after_ms=200))), max_concurrency=10, max_multiplexing=multiplexing)
    replies = [await call for call in await world.calls(calls)]
    assert {reply.status for reply in replies} == {200}
    assert len(world.backend.launches) == starts
    assert len({call.request_id for call in world.backend.received}) == len(world.backend.received) == calls


async def test_scaling_delay_lets_a_short_wait_pass_without_a_start(world: World) -> None:
    await world.app(SLOW, scaling_delay_ms=10_000)
    first = world.call()
    await world.advance(11.5)
    second = world.call()
    assert (await first).status == (await second).status == 200
    assert len(world.backend.launches) == 1


async def test_scaling_delay_over_the_call_gets_a_runner_of_its_own(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=60_000))), scaling_delay_ms=10_000)
    await world.calls(2)
    await world.advance(9.9)
    assert world.backend.launches == []
    await world.advance(0.2)
    assert len(world.backend.launches) == 2


async def test_a_buffer_keeps_spare_runners_beside_the_busy_ones(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=60_000))), concurrency_buffer=2, max_concurrency=10)
    await world.advance(2)
    assert await world.states() == ["IDLE", "IDLE"]
    await world.calls(1)
    await world.advance(2)
    assert len(world.running()) == 3


async def test_after_a_burst_all_runners_go_again(world: World) -> None:
    await world.app(SLOW, max_concurrency=10, keep_alive_ms=30_000)
    for call in await world.calls(10):
        await call
    await world.advance(31)
    assert world.running() == [] and world.in_flight() == 0


async def test_an_hour_of_silence_starts_nothing(world: World) -> None:
    await world.app()
    await world.advance(3_600)
    assert world.backend.launches == []


async def test_a_higher_multiplexing_counts_for_runners_that_live(world: World) -> None:
    await world.app(SLOW, max_multiplexing=1, max_concurrency=1)
    await world.call()
    alias = await world.alias()
    assert alias is not None
    await world.server.store.apps.set_scale("me", "app", dataclasses.replace(alias.scale, max_multiplexing=3), world.clock.now_ms())
    for topic in ("apps", "fleet"):
        world.server.hints.give(topic)
    await world.settle()
    replies = [await call for call in await world.calls(3)]
    assert [reply.ms for reply in replies] == [5_000] * 3
