"""What an answer, or none, means for its caller and for the runner (spec: app-lifecycle.md §5, §8)."""

from __future__ import annotations

import asyncio

import pytest

from roost.kit.spawn import Exited
from roost.testkit.script import FOREVER, Answer, Crash, Handler, Received, Script, always
from roost.testkit.world import World

LONG = Answer(after_ms=FOREVER)


def by_path(**answers: Answer | Crash) -> Handler:
    """`/slow` is answered as `slow=` says, anything else at once."""

    def answer(call: Received) -> Answer | Crash:
        return answers.get(call.path.strip("/"), Answer())

    return answer


async def reasons(world: World) -> list[str]:
    return [runner.reason for runner in await world.ended()]


# request_timeout


async def test_a_call_longer_than_request_timeout_is_ended(world: World) -> None:
    await world.app(Script(answer=always(LONG)), request_timeout_ms=30_000)
    reply = await world.call()
    assert (reply.status, reply.error_type) == (504, "request_timeout")
    assert reply.ms == pytest.approx(31_000, abs=50)
    assert "x-fal-request-timeout-type" not in reply.headers


async def test_the_wait_for_a_runner_does_not_count_for_request_timeout(world: World) -> None:
    await world.app(Script(setup_ms=50_000, answer=always(Answer(after_ms=20_000))), request_timeout_ms=30_000)
    assert (await world.call()).status == 200


async def test_a_timed_out_runner_gets_no_new_call_and_goes(world: World) -> None:
    await world.app(Script(answer=by_path(hang=LONG)), request_timeout_ms=30_000)
    await world.call("/me/app/hang")
    reply = await world.call()
    assert reply.status == 200
    hung, fresh = world.backend.launches
    assert reply.headers["x-fal-served-from"] == fresh.runner_id
    await world.advance(6)
    assert [runner.id for runner in world.running()] == [fresh.runner_id]
    assert await reasons(world) == ["a call overran request_timeout"]
    assert hung.runner_id != fresh.runner_id


async def test_the_other_calls_of_a_timed_out_runner_have_the_grace_to_end(world: World) -> None:
    answers = by_path(hang=LONG, short=Answer(after_ms=3_000), long=Answer(after_ms=9_000))
    await world.app(Script(answer=answers), request_timeout_ms=30_000, max_multiplexing=3, max_concurrency=1, termination_grace_ms=5_000)
    hang = world.call("/me/app/hang")
    await world.advance(30)
    short, long = world.call("/me/app/short"), world.call("/me/app/long")
    assert (await hang).status == 504
    assert (await short).status == 200
    reply = await long
    assert (reply.status, reply.error_type) == (503, "runner_disconnected")
    assert world.in_flight() == 0


async def test_a_timeout_after_the_response_began_breaks_the_connection(world: World) -> None:
    await world.app(Script(answer=always(Answer(stream_ms=FOREVER))), request_timeout_ms=30_000)
    reply = await world.call()
    assert (reply.status, reply.complete, reply.broken, reply.heads) == (200, False, True, 1)


# what the app answers


async def test_a_503_of_the_app_reaches_the_caller_as_it_is_and_ends_the_runner(world: World) -> None:
    await world.app(Script(answer=always(Answer(503, b"too hot", ((b"x-mine", b"1"),)))))
    reply = await world.call()
    assert (reply.status, reply.body, reply.headers["x-mine"], reply.error_type) == (503, b"too hot", "1", "")
    await world.advance(1)
    assert world.running() == [] and await reasons(world) == ["the app answered 503"]


async def test_after_a_503_the_next_call_goes_to_another_runner_at_once(world: World) -> None:
    await world.app(Script(answer=by_path(bad=Answer(503, linger_ms=2_000))), max_multiplexing=5)
    bad = await world.call("/me/app/bad")
    good = await world.call()
    assert good.status == 200
    assert good.headers["x-fal-served-from"] != bad.headers["x-fal-served-from"]


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_runner_whose_loop_answers_is_kept_after_a_server_error(world: World, status: int) -> None:
    await world.app(Script(answer=always(Answer(status))))
    assert (await world.call()).status == status
    await world.advance(10)
    assert await world.states() == ["IDLE"]


async def test_a_runner_whose_loop_is_held_is_ended_after_a_server_error(world: World) -> None:
    await world.app(Script(answer=always(Answer(500)), holds_loop=True))
    await world.call()
    await world.advance(4.9)
    assert len(world.running()) == 1
    await world.advance(0.3)
    assert world.running() == []
    assert "the app answered 500 and its event loop did not answer within 5 s" in (await reasons(world))[0]


@pytest.mark.parametrize("status", [200, 404, 422, 429])
async def test_other_answers_say_nothing_about_the_runner(world: World, status: int) -> None:
    await world.app(Script(answer=always(Answer(status)), holds_loop=True))
    await world.call()
    await world.advance(10)
    assert len(world.running()) == 1


async def test_x_fal_stop_runner_ends_it_whatever_the_status_and_is_not_shown(world: World) -> None:
    await world.app(Script(answer=always(Answer(200, headers=((b"x-fal-stop-runner", b"1"),)))))
    reply = await world.call()
    assert reply.status == 200 and "x-fal-stop-runner" not in reply.headers
    await world.advance(1)
    assert world.running() == []


async def test_x_fal_stop_runner_can_also_keep_it(world: World) -> None:
    await world.app(Script(answer=always(Answer(503, headers=((b"x-fal-stop-runner", b"false"),)))))
    await world.call()
    await world.advance(10)
    assert len(world.running()) == 1


