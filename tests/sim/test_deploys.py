"""From one revision to the next: callers notice nothing, and what does not start takes nothing over (spec: scaling-routing.md §4)."""

from __future__ import annotations

import asyncio

from roost.core.model import DeployPlan, RevisionState
from roost.testkit.script import FOREVER, Answer, Script, always
from roost.testkit.world import World


def says(text: str, after_ms: int = 100) -> Script:
    return Script(answer=always(Answer(body=text.encode(), after_ms=after_ms)))


async def test_a_first_deploy_is_ready_before_it_is_done(world: World) -> None:
    revision = await world.deploy()
    assert revision.state is RevisionState.DEPLOYED
    assert (await world.call()).ms == 0


async def test_traffic_goes_through_a_deploy_without_a_failed_call(world: World) -> None:
    await world.deploy(says("old"), max_multiplexing=4)
    deploy = asyncio.ensure_future(world.deploy(says("new"), max_multiplexing=4))
    replies = []
    while not deploy.done() or len(replies) < 200:
        replies.append(world.call())
        await world.advance(0.02)
    answers = [await reply for reply in replies]
    assert {reply.status for reply in answers} == {200}
    bodies = [reply.body for reply in answers]
    assert bodies == sorted(bodies, reverse=True) and set(bodies) == {b"old", b"new"}


async def test_calls_on_the_old_revision_finish_while_the_new_one_serves(world: World) -> None:
    old = await world.deploy(says("old", after_ms=30_000))
    call = world.call()
    await world.settle()
    new = await world.deploy(says("new"))
    assert (await world.call()).body == b"new"
    assert await world.states() == ["DRAINING", "IDLE"]
    assert (await call).body == b"old"
    await world.advance(1)
    assert world.running(old) == [] and len(world.running(new)) == 1


async def test_callers_that_wait_for_the_old_revision_are_served_by_the_new_one(world: World) -> None:
    await world.deploy(says("old", after_ms=60_000), max_concurrency=1)
    busy, waits = await world.calls(2)
    await world.deploy(says("new"), max_concurrency=1)
    assert (await waits).body == b"new"
    assert (await busy).body == b"old"


async def test_a_revision_whose_setup_fails_leaves_the_old_one_serving(world: World) -> None:
    old = await world.deploy(says("old"))
    failed = await world.deploy(Script(setup_error="KeyError: 'weights'"))
    assert failed.state is RevisionState.FAILED and "KeyError: 'weights'" in failed.reason
    alias = await world.alias()
    assert alias is not None and alias.revision_id == old.id
    assert (await world.call()).body == b"old"
    await world.advance(1)
    assert world.running(failed) == []


async def test_a_failed_deploy_starts_its_runner_once(world: World) -> None:
    failed = await world.deploy(Script(setup_error="no"))
    await world.advance(120)
    assert world.backend.most[failed.id] == len(world.backend.launches) == 1
    assert await world.alias() is None


async def test_a_new_revision_whose_setup_hangs_fails_by_its_own_startup_timeout(world: World) -> None:
    await world.deploy(says("old"), startup_timeout_ms=600_000)
    began = world.clock.now_ms()
    failed = await world.deploy(Script(setup_ms=FOREVER), startup_timeout_ms=20_000)
    assert "startup_timeout 20 s" in failed.reason
    assert world.clock.now_ms() - began < 25_000
    assert len(world.running(failed)) == 0
    assert (await world.call()).body == b"old"


async def test_of_two_deploys_at_once_the_last_one_wins(world: World) -> None:
    first = await world.begin_deploy(Script(setup_ms=20_000))
    await world.advance(0.5)
    second = await world.begin_deploy(says("second"))
    assert (await world.deployed(second)).state is RevisionState.DEPLOYED
    lost = await world.deployed(first)
    assert lost.state is RevisionState.FAILED and second.id in lost.reason
    assert (await world.call()).body == b"second"
    await world.advance(30)
    assert world.running(first) == []


async def test_two_deploys_in_the_same_millisecond_end_with_one_that_serves(world: World) -> None:
    pair = [await world.begin_deploy(says(name)) for name in ("one", "two")]
    assert pair[0].created_ms == pair[1].created_ms
    ended = [await world.deployed(revision) for revision in pair]
    assert RevisionState.DEPLOYED in {revision.state for revision in ended}
    alias = await world.alias()
    assert alias is not None
    winner = next(revision for revision in ended if revision.id == alias.revision_id)
    assert winner.state is RevisionState.DEPLOYED
    await world.call()
    await world.advance(30)
    assert {runner.launch.revision.id for runner in world.running()} == {winner.id}


async def test_a_redeploy_keeps_what_was_tuned_and_takes_what_belongs_to_the_code(world: World) -> None:
    await world.deploy(keep_alive_ms=60_000, max_multiplexing=1)
    await world.deploy(keep_alive_ms=5_000, max_multiplexing=8)
    alias = await world.alias()
    assert alias is not None
    assert (alias.scale.keep_alive_ms, alias.scale.max_multiplexing) == (60_000, 8)


async def test_an_app_that_is_deleted_while_calls_wait_is_not_found(world: World) -> None:
    await world.app(Script(setup_ms=60_000))
    call = world.call()
    await world.advance(5)
    await world.delete()
    reply = await call
    assert (reply.status, reply.error_type) == (404, "not_found")
    await world.advance(10)
    assert world.running() == [] and world.waiting() == 0


async def test_a_deleted_apps_runners_get_the_grace_for_their_calls(world: World) -> None:
    await world.app(says("done", after_ms=4_000))
    call = world.call()
    await world.advance(2)
    await world.delete()
    assert (await call).body == b"done"
    await world.advance(1)
    assert world.running() == []


async def test_an_app_of_the_same_name_can_come_again(world: World) -> None:
    await world.app(Script(setup_error="no"))
    await world.call()
    await world.delete()
    await world.settle()
    assert (await world.call()).status == 404
    await world.deploy(says("again"))
    assert (await world.call()).body == b"again"


async def test_an_ephemeral_app_is_gone_when_its_lease_ends(world: World) -> None:
    await world.deploy(plan=DeployPlan(auth="public", ephemeral=True, lease_ms=10_000))
    await world.advance(9)
    assert (await world.call()).status == 200
    await world.advance(2)
    assert (await world.call()).status == 404
    await world.advance(6)
    assert world.running() == []


async def test_an_ephemeral_app_whose_lease_is_renewed_lives(world: World) -> None:
    await world.deploy(plan=DeployPlan(auth="public", ephemeral=True, lease_ms=10_000))
    for _ in range(10):
        await world.advance(5)
        assert await world.server.store.apps.renew_lease("me", "app", world.clock.now_ms() + 10_000)
    assert (await world.call()).status == 200


async def test_a_permanent_app_needs_no_lease(world: World) -> None:
    await world.deploy()
    await world.advance(60)
    assert (await world.call()).status == 200
