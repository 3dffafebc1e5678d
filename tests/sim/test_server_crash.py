"""kill -9 of the server: the next one goes on with the same store and the same runners (ARCHITECTURE §3)."""

from __future__ import annotations

from roost.core.model import RevisionState
from roost.core.placement import Node
from roost.testkit.script import FOREVER, Answer, Script, always
from roost.testkit.world import World
from tests.sim.conftest import Another


async def crash_and_start(world: World, down_s: float = 0.0) -> None:
    await world.crash()
    await world.advance(down_s)
    await world.start_server()


async def test_runners_that_live_dial_home_again_and_serve(world: World) -> None:
    await world.app()
    before = await world.call()
    await crash_and_start(world)
    await world.advance(1)
    after = await world.call()
    assert (after.status, after.headers["x-fal-served-from"]) == (200, before.headers["x-fal-served-from"])
    assert after.ms == 0 and len(world.backend.launches) == 1


async def test_a_call_in_flight_is_broken_off_and_its_runner_serves_on(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=10_000, minds_caller=True))))
    call = world.call()
    await world.advance(2)
    await crash_and_start(world)
    reply = await call
    assert reply.broken and not reply.complete
    assert (await world.call()).status == 200
    assert len(world.backend.launches) == 1


async def test_a_call_that_still_runs_for_nobody_keeps_its_slot(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=10_000))), max_concurrency=1)
    world.call()
    await world.advance(2)
    await crash_and_start(world)
    await world.advance(1)
    assert (await world.call()).status == 200
    first, second = world.backend.received
    assert second.at_ms >= first.at_ms + 10_000


async def test_a_runner_that_ended_while_nobody_listened_is_closed(world: World) -> None:
    await world.app()
    await world.call()
    await world.crash()
    world.running()[0].kill()
    await world.advance(1)
    await world.start_server()
    await world.advance(1)
    assert await world.states() == []
    assert (await world.call()).status == 200


async def test_a_row_whose_process_nobody_knows_is_closed(world: World) -> None:
    await world.app()
    await world.call()
    (row,) = await world.runners()
    await world.crash()
    world.backend.lose(row.id)
    await world.start_server()
    await world.advance(1)
    assert await world.states() == []
    assert [runner.id for runner in await world.ended()] == [row.id]


async def test_a_process_without_a_row_is_ended(world: World) -> None:
    revision = await world.app()
    await world.call()
    (row,) = await world.runners()
    await world.crash()
    store = await world.disk.store(world.clock)
    await store.runners.move(row.id, list(type(row.state)), type(row.state).TERMINATED, "made so by a test", world.clock.now_ms())
    await world.start_server()
    await world.advance(1)
    assert world.running(revision) == []


async def test_a_runner_that_lives_but_never_dials_home_again_is_ended(world: World) -> None:
    await world.app()
    await world.call()
    silent = world.running()[0]
    await world.crash()
    silent.deaf = True
    await world.start_server()
    await world.advance(9)
    assert not silent.ended.is_set()
    await world.advance(4)
    assert silent.ended.is_set() and await world.states() == []


async def test_a_runner_in_setup_goes_on_and_serves_the_new_server(world: World) -> None:
    await world.app(Script(setup_ms=20_000))
    world.call()
    await world.advance(5)
    await crash_and_start(world, down_s=1)
    reply = await world.call()
    assert reply.status == 200 and reply.ms < 16_000
    assert len(world.backend.launches) == 1


async def test_a_deploy_that_was_starting_is_finished_by_the_next_server(world: World) -> None:
    revision = await world.begin_deploy(Script(setup_ms=20_000))
    await world.advance(5)
    await crash_and_start(world)
    assert (await world.deployed(revision)).state is RevisionState.DEPLOYED
    assert (await world.call()).status == 200
    assert len(world.backend.launches) == 1


async def test_a_deploy_that_had_just_been_handed_in_is_finished_by_the_next_server(world: World) -> None:
    revision = await world.begin_deploy()
    await crash_and_start(world)
    assert (await world.deployed(revision)).state is RevisionState.DEPLOYED


async def test_a_deploy_whose_setup_failed_while_nobody_listened_has_failed(world: World) -> None:
    revision = await world.begin_deploy(Script(setup_ms=5_000, dies_in_setup=11))
    await world.advance(2)
    await crash_and_start(world, down_s=10)
    ended = await world.deployed(revision)
    assert ended.state is RevisionState.FAILED and "SIGSEGV" in ended.reason


async def test_a_stop_that_was_under_way_is_carried_to_its_end(world: World) -> None:
    await world.app(Script(answer=always(Answer(503)), ignores_sigterm=True), termination_grace_ms=30_000)
    await world.call()
    await world.advance(1)
    await crash_and_start(world)
    await world.advance(40)
    assert world.running() == [] and await world.states() == []


async def test_a_drain_that_was_under_way_goes_on(world: World) -> None:
    old = await world.deploy(Script(answer=always(Answer(after_ms=60_000))))
    world.call()
    await world.settle()
    await world.deploy()
    assert world.running(old) != []
    await crash_and_start(world)
    await world.advance(2)
    assert (await world.call()).headers["x-fal-served-from"] != world.backend.launches[0].runner_id
    await world.advance(60)
    assert world.running(old) == []


async def test_keep_alive_and_scale_to_zero_hold_after_a_crash(world: World) -> None:
    await world.app(keep_alive_ms=30_000)
    await world.call()
    await world.advance(5)
    await crash_and_start(world)
    await world.advance(45)
    assert world.running() == []


async def test_what_adopted_runners_occupy_is_not_promised_again(another: Another) -> None:
    small = await another(node=Node(cpus=0.25, memory_mb=4 * 1024))
    await small.app(Script(answer=always(Answer(after_ms=FOREVER))), name="first", machine_types=("L",))
    await small.app(name="second", machine_types=("L",))
    small.call("/me/first")
    await small.advance(3)
    await small.crash()
    await small.start_server()
    await small.advance(1)
    reply = await small.call("/me/second")
    assert reply.error_type == "runner_scheduling_failure"
