"""A declared health check: who may be routed to a runner, how often it is asked, and what ends it (spec: app-lifecycle.md §4, §6)."""

from __future__ import annotations

import itertools

import pytest

from roost.core.model import DeployPlan, RevisionState
from roost.testkit.runner import FakeRunner
from roost.testkit.script import FOREVER, Answer, Health, Script, always
from roost.testkit.world import World
from roost.wire.spec import HealthCheckSpec

CHECK = HealthCheckSpec("/ready")
YOUNG_MS = 30_000
"""The start period, with a startup_timeout that is not longer."""
ASKS = Answer(headers=((b"x-fal-runner-health-check", b"true"),))


def well_after(times: int) -> Health:
    return lambda nth: Answer(503 if nth < times else 200)


def sick_after(times: int, answer: Answer = Answer(500)) -> Health:
    return lambda nth: Answer() if nth < times else answer


async def sick_app(world: World, health: Health, check: HealthCheckSpec = CHECK) -> FakeRunner:
    """An app whose first runner answers as `health` says, and later ones well. The first is ready and stays."""
    await world.app(Script(health=health), Script(), health_check=check, min_concurrency=1, startup_timeout_ms=YOUNG_MS)
    await world.call()
    (runner,) = world.running()
    return runner


async def reasons(world: World) -> list[str]:
    return [runner.reason for runner in await world.ended()]


# readiness


async def test_callers_wait_until_the_check_answers_well(world: World) -> None:
    await world.app(Script(health=well_after(10)), health_check=CHECK)
    call = world.call()
    await world.advance(5)
    assert await world.states() == ["SETUP"] and not call.done
    reply = await call
    # 1 s until setup() has ended, then ten checks that fail.
    assert (reply.status, reply.ms) == (200, pytest.approx(6_000, abs=50))
    (runner,) = world.running()
    assert {later - earlier for earlier, later in itertools.pairwise(runner.checked_ms)} == {500}


async def test_a_check_that_is_well_at_once_costs_nearly_nothing(world: World) -> None:
    await world.app(health_check=CHECK)
    assert (await world.call()).ms == pytest.approx(1_000, abs=20)


async def test_an_app_that_declares_none_is_never_asked(world: World) -> None:
    await world.app(Script(health=always_sick), min_concurrency=1)
    assert (await world.call()).ms == pytest.approx(1_000, abs=20)
    await world.advance(1_000)
    (runner,) = world.running()
    assert runner.checked_ms == []


def always_sick(nth: int) -> Answer:
    return Answer(503)


async def test_one_that_never_becomes_well_is_a_failed_start_that_says_what_it_answered(world: World) -> None:
    await world.app(Script(health=always_sick), Script(), health_check=CHECK, startup_timeout_ms=20_000)
    assert (await world.call()).status == 200
    assert await reasons(world) == [
        "its health check did not answer well within startup_timeout 20 s; the last time POST /ready answered 503"
    ]
    # A failed start: the next one came after the pause.
    assert world.backend.started_ms[1] - world.backend.started_ms[0] >= 50_000


async def test_a_check_that_hangs_is_asked_again_when_its_time_is_over(world: World) -> None:
    await world.app(Script(health=lambda nth: Answer(after_ms=FOREVER if nth < 2 else 0)), health_check=CHECK)
    assert (await world.call()).ms == pytest.approx(11_000, abs=50)


async def test_callers_are_told_what_the_check_answered(world: World) -> None:
    await world.app(Script(health=always_sick), health_check=CHECK, startup_timeout_ms=20_000)
    reply = await world.call()
    assert (reply.status, reply.error_type) == (504, "startup_timeout")
    assert "POST /ready answered 503" in reply.detail


async def test_a_deploy_whose_check_fails_leaves_the_alias_where_it_was(world: World) -> None:
    first = await world.deploy(health_check=CHECK)
    second = await world.deploy(Script(health=always_sick), health_check=CHECK, startup_timeout_ms=20_000)
    assert second.state is RevisionState.FAILED and "POST /ready answered 503" in second.reason
    alias = await world.alias()
    assert alias is not None and alias.revision_id == first.id


