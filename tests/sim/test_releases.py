"""Back to an older revision, and fresh runners of the present one: callers notice nothing (spec: scaling-routing.md §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from roost.core.model import DeployPlan, Release, ReleaseKind, ReleaseState, Revision
from roost.testkit.script import Answer, Crash, Received, Script, always
from roost.testkit.world import World

T = TypeVar("T")


def says(text: str, after_ms: int = 100) -> Script:
    return Script(answer=always(Answer(body=text.encode(), after_ms=after_ms)))


async def two_revisions(world: World, **spec: Any) -> tuple[Revision, Revision]:
    return await world.deploy(says("old"), **spec), await world.deploy(says("new"), **spec)


async def points_to(world: World) -> str | None:
    alias = await world.alias()
    return alias.revision_id if alias is not None else None


async def under_traffic(world: World, change: Awaitable[T], calls: int = 100) -> tuple[T, list[bytes]]:
    """What came of the change, and all answers while it happened: fifty a second, none of which may fail."""
    task, made = asyncio.ensure_future(change), []
    while not task.done() or len(made) < calls:
        made.append(world.call())
        await world.advance(0.02)
    replies = [await reply for reply in made]
    assert {reply.status for reply in replies} == {200}
    return await task, [reply.body for reply in replies]


async def test_a_rollback_under_traffic_fails_no_call(world: World) -> None:
    old, _ = await two_revisions(world, max_multiplexing=4)
    await world.advance(1)
    ended, bodies = await under_traffic(world, world.move(old))
    assert ended.state is ReleaseState.DONE
    assert bodies == sorted(bodies) and set(bodies) == {b"new", b"old"}
    assert await points_to(world) == old.id
    await world.advance(1)
    assert len(world.running(old)) >= 1


async def test_a_rollback_to_what_does_not_start_changes_nothing(world: World) -> None:
    old = await world.deploy(says("old"), Script(setup_error="KeyError: 'weights'"))
    new = await world.deploy(says("new"))
    ended, bodies = await under_traffic(world, world.move(old))
    assert ended.state is ReleaseState.FAILED and "KeyError: 'weights'" in ended.reason
    assert set(bodies) == {b"new"} and await points_to(world) == new.id
    starts = len(world.backend.launches)
    await world.advance(120)
    assert len([launch for launch in world.backend.launches[starts:] if launch.revision.id == old.id]) == 0


async def test_a_failed_rollback_can_be_asked_for_again(world: World) -> None:
    old = await world.deploy(says("old"), Script(setup_error="no room on the disk"), says("old"))
    await world.deploy(says("new"))
    assert (await world.move(old)).state is ReleaseState.FAILED
    assert (await world.move(old)).state is ReleaseState.DONE
    assert (await world.call()).body == b"old"


async def test_recreate_switches_at_once_and_the_next_call_starts_a_runner(world: World) -> None:
    old, new = await two_revisions(world)
    began = world.clock.now_ms()
    assert (await world.move(old, strategy="recreate")).state is ReleaseState.DONE
    assert world.clock.now_ms() - began < 100
    await world.advance(1)
    assert world.running(old) == world.running(new) == []
    assert (await world.call()).body == b"old"


async def test_the_last_wish_wins_over_a_deploy_that_is_under_way(world: World) -> None:
    old, new = await two_revisions(world)
    coming = await world.begin_deploy(Script(setup_ms=30_000))
    await world.advance(1)
    assert (await world.move(old)).state is ReleaseState.DONE
    lost = await world.deployed(coming)
    assert lost.state.value == "FAILED" and await points_to(world) == old.id
    assert new.id != old.id


async def test_a_deploy_wins_over_a_rollback_that_was_asked_for_before_it(world: World) -> None:
    old = await world.deploy(says("old"), Script(setup_ms=30_000))
    await world.deploy(says("new"))
    release = await world.ask(ReleaseKind.MOVE, old)
    await world.advance(0.5)
    newest = await world.deploy(says("newest"))
    assert (await world.released(release)).state is ReleaseState.FAILED
    assert await points_to(world) == newest.id


async def test_a_rollback_keeps_what_was_tuned_and_takes_what_belongs_to_the_code(world: World) -> None:
    old = await world.deploy(says("old"), keep_alive_ms=60_000, max_multiplexing=1)
    await world.deploy(says("new"), keep_alive_ms=5_000, max_multiplexing=8)
    await world.move(old, auth="private")
    alias = await world.alias()
    assert alias is not None
    assert (alias.scale.keep_alive_ms, alias.scale.max_multiplexing, alias.auth) == (60_000, 1, "private")


async def test_a_server_that_is_killed_in_a_rollback_leaves_it_to_the_next(world: World) -> None:
    old = await world.deploy(says("old"), Script(setup_ms=5_000, answer=always(Answer(body=b"old"))))
    await world.deploy(says("new"))
    release = await world.ask(ReleaseKind.MOVE, old)
    await world.advance(2)
    await world.crash()
    await world.start_server()
    assert (await world.released(release)).state is ReleaseState.DONE
    assert (await world.call()).body == b"old"


async def test_a_rollback_of_an_app_that_is_deleted_meanwhile_fails(world: World) -> None:
    old = await world.deploy(says("old"), Script(setup_ms=30_000))
    await world.deploy(says("new"))
    release = await world.ask(ReleaseKind.MOVE, old)
    await world.delete()
    assert (await world.released(release)).state is ReleaseState.FAILED
    assert await world.alias() is None


async def test_queued_requests_go_to_whatever_the_alias_points_to(world: World) -> None:
    old, _ = await two_revisions(world)
    waiting = await world.submits(20)
    await world.move(old)
    later = await world.submits(3)
    assert {(await world.finished(one)).body for one in later} == {b"old"}
    assert {(await world.finished(one)).status for one in waiting} == {200}


# fresh runners


async def test_runners_are_renewed_under_traffic_without_a_failed_call(world: World) -> None:
    revision = await world.deploy(says("ok"), max_concurrency=3, max_multiplexing=2)
    await asyncio.gather(*await world.calls(6))
    before = {runner.id for runner in await world.runners()}
    assert len(before) == 3
    ended, _ = await under_traffic(world, world.renew(revision))
    assert ended.state is ReleaseState.DONE
    await world.advance(1)
    assert before.isdisjoint(runner.id for runner in await world.runners())
    assert len(await world.runners()) >= 1


async def test_an_app_at_its_maximum_is_renewed_on_top_of_it(world: World) -> None:
    revision = await world.deploy(says("ok"), max_concurrency=1)
    (before,) = await world.runners()
    ended, bodies = await under_traffic(world, world.renew(revision), calls=50)
    assert ended.state is ReleaseState.DONE and set(bodies) == {b"ok"}
    (after,) = await world.runners()
    assert after.id != before.id


async def test_a_call_on_an_old_runner_is_finished_there(world: World) -> None:
    revision = await world.deploy(says("slow", after_ms=20_000), says("fresh"), max_concurrency=1)
    slow = world.call()
    await world.settle()
    assert (await world.renew(revision)).state is ReleaseState.DONE
    assert (await world.call()).body == b"fresh"
    assert (await slow).body == b"slow"


async def test_fresh_runners_that_do_not_start_leave_the_old_ones_serving(world: World) -> None:
    revision = await world.deploy(says("old"), Script(setup_error="the secret is gone"))
    (before,) = await world.runners()
    ended, bodies = await under_traffic(world, world.renew(revision))
    assert ended.state is ReleaseState.FAILED and "the secret is gone" in ended.reason
    assert set(bodies) == {b"old"}
    assert before.id in {runner.id for runner in await world.runners()}


async def test_a_sleeping_app_has_nothing_to_renew(world: World) -> None:
    revision = await world.app()
    assert (await world.renew(revision)).state is ReleaseState.DONE
    assert world.backend.launches == []


async def test_a_server_that_is_killed_in_a_renewal_leaves_it_to_the_next(world: World) -> None:
    slow = Script(setup_ms=5_000, answer=always(Answer(body=b"fresh")))
    revision = await world.deploy(says("old"), slow, slow, plan=DeployPlan(auth="public"))
    (before,) = await world.runners()
    release = await world.ask(ReleaseKind.RENEW, revision)
    await world.advance(2)
    await world.crash()
    await world.start_server()
    assert (await world.released(release)).state is ReleaseState.DONE
    await world.advance(1)
    assert before.id not in {runner.id for runner in await world.runners()}
    assert (await world.call()).body == b"fresh"


async def test_of_two_renewals_the_later_one_counts(world: World) -> None:
    revision = await world.deploy(says("a"), Script(setup_ms=3_000), says("b"))
    first = await world.ask(ReleaseKind.RENEW, revision)
    await world.advance(1)
    second = await world.ask(ReleaseKind.RENEW, revision)
    assert (await world.released(first)).state is ReleaseState.FAILED
    assert (await world.released(second)).state is ReleaseState.DONE
    await world.advance(1)
    assert len(await world.runners()) == 1 and all(runner.created_ms >= second.begun_ms for runner in await world.runners())


# a new revision's first minutes


def fails_each(every: int, status: int = 500) -> Script:
    """Every so many-th call fails."""
    count = 0

    def answer(call: Received) -> Answer:
        nonlocal count
        count += 1
        return Answer(status, b"bad") if count % every == 0 else Answer(body=b"new")

    return Script(answer=answer)


async def trial_of(world: World, revision: Revision) -> Release:
    (found,) = [
        one
        for one in await world.server.store.releases.list("me", "app")
        if one.kind is ReleaseKind.TRIAL and one.revision_id == revision.id
    ]
    return found


async def calls_for(world: World, seconds: float, gap_s: float = 0.5) -> list[bytes]:
    bodies: list[bytes] = []
    for _ in range(int(seconds / gap_s)):
        bodies.append((await world.call()).body)
        await world.advance(gap_s)
    return bodies


async def test_a_revision_that_fails_one_call_in_five_gives_the_alias_back_within_half_a_minute(world: World) -> None:
    old = await world.deploy(says("old", after_ms=10))
    await calls_for(world, 10)
    bad = await world.deploy(*[fails_each(5)] * 4)
    switched_ms = world.clock.now_ms()
    while await points_to(world) == bad.id:
        await calls_for(world, 0.5)
    assert world.clock.now_ms() - switched_ms <= 30_000
    assert await points_to(world) == old.id
    trial = await trial_of(world, bad)
    assert trial.state is ReleaseState.FAILED and "calls failed (2" in trial.reason
    kinds = [event.kind for event in await world.events("app:me/app")]
    assert kinds.count("pointed") == 2
    assert (await world.call()).body == b"old"


async def test_an_app_that_has_always_failed_as_often_keeps_its_new_revision(world: World) -> None:
    await world.deploy(*[fails_each(5)] * 2)
    await calls_for(world, 60)
    new = await world.deploy(*[fails_each(5)] * 2)
    await calls_for(world, 310)
    assert await points_to(world) == new.id
    assert (await trial_of(world, new)).state is ReleaseState.DONE


async def test_a_good_revision_keeps_the_alias_and_is_not_watched_for_ever(world: World) -> None:
    await world.deploy(says("old", after_ms=10))
    new = await world.deploy(says("new", after_ms=10))
    await calls_for(world, 310, gap_s=2)
    trial = await trial_of(world, new)
    assert trial.state is ReleaseState.DONE and "300 s" in trial.reason
    assert await points_to(world) == new.id


async def test_a_revision_whose_runners_die_gives_the_alias_back_and_loses_no_queued_request(world: World) -> None:
    old = await world.deploy(says("old", after_ms=10))
    bad = await world.deploy(*[Script(answer=always(Crash(after_ms=50)))] * 10)
    queued = await world.submits(3)
    await world.advance(30)
    assert await points_to(world) == old.id and bad.id != old.id
    later = await world.submits(5)
    assert {(await world.finished(one)).body for one in later} == {b"old"}
    assert {(await world.finished(one)).status for one in queued} <= {200, 503}


async def test_recreate_gives_back_what_does_not_start(world: World) -> None:
    old = await world.deploy(says("old", after_ms=10))
    bad = await world.deploy(*[Script(setup_error="KeyError: 'weights'")] * 3, plan=DeployPlan("recreate", "public"))
    assert await points_to(world) == bad.id
    call = world.call()
    await world.advance(10)
    assert await points_to(world) == old.id
    assert (await call).body == b"old"


async def test_a_first_deploy_has_nothing_to_give_back_to(world: World) -> None:
    bad = await world.deploy(*[fails_each(1)] * 3)
    await calls_for(world, 30)
    assert await points_to(world) == bad.id
    assert await world.server.store.releases.list("me", "app") == ()


async def test_a_rollback_is_not_watched(world: World) -> None:
    old, _ = await two_revisions(world)
    await world.move(old)
    under_way = await world.server.store.releases.under_way()
    assert [one.kind for one in under_way if one.revision_id == old.id] == []


async def test_a_trial_goes_on_in_the_next_server(world: World) -> None:
    old = await world.deploy(says("old", after_ms=10))
    await world.deploy(*[fails_each(2)] * 4)
    await world.crash()
    await world.start_server()
    await calls_for(world, 20)
    assert await points_to(world) == old.id


async def test_a_detached_deploy_moves_the_alias_first_and_is_not_given_back(world: World) -> None:
    old = await world.deploy(says("old"))
    new = await world.deploy(Script(setup_ms=20_000, answer=always(Answer(body=b"new"))), plan=DeployPlan(auth="public", detached=True))
    assert await points_to(world) == new.id and new.id != old.id
    reply = await world.call()
    assert reply.body == b"new" and reply.ms >= 19_000
    assert await world.server.store.releases.list("me", "app") == ()
