"""A queued request that comes while a slot is free and nobody waits: accepted and begun in one write, sent with its reservation."""

from __future__ import annotations

from typing import Any

import pytest

from roost.core.requests import Claim, Content, Input, NewRequest, Priority, Request, RequestState, RetryRules
from roost.testkit.script import FOREVER, Answer, Script, always
from roost.testkit.world import World


async def warm(world: World, answer: Answer | None = None, **spec: Any) -> None:
    """An app whose only runner is there and free."""
    script = Script(answer=always(answer or Answer()))
    await world.app(script, script, **{"min_concurrency": 1, "max_concurrency": 1, "keep_alive_ms": 600_000, **spec})
    await world.advance(3)
    assert len(world.running()) == 1


async def timeline(world: World, request_id: str) -> list[tuple[str, int]]:
    return [(event.kind, event.at_ms) for event in await world.events(f"request:{request_id}")]


async def test_accepted_and_begun_are_one_write_and_the_result_another(world: World) -> None:
    await warm(world)
    before = world.server.store.stats().writes
    request_id = await world.submit(body=b"[1]")
    assert (await world.finished(request_id)).status == 200
    assert world.server.store.stats().writes - before == 2
    assert [kind for kind, _ in await timeline(world, request_id)] == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    (attempt,) = await world.attempts(request_id)
    assert (attempt.number, attempt.runner_id) == (1, (await world.runners())[0].id)
    (call,) = world.ran(request_id)
    assert call.body == b"[1]"
    assert (world.in_flight(), world.running()[0].keep.holds) == (0, False)


async def test_it_is_on_disk_before_the_runner_hears_of_it(world: World) -> None:
    await warm(world, Answer(after_ms=FOREVER))
    request_id = await world.submit()
    assert world.ran(request_id) == []
    request = await world.server.store.requests.get(request_id)
    assert request is not None and (request.state, request.attempt) == (RequestState.IN_PROGRESS, 1)
    await world.settle()
    assert len(world.ran(request_id)) == 1


async def test_nobody_overtakes_who_waits(world: World) -> None:
    await warm(world, Answer(after_ms=1_000))
    ids = await world.submits(3)
    await world.advance(1)
    ids += await world.submits(2)
    await world.advance(10)
    assert [call.request_id for call in world.backend.received] == ids


async def test_a_caller_who_waits_goes_before_a_newcomer(world: World) -> None:
    await warm(world, Answer(after_ms=1_000))
    first = world.call()
    await world.settle()
    second = world.call()
    await world.settle()
    request_id = await world.submit()
    assert (await world.request(request_id)).state is RequestState.IN_QUEUE
    assert [(await call).status for call in (first, second)] == [200, 200]
    assert (await world.finished(request_id)).status == 200


async def test_a_store_that_cannot_write_refuses_it_and_the_slot_is_free_again(world: World) -> None:
    await warm(world)
    await world.server.store.close()
    reply = await world.call(path="/_queue/me/app", body=b"{}")
    assert (reply.status, reply.headers["retry-after"], world.in_flight()) == (503, "1", 0)
    assert world.backend.received == []
    assert (await world.call()).status == 200


async def test_a_runner_that_turns_out_to_be_busy_costs_no_retry(world: World) -> None:
    await warm(world)
    (runner,) = world.running()
    runner.occupy()
    request_id = await world.submit()
    await world.advance(0.5)
    request = await world.request(request_id)
    assert (request.state, request.attempt, request.used, request.due_ms) == (RequestState.IN_QUEUE, 1, (), None)
    assert world.ran(request_id) == []
    runner.vacate()
    assert (await world.finished(request_id)).status == 200
    assert [attempt.number for attempt in await world.attempts(request_id)] == [1, 2]


async def test_a_runner_that_was_busy_lately_is_asked_before_anything_is_claimed(world: World) -> None:
    await warm(world)
    (runner,) = world.running()
    runner.occupy()
    await world.submit()
    second = await world.submit()
    await world.advance(9)
    assert (await world.request(second)).attempt == 0
    await world.server.store.close()
    runner.vacate()
    await world.advance(1)
    # Its reservation was given back: nothing could be claimed.
    assert (world.in_flight(), runner.slots.in_use, world.backend.received) == (0, 0, [])


async def test_one_that_was_cancelled_while_its_runner_refused_it_ends(world: World) -> None:
    await warm(world)
    (runner,) = world.running()
    runner.occupy()
    request_id = await world.submit()
    await world.cancel(request_id)
    reply = await world.finished(request_id)
    assert (reply.status, reply.error_type) == (499, "client_cancelled")
    runner.vacate()
    await world.advance(1)
    assert (world.ran(request_id), world.in_flight()) == ([], 0)


async def test_an_idempotency_key_is_one_request_and_a_known_one_takes_no_slot(world: World) -> None:
    await warm(world, Answer(after_ms=5_000), max_multiplexing=2)
    request_id = await world.submit(idempotency_key="k")
    assert await world.submit(idempotency_key="k") == request_id
    other = await world.call(path="/_queue/me/app", body=b"[]", headers={"idempotency-key": "k"})
    await world.settle()
    assert (other.status, len(world.ran(request_id)), world.in_flight()) == (422, 1, 1)
    assert (await world.finished(request_id)).status == 200
    assert await world.submit(idempotency_key="k") == request_id
    await world.settle()
    assert (len(world.ran(request_id)), world.in_flight()) == (1, 0)


@pytest.mark.parametrize("runner_lives", [True, False])
async def test_a_server_that_ends_between_the_write_and_the_sending_leaves_it_to_the_next(world: World, runner_lives: bool) -> None:
    await warm(world)
    (row,) = await world.runners()
    now_ms = world.clock.now_ms()
    await world.crash()
    new = NewRequest(a_request("ab" * 16, now_ms), Input("POST", b"/", b"", (), Content(2, b"{}")))
    await (await world.disk.store(world.clock)).requests.submit_and_claim(new, Claim("try-1", row.id, now_ms + 10_000), now_ms)
    if not runner_lives:
        world.running()[0].kill()
        await world.advance(0.1)
    await world.start_server()
    assert (await world.finished(new.request.id)).status == 200
    request = await world.request(new.request.id)
    assert (request.attempt, len(world.ran(request.id))) == (2, 1)


def a_request(id: str, now_ms: int) -> Request:
    return Request(
        *(0, id, "me", "app", "main", "anonymous", RequestState.IN_QUEUE, Priority.NORMAL),
        *(0, 0, (), now_ms, None, None, "", RetryRules(), True, "/", "POST"),
        gateway_request_id=id,
    )


async def test_fair_shares_hold_when_newcomers_begin_beside_callers(world: World) -> None:
    await warm(world, Answer(after_ms=100), max_multiplexing=4)
    requests = [await world.submit() for _ in range(2)]
    calls = await world.calls(2)
    await world.advance(0.05)
    requests += [await world.submit() for _ in range(20)]
    calls += await world.calls(20)
    await world.advance(0.5)
    queued = sum(1 for call in world.backend.received if call.request_id in requests)
    assert 0.4 <= queued / len(world.backend.received) <= 0.6
    await world.advance(5)
    assert [(await call).status for call in calls] == [200] * 22
    assert world.in_flight() == 0