async def test_response_headers_above_sixteen_kilobytes_are_an_error_and_the_call_ends(world: World) -> None:
    await world.app(Script(answer=always(Answer(headers=((b"x-large", b"a" * 17_000),)))))
    reply = await world.call()
    assert (reply.status, reply.error_type) == (502, "response_headers_too_large")
    await world.advance(1)
    assert world.in_flight() == 0


# how runners end


async def test_a_runner_that_ignores_sigterm_is_killed_at_the_end_of_its_grace(world: World) -> None:
    await world.app(Script(answer=always(Answer(503)), ignores_sigterm=True), termination_grace_ms=7_000)
    await world.call()
    await world.advance(6.9)
    assert await world.states() == ["TERMINATING"]
    await world.advance(0.2)
    assert world.running() == [] and await world.states() == []


async def test_a_stopped_runner_finishes_the_calls_that_it_has(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=4_000))))
    call = world.call()
    await world.advance(2)
    await world.backend.stop(world.running()[0].id, 5_000)
    assert (await call).status == 200


async def test_a_runner_that_dies_in_a_call_is_told_to_the_caller_at_once(world: World) -> None:
    await world.app(Script(answer=always(Crash(after_ms=2_000))))
    reply = await world.call()
    assert (reply.status, reply.error_type) == (503, "runner_disconnected")
    assert reply.ms == pytest.approx(3_000, abs=50)


async def test_how_a_runner_ended_is_told_also_when_it_ends_in_the_middle_of_a_round(world: World) -> None:
    await world.app(Script(answer=always(LONG)))
    call = world.call()
    await world.advance(2)
    (runner,) = world.running()
    round_under_way = asyncio.ensure_future(world.server.fleet.round())
    await asyncio.sleep(0)
    world.server.fleet.on_exit(Exited(runner.id, "runner", runner.pid, None, 11))
    await round_under_way
    world.backend.lose(runner.id)
    reply = await call
    assert reply.detail == "the runner went away in the middle of the call: the process was killed by signal 11 (SIGSEGV)"
    assert await reasons(world) == ["the process was killed by signal 11 (SIGSEGV)"]


async def test_a_runner_whose_process_is_stopped_gets_no_calls_is_shown_and_replaced(world: World) -> None:
    await world.app(Script(answer=always(LONG)), Script(), max_multiplexing=2, max_concurrency=1)
    caught = world.call()
    await world.advance(2)
    world.running()[0].freeze()
    await world.advance(3.1)
    assert [runner.reason for runner in await world.runners()] == ["its process is stopped (SIGSTOP)"]
    later = world.call()
    await world.settle()
    assert len(world.backend.received) == 1
    reply = await caught
    assert (reply.status, reply.error_type) == (503, "runner_disconnected")
    assert "stopped (SIGSTOP)" in reply.detail
    assert 10_000 < reply.ms < 16_000
    assert (await later).status == 200


async def test_all_callers_of_a_runner_that_dies_hear_it_and_no_slot_stays_taken(world: World) -> None:
    await world.app(Script(answer=by_path(die=Crash(after_ms=1_000), wait=LONG)), max_multiplexing=4, max_concurrency=1)
    waiting = [world.call("/me/app/wait") for _ in range(3)]
    dying = world.call("/me/app/die")
    assert [(await call).status for call in (*waiting, dying)] == [503] * 4
    assert world.in_flight() == 0
    assert (await world.call()).status == 200


async def test_a_runner_that_dies_after_the_head_breaks_the_connection(world: World) -> None:
    await world.app(Script(answer=always(Answer(stream_ms=FOREVER))))
    call = world.call()
    await world.advance(2)
    world.running()[0].kill()
    reply = await call
    assert (reply.status, reply.complete, reply.broken, reply.heads) == (200, False, True, 1)


async def test_a_runner_that_dies_in_the_moment_of_its_answer_never_gives_a_whole_one(world: World) -> None:
    await world.app(Script(answer=always(Crash(head_first=True))))
    reply = await world.call()
    assert not reply.complete or (reply.status, reply.error_type) == (502, "runner_incomplete_response")


async def test_a_broken_connection_to_a_living_runner_ends_its_calls_and_it_serves_on(world: World) -> None:
    await world.app(Script(answer=by_path(wait=Answer(after_ms=60_000, minds_caller=True))))
    call = world.call("/me/app/wait")
    await world.advance(2)
    world.running()[0].disconnect()
    assert (await call).status == 503
    assert (await world.call()).status == 200
    assert len(world.backend.launches) == 1


async def test_a_call_that_was_refused_as_busy_runs_once_elsewhere(world: World) -> None:
    await world.app(min_concurrency=2, max_concurrency=2)
    await world.advance(5)
    for runner in world.running():
        runner.occupy()
    call = world.call()
    await world.advance(1)
    assert not call.done and world.backend.received == []
    world.running()[1].vacate()
    assert (await call).status == 200
    assert [received.runner_id for received in world.backend.received] == [world.running()[1].id]


async def test_a_runner_that_says_it_goes_away_gets_nothing_more(world: World) -> None:
    await world.app(Script(answer=by_path(long=Answer(after_ms=5_000))), max_multiplexing=2)
    long = world.call("/me/app/long")
    await world.advance(2)
    world.running()[0].terminate()
    await world.settle()
    other = await world.call()
    assert (await long).status == other.status == 200
    assert other.headers["x-fal-served-from"] != world.backend.launches[0].runner_id
