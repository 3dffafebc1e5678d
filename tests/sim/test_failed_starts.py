"""Starts that fail: who is told what, how long until the next try, and what makes it good again."""

from __future__ import annotations

import itertools

import pytest

from roost.core.placement import Node
from roost.testkit.script import FOREVER, Answer, Script, always
from roost.testkit.world import World
from tests.sim.conftest import Another

BROKEN = Script(setup_error="ValueError: no weights")


async def test_after_three_failed_rounds_the_caller_hears_why(world: World) -> None:
    await world.app(BROKEN)
    reply = await world.call()
    assert (reply.status, reply.error_type) == (504, "startup_timeout")
    assert "3 starts in a row failed" in reply.detail and "ValueError: no weights" in reply.detail
    assert world.waiting() == 0


async def test_all_who_wait_hear_it_at_the_same_time(world: World) -> None:
    await world.app(BROKEN, max_concurrency=1)
    replies = [await call for call in await world.calls(5)]
    assert {(reply.status, reply.ms) for reply in replies} == {(504, replies[0].ms)}


async def test_the_pause_grows_by_thirty_seconds_up_to_ten_minutes(world: World) -> None:
    await world.app(BROKEN, min_concurrency=1)
    await world.advance(7_000)
    at = world.backend.started_ms
    pauses = [round((later - earlier - 1_000) / 1_000) for earlier, later in itertools.pairwise(at)]
    assert pauses[:4] == [30, 60, 90, 120]
    assert max(pauses) == pauses[-1] == 600


async def test_runners_that_fail_together_are_one_round(world: World) -> None:
    await world.app(BROKEN, max_concurrency=4)
    calls = await world.calls(4)
    await world.advance(5)
    assert len(world.backend.launches) == 4
    assert not any(call.done for call in calls)


async def test_after_a_pause_one_runner_finds_out_whether_the_cause_is_gone(world: World) -> None:
    await world.app(BROKEN, BROKEN, Script(), max_concurrency=2)
    calls = await world.calls(2)
    replies = [await call for call in calls]
    assert [reply.status for reply in replies] == [200, 200]
    assert len(world.backend.launches) == 3 or len(world.backend.launches) == 4
    assert world.backend.started_ms[2] - world.backend.started_ms[0] >= 30_000


async def test_a_success_forgets_the_failures_before_it(world: World) -> None:
    await world.app(BROKEN, BROKEN, Script(answer=always(Answer(503))), BROKEN, Script(), max_concurrency=1)
    await world.call()
    began = world.clock.now_ms()
    assert (await world.call()).status == 200
    # One failure in a row: a pause of 30 s, not of 90.
    assert world.clock.now_ms() - began < 40_000


async def test_a_setup_that_hangs_is_ended_by_startup_timeout(world: World) -> None:
    await world.app(Script(setup_ms=FOREVER), Script(), startup_timeout_ms=20_000)
    assert (await world.call()).status == 200
    (failed,) = await world.ended()
    assert "setup() did not end within startup_timeout 20 s" in failed.reason
    assert world.backend.started_ms[1] - world.backend.started_ms[0] >= 50_000


async def test_a_runner_that_never_dials_home_is_ended_by_startup_timeout(world: World) -> None:
    await world.app(Script(load_ms=FOREVER), Script(), startup_timeout_ms=20_000)
    await world.call()
    assert "the class was not loaded" in (await world.ended())[0].reason


async def test_a_process_that_dies_in_setup_is_named_by_its_signal(world: World) -> None:
    await world.app(Script(dies_in_setup=9))
    assert "signal 9 (SIGKILL)" in (await world.call()).detail


async def test_a_process_that_cannot_be_started_is_a_failed_start_with_its_reason(world: World) -> None:
    await world.app(Script(start_error="no more processes"))
    reply = await world.call()
    assert reply.status == 504 and "no more processes" in reply.detail
    assert await world.runners() == ()


async def test_during_the_pause_a_new_caller_is_told_at_once_and_when_to_come_back(world: World) -> None:
    await world.app(BROKEN)
    await world.call()
    reply = await world.call()
    assert (reply.status, reply.ms) == (504, 0)
    assert 80 < int(reply.headers["retry-after"]) <= 90


async def test_a_caller_of_an_app_with_a_busy_runner_is_not_told_of_failed_starts(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=150_000))), BROKEN, max_concurrency=2)
    await world.calls(1)
    await world.advance(1.5)
    second = world.call()
    assert (await second).status == 200


async def test_no_room_is_told_after_a_minute(another: Another) -> None:
    small = await another(node=Node(cpus=0.5, memory_mb=300))
    await small.app(Script(answer=always(Answer(after_ms=600_000))), machine_types=("XL",))
    reply = await small.call()
    assert (reply.status, reply.error_type, reply.ms) == (503, "runner_scheduling_failure", pytest.approx(60_000, abs=100))
    assert reply.headers["retry-after"] == "60"
    assert small.backend.launches == [] and small.waiting() == 0


async def test_room_that_comes_in_time_is_used(another: Another) -> None:
    small = await another(node=Node(cpus=0.25, memory_mb=4 * 1024))
    await small.app(Script(answer=always(Answer(after_ms=20_000))), name="first", machine_types=("L",), keep_alive_ms=1_000)
    await small.app(name="second", machine_types=("L",))
    first = small.call("/me/first")
    await small.advance(5)
    second = small.call("/me/second")
    assert (await first).status == 200
    assert (await second).status == 200
