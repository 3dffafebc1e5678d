"""The durable queue's way from submit to result: who runs where, what is tried again, and who waits for whom."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from roost.core.requests import AttemptState, RequestState
from roost.engines.dispatch.attempt import Attempt
from roost.testkit.script import FOREVER, Answer, Crash, Handler, Received, Script, always
from roost.testkit.world import OWNER, World


def first(*replies: Answer | Crash, then: Answer | Crash | None = None) -> Handler:
    """Answers in this order, whoever asks; after them `then`."""
    left = itertools.chain(replies, itertools.repeat(then or Answer()))
    return lambda call: next(left)


async def test_a_submitted_request_wakes_a_runner_and_its_answer_is_the_result(world: World) -> None:
    await world.app()
    request_id = await world.submit(body=b'{"a": 1}')
    assert (await world.status(request_id))["status"] == "IN_QUEUE"
    await world.advance(2)
    assert (await world.status(request_id))["status"] == "COMPLETED"
    reply = await world.result(request_id)
    assert (reply.status, reply.body, reply.headers["x-fal-request-id"]) == (200, b"ok", request_id)
    (call,) = world.ran(request_id)
    assert (call.body, call.header("content-type")) == (b'{"a": 1}', "application/json")


async def test_it_is_in_progress_from_the_moment_at_which_its_bytes_go_to_a_runner(world: World) -> None:
    await world.app(Script(setup_ms=5_000, answer=always(Answer(after_ms=3_000))))
    request_id = await world.submit()
    await world.advance(4)
    assert (await world.status(request_id))["status"] == "IN_QUEUE"
    await world.advance(2)
    assert (await world.status(request_id))["status"] == "IN_PROGRESS"


async def test_an_answer_keeps_its_own_header_fields_and_loses_ours(world: World) -> None:
    fields = ((b"content-type", b"image/png"), (b"x-made-by", b"me"), (b"x-fal-stop-runner", b"0"), (b"connection", b"close"))
    await world.app(Script(answer=always(Answer(body=b"\x89PNG", headers=fields))))
    reply = await world.finished(await world.submit())
    assert (reply.headers["content-type"], reply.headers["x-made-by"]) == ("image/png", "me")
    assert "x-fal-stop-runner" not in reply.headers and reply.body == b"\x89PNG"


async def test_large_bodies_pass_both_ways(world: World) -> None:
    big = bytes(range(256)) * 4096
    await world.app(Script(answer=lambda call: Answer(body=call.body[::-1])))
    request_id = await world.submit(body=big)
    reply = await world.finished(request_id)
    assert reply.body == big[::-1]
    assert world.ran(request_id)[0].body == big


async def test_requests_of_one_app_are_served_in_the_order_in_which_they_came(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=100))), max_concurrency=1)
    ids = await world.submits(10)
    await world.advance(5)
    assert [call.request_id for call in world.backend.received] == ids


async def test_low_priority_waits_until_nobody_of_normal_priority_does(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=100))), max_concurrency=1)
    low = [await world.submit(x_fal_queue_priority="low") for _ in range(3)]
    normal = await world.submits(3)
    await world.advance(5)
    assert [call.request_id for call in world.backend.received] == normal + low


async def test_queued_requests_are_demand_for_runners(world: World) -> None:
    revision = await world.app(Script(answer=always(Answer(after_ms=60_000))), max_concurrency=3)
    await world.submits(8)
    await world.advance(5)
    assert len(world.running(revision)) == 3


async def test_a_runner_takes_as_many_as_it_multiplexes(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=1_000))), max_concurrency=1, max_multiplexing=4)
    await world.submits(8)
    await world.advance(1.5)
    assert len(world.backend.received) == 4
    await world.advance(5)
    assert len(world.backend.received) == 8


# --- tried again


async def test_a_503_is_tried_again_on_another_runner(world: World) -> None:
    await world.app(Script(answer=first(Answer(503))))
    request_id = await world.submit()
    reply = await world.finished(request_id)
    assert reply.status == 200
    calls = world.ran(request_id)
    assert len(calls) == 2 and calls[0].runner_id != calls[1].runner_id
    assert [attempt.state for attempt in await world.attempts(request_id)] == [AttemptState.FAILED, AttemptState.ANSWERED]


async def test_a_crash_in_the_middle_costs_one_attempt_and_not_the_request(world: World) -> None:
    await world.app(Script(answer=first(Crash(after_ms=500))))
    request_id = await world.submit()
    reply = await world.finished(request_id)
    assert reply.status == 200
    lost, taken = await world.attempts(request_id)
    assert (lost.condition, taken.state) == ("server_error", AttemptState.ANSWERED)
    assert "SIGSEGV" in lost.outcome
    assert taken.started_ms < lost.started_ms + 500 + 1_250 + 1_500


async def test_the_end_of_a_runner_is_noticed_within_a_second(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=FOREVER))), max_concurrency=1)
    request_id = await world.submit()
    await world.advance(3)
    world.running()[0].kill()
    await world.advance(1)
    assert (await world.request(request_id)).state is RequestState.IN_QUEUE


async def test_a_call_that_overruns_request_timeout_is_cut_and_tried_again(world: World) -> None:
    await world.app(Script(answer=first(Answer(after_ms=60_000))), request_timeout_ms=2_000)
    request_id = await world.submit()
    reply = await world.finished(request_id)
    assert reply.status == 200
    first_try, _ = await world.attempts(request_id)
    assert first_try.condition == "timeout" and first_try.ended_ms == first_try.started_ms + 2_000


async def test_a_request_that_wants_no_retry_ends_with_its_first_failure(world: World) -> None:
    await world.app(Script(answer=first(Crash())))
    request_id = await world.submit(x_fal_no_retry="1")
    reply = await world.finished(request_id)
    assert (reply.status, reply.error_type) == (503, "runner_disconnected")
    assert len(world.ran(request_id)) == 1


async def test_a_truncated_answer_is_no_answer(world: World) -> None:
    await world.app(Script(answer=first(Crash(head_first=True, after_ms=10))))
    request_id = await world.submit()
    reply = await world.finished(request_id)
    assert (reply.status, reply.body) == (200, b"ok")
    assert "runner_incomplete_response" in (await world.attempts(request_id))[0].outcome


async def test_ten_attempts_are_the_most(world: World) -> None:
    await world.app(Script(answer=always(Answer(503, body=b"busy"))))
    request_id = await world.submit()
    reply = await world.finished(request_id)
    assert (reply.status, reply.body) == (503, b"busy")
    assert len(world.ran(request_id)) == 10


async def test_waiting_out_a_backoff_blocks_nobody_behind(world: World) -> None:
    def reply(call: Received) -> Answer:
        return Answer(504) if call.body == b"bad" else Answer(after_ms=10)

    await world.app(Script(answer=reply), max_concurrency=1)
    bad = await world.submit(body=b"bad")
    await world.advance(1.5)
    assert (await world.request(bad)).due_ms is not None
    good = await world.submit(body=b"good")
    await world.advance(0.1)
    assert (await world.status(good))["status"] == "COMPLETED"


async def test_a_busy_runner_costs_no_attempt(world: World) -> None:
    await world.app(max_concurrency=1)
    await world.call()
    runner = world.running()[0]
    runner.occupy()
    newcomer, later = await world.submit(), await world.submit()
    await world.advance(1)
    # The first of them was sent with its reservation: that it began is on disk, and counts for nothing.
    assert [(await world.request(one)).attempt for one in (newcomer, later)] == [1, 0]
    assert (await world.request(newcomer)).used == ()
    runner.vacate()
    for request_id, attempt in ((newcomer, 2), (later, 1)):
        reply = await world.finished(request_id)
        assert reply.status == 200 and (await world.request(request_id)).attempt == attempt


async def test_starts_that_fail_are_no_attempts(world: World) -> None:
    await world.app(Script(setup_error="no"), Script(setup_error="no"), Script())
    request_id = await world.submit()
    reply = await world.finished(request_id)
    assert reply.status == 200 and (await world.request(request_id)).attempt == 1


# --- what ends a request besides its answer


async def test_a_start_deadline_that_passes_in_the_queue_ends_the_request_without_running_it(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=10_000))), max_concurrency=1)
    await world.submit()
    late = [await world.submit(x_fal_request_timeout="2") for _ in range(5)]
    await world.advance(2.1)
    for request_id in late:
        assert (await world.status(request_id))["status"] == "COMPLETED"
        reply = await world.result(request_id)
        assert (reply.status, reply.headers["x-fal-request-timeout-type"]) == (504, "user")
        assert world.ran(request_id) == []


async def test_a_request_that_is_cancelled_in_the_queue_never_runs(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=5_000))), max_concurrency=1)
    await world.submit()
    request_id = await world.submit()
    await world.advance(2)
    assert (await world.cancel(request_id)).status == 202
    await world.advance(10)
    assert (await world.result(request_id)).status == 499
    assert world.ran(request_id) == []


async def test_a_request_that_is_cancelled_while_it_runs_is_told_to_its_runner_under_the_same_id(world: World) -> None:
    await world.app(
        Script(answer=always(Answer(after_ms=5_000)), max_concurrency=1) if False else Script(answer=always(Answer(after_ms=5_000)))
    )
    request_id = await world.submit("/me/app/paint")
    await world.advance(2)
    assert (await world.cancel(request_id)).status == 202
    await world.settle()
    (told,) = [call for call in world.backend.received if call.bypass]
    assert (told.path, told.request_id) == ("/paint/cancel", request_id)
    assert (await world.finished(request_id)).status == 200


async def test_requests_of_an_app_that_is_deleted_end_with_an_error_that_says_so(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=60_000))), max_concurrency=1)
    running, waiting = await world.submits(2)
    await world.advance(3)
    await world.delete()
    await world.advance(15)
    for request_id in (running, waiting):
        request = await world.request(request_id)
        assert (request.state, request.error_type) == (RequestState.COMPLETED, "not_found")
        assert "deleted" in request.error


async def test_a_request_that_is_accepted_while_its_app_is_being_deleted_does_not_wait_for_ever(world: World) -> None:
    await world.app()
    await world.advance(60)
    # Its routes are read again later than that.
    await world.server.store.apps.delete(OWNER, "app", world.clock.now_ms(), reason="deleted in a test", actor=OWNER)
    request_id = await world.submit()
    await world.advance(6)
    assert (await world.result(request_id)).error_type == "not_found"


# --- poison


async def test_a_request_that_kills_three_runners_is_parked_and_the_others_are_served(world: World) -> None:
    def reply(call: Received) -> Answer | Crash:
        return Crash(after_ms=20) if call.body == b"poison" else Answer(after_ms=50)

    await world.app(Script(answer=reply), max_concurrency=2, max_multiplexing=4)
    poison = await world.submit(body=b"poison")
    others = [await world.submit() for _ in range(40)]
    assert (await world.finished(poison)).status == 503
    await world.advance(20)
    parked = await world.request(poison)
    assert parked.attempt == 3 and f"roost requests retry {poison}" in parked.error
    for request_id in others:
        request = await world.request(request_id)
        assert (request.state, request.status) == (RequestState.COMPLETED, 200)
    assert len(world.backend.launches) <= 5


async def test_two_suspects_never_share_a_runner(world: World) -> None:
    await world.app(Script(answer=always(Crash(after_ms=100))), max_concurrency=1, max_multiplexing=4)
    ids = [await world.submit(body=b"%d" % number) for number in range(4)]
    await world.advance(30)
    assert len(world.backend.received) == 4 * 3
    attempts = [attempt for request_id in ids for attempt in await world.attempts(request_id) if attempt.number > 1]
    for one, other in itertools.combinations(attempts, 2):
        assert one.ended_ms is not None and other.ended_ms is not None
        assert one.runner_id != other.runner_id or one.ended_ms <= other.started_ms or other.ended_ms <= one.started_ms


# --- shares


async def test_callers_and_the_queue_each_get_about_half_of_a_runner_that_both_want(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=100))), max_concurrency=1)
    queued = set(await world.submits(200))
    callers = [world.call() for _ in range(200)]
    await world.advance(21)
    served = [call.request_id in queued for call in world.backend.received[:200]]
    assert 0.4 <= sum(served) / len(served) <= 0.6
    for caller in callers:
        caller.hang_up()


@pytest.mark.parametrize("reported", ["direct", "queued"])
async def test_what_a_runner_reported_in_one_kind_of_call_is_known_to_both(world: World, reported: str) -> None:
    def reply(call: Received) -> Answer:
        return Answer(headers=((b"x-fal-runner-hints", b"dog, cat"),) if call.body == b"cat" else (), after_ms=10)

    await world.app(Script(answer=reply), min_concurrency=3)
    await world.advance(3)
    if reported == "direct":
        await world.call(body=b"cat")
    else:
        await world.finished(await world.submit(body=b"cat"))
    for _ in range(3):
        await world.call(headers={"x-fal-runner-hint": "cat"})
        await world.finished(await world.submit(x_fal_runner_hint="dog"))
    assert len({call.runner_id for call in world.backend.received}) == 1


async def test_a_runner_that_knows_the_hint_is_preferred(world: World) -> None:
    def reply(call: Received) -> Answer:
        return Answer(headers=((b"x-fal-runner-hints", b"cat" if call.body == b"cat" else b"dog"),), after_ms=10)

    await world.app(Script(answer=reply), min_concurrency=3)
    await world.advance(3)
    cats = [await world.submit(body=b"cat", x_fal_runner_hint="cat") for _ in range(1)]
    await world.advance(1)
    for _ in range(5):
        cats.append(await world.submit(body=b"cat", x_fal_runner_hint="cat"))
        await world.advance(1)
    assert len({world.ran(request_id)[0].runner_id for request_id in cats}) == 1


async def test_an_attempt_that_is_cut_before_its_first_step_holds_up_no_hand_over(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=60_000))), max_concurrency=1)
    await world.submit()
    await world.advance(2)
    dispatch = world.server.dispatch
    (entry,) = world.server.directory.all()
    request = (await world.request(await world.submit()))._replace(id="11111111-1111-4111-8111-111111111111")
    attempt = Attempt(dispatch._ties, request, entry.runner_id, dispatch._aside)
    dispatch._begin(attempt, attempt.run(entry))
    # Its task has not run yet when this cuts it.
    for task in dispatch._tasks.values():
        task.cancel()
    await asyncio.wait_for(dispatch.stop(), 30)
    assert dispatch._tasks == {} and dispatch._attempts == {}
