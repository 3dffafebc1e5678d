"""The server ends at any moment, its runners live or die: what was accepted goes on, and each request ends once (ARCHITECTURE §1)."""

from __future__ import annotations

import shutil

import pytest

from roost.core.requests import Again, AttemptState, Final, RequestState
from roost.testkit.script import FOREVER, Answer, Script, always
from roost.testkit.world import World


async def restart(world: World, down_s: float = 0.5) -> None:
    """kill -9, and the next server."""
    await world.crash()
    await world.advance(down_s)
    await world.start_server()


async def test_what_waited_is_served_by_the_next_server(world: World) -> None:
    await world.app(max_concurrency=1)
    ids = await world.submits(20)
    await restart(world)
    await world.advance(10)
    assert [call.request_id for call in world.backend.received] == ids
    for request_id in ids:
        assert (await world.request(request_id)).state is RequestState.COMPLETED


async def test_a_call_under_way_goes_on_and_its_answer_is_taken_by_the_next_server(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=10_000, body=b"at last"))))
    request_id = await world.submit()
    await world.advance(3)
    await restart(world)
    reply = await world.finished(request_id)
    assert (reply.status, reply.body) == (200, b"at last")
    assert len(world.ran(request_id)) == 1
    assert (await world.request(request_id)).attempt == 1


async def test_an_answer_that_came_while_no_server_was_there_is_taken_by_the_next(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=2_000, body=b"kept"))))
    request_id = await world.submit()
    await world.advance(1.5)
    await restart(world, down_s=5)
    reply = await world.finished(request_id)
    assert (reply.status, reply.body) == (200, b"kept")
    assert len(world.ran(request_id)) == 1


@pytest.mark.parametrize("ends", [True, False])
async def test_an_answer_whose_fate_was_decided_in_the_last_moment_is_not_kept_for_longer(world: World, ends: bool) -> None:
    """The server was killed between its last write and the word to the runner that this attempt is settled."""
    await world.app(Script(answer=always(Answer(after_ms=2_000))), keep_alive_ms=600_000)
    request_id = await world.submit()
    await world.advance(2)
    await world.crash()
    last = (await world.disk.store(world.clock)).requests
    now_ms = world.clock.now_ms()
    if ends:
        await last.finish(request_id, 1, Final(200, expires_ms=now_ms + 60_000), now_ms)
    else:
        await last.requeue(request_id, 1, Again(now_ms + 60_000, "", "", AttemptState.LOST, counted=False), now_ms)
    await world.advance(5)
    (runner,) = world.running()
    assert runner.keep.holds
    await world.start_server()
    await world.advance(1)
    assert not runner.keep.holds
    runner.terminate()
    await world.advance(0.5)
    assert runner.ended.is_set()


async def test_what_is_still_under_way_stays_kept_when_its_runner_dials_home(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=5_000, body=b"kept"))))
    request_id = await world.submit()
    await world.advance(2)
    (runner,) = world.running()
    runner.disconnect()
    await world.advance(1)
    assert runner.keep.holds
    reply = await world.finished(request_id)
    assert (reply.body, len(world.ran(request_id))) == (b"kept", 1)
    await world.settle()
    assert not runner.keep.holds


async def test_a_large_answer_is_resumed_from_its_first_byte(world: World) -> None:
    big = bytes(range(256)) * 4096
    await world.app(Script(answer=always(Answer(after_ms=2_000, body=big))))
    request_id = await world.submit()
    await world.advance(1.5)
    await restart(world)
    assert (await world.finished(request_id)).body == big


async def test_a_runner_that_died_with_the_server_costs_an_attempt(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=5_000))))
    request_id = await world.submit()
    await world.advance(3)
    await world.crash()
    world.running()[0].kill()
    await world.advance(0.1)
    await world.start_server()
    await world.advance(1)
    assert (await world.request(request_id)).state is RequestState.IN_QUEUE
    assert (await world.finished(request_id)).status == 200
    assert (await world.request(request_id)).deaths == 1


async def test_a_runner_of_whose_end_nobody_tells_is_no_death_of_its_request(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=5_000))))
    request_id = await world.submit()
    await world.advance(3)
    (row,) = await world.runners()
    await world.crash()
    world.backend.lose(row.id)
    await world.start_server()
    assert (await world.finished(request_id)).status == 200
    request = await world.request(request_id)
    assert (request.attempt, request.deaths) == (2, 0)


async def test_a_runner_that_never_dials_home_again_loses_its_work_when_its_process_is_given_up(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=30_000))), Script())
    request_id = await world.submit()
    await world.advance(3)
    silent = world.running()[0]
    await world.crash()
    silent.deaf = True
    await world.start_server()
    await world.advance(18)
    assert (await world.request(request_id)).attempt == 2
    assert (await world.finished(request_id)).status == 200