async def test_a_deploy_switches_when_the_check_answers_well(world: World) -> None:
    await world.deploy(health_check=CHECK)
    began_ms = world.clock.now_ms()
    revision = await world.deploy(Script(health=well_after(20)), health_check=CHECK, plan=DeployPlan(auth="public"))
    assert revision.state is RevisionState.DEPLOYED
    assert world.clock.now_ms() - began_ms >= 11_000


# regular checks


async def test_three_failures_in_a_row_replace_the_runner(world: World) -> None:
    runner = await sick_app(world, sick_after(5))
    await world.advance(150)
    assert await reasons(world) == ["its health check failed 3 times in a row, the last time because POST /ready answered 500"]
    (fresh,) = world.running()
    assert fresh.id != runner.id
    # The first four of these were well; one is asked every 15 s, whatever its answer.
    gaps = [later - earlier for earlier, later in itertools.pairwise(runner.checked_ms)]
    assert all(gap == pytest.approx(15_000, abs=50) for gap in gaps) and len(gaps) == 7
    kinds = [event.kind for event in await world.events(f"runner:{runner.id}")]
    assert kinds[-2:] == ["TERMINATING", "TERMINATED"]


async def test_failures_of_a_young_runner_are_not_counted(world: World) -> None:
    runner = await sick_app(world, sick_after(1), HealthCheckSpec("/ready", failure_threshold=1, start_period_ms=100_000))
    await world.advance(95)
    assert world.running() == [runner]
    await world.advance(20)
    assert runner not in world.running()


async def test_a_good_answer_in_between_keeps_it(world: World) -> None:
    runner = await sick_app(world, lambda nth: Answer(200 if nth % 3 == 0 else 500))
    await world.advance(1_000)
    assert world.running() == [runner] and await reasons(world) == []


async def test_an_answer_that_takes_too_long_is_a_failure(world: World) -> None:
    await sick_app(world, sick_after(4, Answer(after_ms=FOREVER)))
    await world.advance(150)
    assert (await reasons(world))[0].endswith("the last time because POST /ready did not answer within 5 s")


async def test_a_held_event_loop_is_a_failure(world: World) -> None:
    await world.app(Script(holds_loop=True), health_check=CHECK, startup_timeout_ms=20_000)
    assert "did not answer within 5 s, and its event loop is held" in (await world.call()).detail


async def test_a_busy_runner_is_asked_beside_its_calls(world: World) -> None:
    await world.app(
        Script(answer=always(Answer(after_ms=100_000)), health=sick_after(3)), Script(), health_check=CHECK, startup_timeout_ms=YOUNG_MS
    )
    reply = await world.call()
    # The call has the grace, and is cut off then.
    assert (reply.status, reply.error_type) == (503, "runner_disconnected")
    assert "health check failed 3 times" in (await reasons(world))[0]
    assert len(world.backend.received) == 1


async def test_a_runner_that_drains_finishes_its_calls_and_is_not_asked(world: World) -> None:
    old = await world.deploy(Script(answer=always(Answer(after_ms=200_000)), health=sick_after(2)), health_check=CHECK)
    call = world.call()
    await world.advance(1)
    (runner,) = world.running(old)
    await world.deploy()
    asked = len(runner.checked_ms)
    assert (await call).status == 200
    assert len(runner.checked_ms) == asked


async def test_without_call_regularly_it_is_asked_until_it_is_ready_and_no_more(world: World) -> None:
    runner = await sick_app(world, well_after(3), HealthCheckSpec("/ready", call_regularly=False))
    await world.advance(1_000)
    assert len(runner.checked_ms) == 4 and world.running() == [runner]


# when a response asks for it


async def test_a_response_that_asks_for_a_check_ends_a_sick_runner_at_once(world: World) -> None:
    await world.app(Script(answer=always(ASKS), health=sick_after(1)), Script(), health_check=CHECK, min_concurrency=1)
    reply = await world.call()
    assert reply.status == 200 and "x-fal-runner-health-check" not in reply.headers
    await world.advance(2)
    assert await reasons(world) == ["the app asked for a check with x-fal-runner-health-check, and POST /ready answered 500"]


