"""Callers that wait for a slot: in order, without a trace when they leave, and not for ever."""

from __future__ import annotations

import pytest

from roost.server.settings import Settings
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World
from tests.sim.conftest import Another

SECOND = Script(answer=always(Answer(after_ms=1_000)))


async def test_waiting_callers_are_served_in_the_order_in_which_they_came(world: World) -> None:
    await world.app(SECOND, max_concurrency=1)
    calls = [world.call(f"/me/app/{number}") for number in range(5)]
    for call in calls:
        await call
    assert [call.path for call in world.backend.received] == ["/0", "/1", "/2", "/3", "/4"]


async def test_a_newcomer_does_not_overtake_who_waits(world: World) -> None:
    await world.app(SECOND, max_concurrency=1)
    await world.call("/me/app/first")
    busy, waits = await world.calls(2)
    await busy
    late = world.call("/me/app/late")
    assert not waits.done
    await waits
    await late
    assert world.backend.received[-1].path == "/late"


async def test_who_was_answered_busy_keeps_its_place(world: World) -> None:
    await world.app(SECOND, max_concurrency=1, max_multiplexing=2)
    await world.call()
    (runner,) = world.running()
    runner.occupy()
    runner.occupy()
    calls = [world.call(f"/me/app/{number}") for number in range(4)]
    await world.advance(0.05)
    runner.vacate()
    for call in calls:
        await call
    assert [call.path for call in world.backend.received[1:]] == ["/0", "/1", "/2", "/3"]


async def test_a_caller_that_hangs_up_while_it_waits_never_reaches_a_runner(world: World) -> None:
    await world.app(SECOND, max_concurrency=1)
    leaving = world.call("/me/app/leaving")
    staying = world.call("/me/app/staying")
    await world.advance(0.5)
    leaving.hang_up()
    await world.settle()
    assert leaving.done and world.waiting() == 1
    await staying
    assert [call.path for call in world.backend.received] == ["/staying"]
    assert world.waiting() == 0 and world.in_flight() == 0


async def test_when_the_only_caller_leaves_its_runner_is_left_to_the_rule_of_the_unused(world: World) -> None:
    await world.app()
    call = world.call()
    await world.advance(0.5)
    call.hang_up()
    await world.advance(1)
    assert await world.states() == ["IDLE"]
    await world.advance(10)
    assert world.running() == []


async def test_a_caller_that_leaves_during_its_call_is_told_to_the_app_first_by_cancel_then_by_the_connection(world: World) -> None:
    await world.app(Script(answer=lambda call: Answer() if call.path.endswith("/cancel") else Answer(after_ms=60_000, minds_caller=True)))
    call = world.call("/me/app/predict")
    await world.advance(2)
    call.hang_up()
    await world.settle()
    work, cancel = world.backend.received
    assert (cancel.path, cancel.head.method, cancel.bypass) == ("/predict/cancel", "POST", True)
    assert cancel.request_id == work.request_id and cancel.runner_id == work.runner_id
    assert not work.bypass
    assert world.in_flight() == 0 and world.running()[0].slots.in_use == 0


async def test_the_slot_of_a_caller_that_left_is_free_only_when_the_code_has_ended(world: World) -> None:
    await world.app(
        Script(answer=lambda call: Answer(404) if call.path.endswith("/cancel") else Answer(after_ms=10_000)), max_concurrency=1
    )
    call = world.call()
    await world.advance(2)
    call.hang_up()
    await world.advance(1)
    assert world.in_flight() == 1
    second = world.call()
    await world.advance(1)
    assert not second.done
    assert (await second).status == 200
    assert world.in_flight() == 0


async def test_an_answer_is_complete_before_its_slot_is_free(world: World) -> None:
    await world.app(Script(answer=always(Answer(linger_ms=3_000))), max_concurrency=1)
    await world.call()
    assert world.in_flight() == 1
    assert (await world.call()).ms == 3_000


async def test_a_cancel_handler_that_hangs_delays_the_disconnect_by_five_seconds_only(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=600_000, minds_caller=True))))
    call = world.call()
    await world.advance(2)
    call.hang_up()
    await world.advance(4.9)
    assert world.in_flight() == 1
    await world.advance(0.2)
    assert world.in_flight() == 0


async def test_more_callers_than_may_wait_are_refused_at_once(another: Another) -> None:
    tight = await another(Settings(max_waiting=2))
    await tight.app(SECOND, max_concurrency=1)
    calls = await tight.calls(3)
    reply = await calls[2]
    assert (reply.status, reply.error_type, reply.headers["retry-after"], reply.ms) == (429, "concurrent_requests_limit", "1", 0)
    assert [(await call).status for call in calls[:2]] == [200, 200]


@pytest.mark.parametrize("header", ["soon", "0", "0.1", "-3", "nan", ""])
async def test_a_malformed_start_deadline_is_refused(world: World, header: str) -> None:
    await world.app()
    reply = await world.call(headers={"X-Fal-Request-Timeout": header})
    assert (reply.status, reply.error_type) == (400, "bad_request")
    assert world.waiting() == 0


async def test_a_start_deadline_that_passes_is_the_callers_own_timeout(world: World) -> None:
    await world.app(Script(setup_ms=60_000))
    reply = await world.call(headers={"X-Fal-Request-Timeout": "2.5"})
    assert (reply.status, reply.error_type, reply.ms) == (504, "request_timeout", pytest.approx(2_500, abs=5))
    assert reply.headers["x-fal-request-timeout-type"] == "user"
    assert world.waiting() == 0


async def test_a_start_deadline_says_nothing_about_the_length_of_the_call(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=30_000))))
    assert (await world.call(headers={"X-Fal-Request-Timeout": "2"})).status == 200