async def test_a_late_answer_of_a_stopped_runner_is_refused(world: World) -> None:
    def slowly(body: bytes) -> Script:
        return Script(answer=always(Answer(after_ms=15_000, body=body)))

    await world.app(slowly(b"late"), slowly(b"taken"))
    request_id = await world.submit()
    await world.advance(3)
    zombie = world.running()[0]
    zombie.freeze()
    await world.advance(13)
    assert (await world.request(request_id)).attempt >= 1
    reply = await world.finished(request_id)
    assert reply.body == b"taken"
    zombie.thaw()
    await world.advance(5)
    assert (await world.result(request_id)).body == b"taken"
    lost, taken = await world.attempts(request_id)
    assert (lost.state, taken.state) == (AttemptState.LOST, AttemptState.ANSWERED)


async def test_a_broken_connection_costs_nothing_while_the_runner_lives(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=3_000))))
    request_id = await world.submit()
    await world.advance(2)
    world.running()[0].disconnect()
    assert (await world.finished(request_id)).status == 200
    assert len(world.ran(request_id)) == 1


async def test_a_resumed_call_is_still_cut_at_request_timeout(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=FOREVER))), Script(), request_timeout_ms=10_000)
    request_id = await world.submit()
    await world.advance(3)
    await restart(world)
    assert (await world.finished(request_id)).status == 200
    cut, _ = await world.attempts(request_id)
    assert cut.condition == "timeout" and cut.ended_ms is not None and cut.ended_ms - cut.started_ms <= 10_100


async def test_a_cancel_that_was_asked_for_is_told_again_by_the_next_server(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=5_000))))
    request_id = await world.submit()
    await world.advance(2)
    await world.cancel(request_id)
    await restart(world)
    await world.advance(1)
    assert [call.path for call in world.backend.received if call.bypass] == ["/cancel", "/cancel"]


async def test_resumed_calls_and_new_ones_never_take_more_slots_than_there_are(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=4_000))), max_concurrency=1, max_multiplexing=2)
    await world.submits(6)
    await world.advance(3)
    await restart(world, down_s=0.2)
    for _ in range(40):
        await world.advance(0.5)
        assert sum(runner.calls for runner in world.running()) <= 2
    assert len(world.backend.received) == 6


async def test_an_answer_that_the_disk_does_not_take_stays_with_the_runner_until_it_does(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=500, body=b"x" * 200_000))))
    request_id = await world.submit()
    folder = world.server.paths.payloads / ".incoming"
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_bytes(b"no folder: nothing can be written in it")
    await world.advance(10)
    assert (await world.status(request_id))["status"] == "IN_PROGRESS"
    folder.unlink()
    reply = await world.finished(request_id)
    assert (reply.status, len(reply.body)) == (200, 200_000)
    assert len(world.ran(request_id)) == 1


async def test_a_server_that_slept_takes_no_work_away(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=5_000))), max_concurrency=2)
    ids = await world.submits(2)
    await world.advance(2)
    world.clock.forward(60)
    await world.advance(6)
    for request_id in ids:
        assert (await world.request(request_id)).attempt == 1 and len(world.ran(request_id)) == 1


async def test_leases_of_living_runners_are_renewed(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=60_000))))
    request_id = await world.submit()
    await world.advance(40)
    request = await world.request(request_id)
    assert request.attempt == 1 and request.lease_until_ms is not None
    assert request.lease_until_ms > world.clock.now_ms() + 5_000


async def test_nothing_is_written_after_the_engines_were_stopped(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=2_000))))
    request_id = await world.submit()
    await world.advance(2)
    await world.server.dispatch.stop()
    await world.advance(5)
    assert (await world.request(request_id)).state is RequestState.IN_PROGRESS
    await restart(world)
    assert (await world.finished(request_id)).status == 200
    assert len(world.ran(request_id)) == 1


@pytest.mark.parametrize("down_at_ms", range(0, 3_000, 100))
async def test_the_server_may_end_at_any_moment(world: World, down_at_ms: int) -> None:
    await world.app(Script(load_ms=50, setup_ms=250, answer=always(Answer(after_ms=300, linger_ms=50))), max_concurrency=2)
    ids = await world.submits(12)
    await world.advance(down_at_ms / 1000)
    await restart(world, down_s=0.3)
    await world.advance(20)
    for request_id in ids:
        request = await world.request(request_id)
        assert (request.state, request.status) == (RequestState.COMPLETED, 200)
        numbers = [attempt.number for attempt in await world.attempts(request_id)]
        assert numbers == list(range(1, request.attempt + 1))
        assert len(world.ran(request_id)) == 1