async def test_a_queued_request_that_asks_for_a_check_does_too(world: World) -> None:
    await world.app(Script(answer=always(ASKS), health=sick_after(1)), Script(), health_check=CHECK, min_concurrency=1)
    assert (await world.finished(await world.submit())).status == 200
    await world.advance(2)
    assert len(await reasons(world)) == 1


async def test_a_healthy_runner_stays_however_often_it_is_asked_for_a_check(world: World) -> None:
    await world.app(Script(answer=always(ASKS)), health_check=CHECK, min_concurrency=1)
    for _ in range(100):
        await world.call()
        await world.advance(0.01)
    (runner,) = world.running()
    assert min(later - earlier for earlier, later in itertools.pairwise(runner.checked_ms)) >= 500
    assert len(runner.checked_ms) <= 5


async def test_an_app_that_declares_none_is_asked_at_its_usual_place(world: World) -> None:
    await world.app(Script(answer=always(ASKS), health=always_sick), Script(), min_concurrency=1)
    await world.call()
    await world.advance(2)
    assert await reasons(world) == ["the app asked for a check with x-fal-runner-health-check, and GET /health answered 503"]


# a runner of an older version


async def test_a_runner_that_cannot_be_asked_is_ready_after_setup_and_is_pinged_instead(world: World) -> None:
    old = Script(answer=always(ASKS), knows_health=False)
    await world.app(old, health_check=CHECK, min_concurrency=1, startup_timeout_ms=YOUNG_MS)
    assert (await world.call()).ms == pytest.approx(1_000, abs=20)
    await world.advance(200)
    (runner,) = world.running()
    assert runner.checked_ms == [] and await reasons(world) == []


async def test_one_that_cannot_be_asked_and_does_not_answer_a_ping_goes(world: World) -> None:
    old = Script(answer=always(ASKS), knows_health=False, holds_loop=True)
    await world.app(old, Script(), health_check=CHECK, min_concurrency=1)
    await world.call()
    await world.advance(10)
    assert "its event loop did not answer within 5 s" in (await reasons(world))[0]


# the server ends, the runners do not


async def test_a_server_that_was_suspended_blames_nobody_for_its_own_sleep(world: World) -> None:
    check = HealthCheckSpec("/ready", failure_threshold=1)
    runner = await sick_app(world, lambda nth: Answer(after_ms=0 if nth == 0 else 3_000), check)
    await world.advance(61)
    assert world.clock.now_ms() - runner.checked_ms[-1] < 3_000, "a question is under way"
    world.clock.forward(60)
    await world.advance(100)
    assert world.running() == [runner] and await reasons(world) == []


async def test_a_crash_of_the_server_forgets_failures_and_the_next_one_goes_on_asking(world: World) -> None:
    runner = await sick_app(world, lambda nth: Answer(200 if nth < 3 or nth > 6 else 500))
    await world.advance(65)
    assert len(runner.checked_ms) == 5
    await world.crash()
    await world.advance(20)
    await world.start_server()
    asked = len(runner.checked_ms)
    await world.advance(200)
    assert world.running() == [runner] and await reasons(world) == []
    assert len(runner.checked_ms) - asked >= 12


async def test_a_runner_that_waits_for_its_check_is_taken_up_by_the_next_server(world: World) -> None:
    await world.app(Script(health=well_after(20)), health_check=CHECK)
    await world.submit()
    await world.advance(3)
    await world.crash()
    await world.start_server()
    await world.advance(15)
    (runner,) = world.running()
    assert len(runner.checked_ms) >= 21 and len(world.backend.launches) == 1
    assert (await world.call()).status == 200


async def test_a_planned_restart_ends_nobody_and_the_new_server_asks(world: World) -> None:
    runner = await sick_app(world, sick_after(8))
    await world.hand_over()
    await world.advance(40)
    assert world.running() == [runner] and len(runner.checked_ms) in (3, 4)
    await world.advance(150)
    assert (await reasons(world))[0].startswith("its health check failed 3 times in a row")


async def test_a_restart_in_the_middle_of_getting_ready_costs_no_call(world: World) -> None:
    await world.app(Script(health=well_after(10)), health_check=CHECK)
    call = world.call()
    await world.advance(3)
    await world.hand_over()
    assert (await call).status == 200
    assert len(world.backend.launches) == 1
