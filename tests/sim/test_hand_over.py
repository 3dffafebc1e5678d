"""A planned restart: the next server has what this one had, nothing runs twice, and nobody is told of an error (ARCHITECTURE §1, promise 3)."""

from __future__ import annotations

import pytest

from roost.core.requests import RequestState
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World


async def test_queued_calls_under_way_and_waiting_end_at_the_next_server_and_run_once(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=700))), max_concurrency=2, max_multiplexing=2)
    ids = await world.submits(20)
    for _ in range(3):
        await world.advance(1.5)
        await world.hand_over()
    for request_id in ids:
        reply = await world.finished(request_id)
        assert (reply.status, reply.body) == (200, b"ok")
        assert len(world.ran(request_id)) == 1
        assert (await world.request(request_id)).attempt == 1


async def test_the_old_server_leaves_alone_what_it_handed_over(world: World) -> None:
    """It lives on for a direct call, over whose end the runner's connections to it break."""
    await world.app(Script(answer=lambda call: Answer(after_ms=10_000 if call.body == b"direct" else 4_000)), max_multiplexing=2)
    direct = world.call(body=b"direct")
    await world.advance(2)
    request_id = await world.submit()
    await world.settle()
    old = world.server
    await world.hand_over()
    assert not direct.done
    (runner,) = world.running()
    runner.disconnect()
    reply = await world.finished(request_id)
    assert (reply.status, len(world.ran(request_id))) == (200, 1)
    assert not old.dispatch.loop.errors and not world.server.dispatch.loop.errors
    await world.advance(1)
    assert world.in_flight() == 0


async def test_a_direct_call_ends_on_the_server_that_took_it(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=5_000))))
    direct = world.call()
    await world.advance(2)
    await world.hand_over()
    assert (await direct).status == 200
    assert len(world.backend.received) == 1


async def test_callers_that_wait_are_served_by_the_next_server(world: World) -> None:
    await world.app(Script(setup_ms=3_000), max_concurrency=1)
    callers = await world.calls(3)
    await world.advance(1)
    await world.hand_over()
    assert [(await caller).status for caller in callers] == [200] * 3
    assert len(world.backend.launches) == 1


@pytest.mark.parametrize("down_ms", [0, 1, 2, 5, 400, 699, 700, 701])
async def test_a_hand_over_at_any_moment_of_a_request_costs_nothing(world: World, down_ms: int) -> None:
    await world.app(Script(answer=always(Answer(after_ms=700))), min_concurrency=1)
    await world.advance(3)
    request_id = await world.submit()
    await world.advance(down_ms / 1000)
    await world.hand_over()
    assert (await world.finished(request_id)).status == 200
    assert len(world.ran(request_id)) == 1
    await world.advance(1)
    assert (await world.request(request_id)).state is RequestState.COMPLETED
    assert not any(runner.keep.holds for runner in world.running())
