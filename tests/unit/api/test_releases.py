from __future__ import annotations

import dataclasses

import pytest

from roost.core.lifecycle import ReleaseEvent
from roost.core.model import ReleaseState, RevisionState, RunnerState
from tests.unit.api.world import NOW_MS, READER, STRANGER, World, recipe_of, revision_of


async def packages(world: World, revision_id: str) -> None:
    """Its environment is built."""
    revision = await world.revision(revision_id)
    environments = world.store.environments
    await environments.put_pending(revision.env_key, recipe_of(revision.spec)[0], NOW_MS)
    if await environments.claim_build(revision.env_key, NOW_MS):
        await environments.finish(revision.env_key, True, "", (), 0, 0, NOW_MS)


async def two_revisions(world: World) -> None:
    """ada/hello points to rev-2; rev-1 served before."""
    for name in ("rev-1", "rev-2"):
        await world.app("hello", revision_id=name)
        await packages(world, name)


async def test_revisions_are_listed_with_the_active_one_marked(world: World):
    await two_revisions(world)
    await world.runner("r1", revision_id="rev-2")
    found = (await world.call("GET", "/v1/apps/ada/hello/revisions", key=READER)).json["revisions"]
    assert {(item["revision_id"], item["active"], item["runners"]) for item in found} == {("rev-1", False, 0), ("rev-2", True, 1)}


async def test_a_rollback_is_answered_with_a_release_that_is_under_way(world: World):
    await two_revisions(world)
    answer = await world.call("POST", "/v1/apps/ada/hello/revision", {"revision_id": "rev-1", "auth": "public"})
    assert answer.status == 202
    release = answer.json["release"]
    assert (release["kind"], release["revision_id"], release["state"], release["strategy"]) == ("move", "rev-1", "UNDER_WAY", "rolling")
    (kept,) = await world.store.releases.under_way()
    assert (kept.id, kept.auth, kept.begun_ms) == (release["release_id"], "public", NOW_MS)
    await world.store.releases.end(kept.id, ReleaseEvent.FAIL, "setup() raised", NOW_MS + 5)
    shown = (await world.call("GET", f"/v1/apps/ada/hello/releases/{kept.id}", key=READER)).json["release"]
    assert (shown["state"], shown["reason"]) == ("FAILED", "setup() raised")
    assert [one["release_id"] for one in (await world.call("GET", "/v1/apps/ada/hello/releases")).json["releases"]] == [kept.id]


async def test_a_revision_may_be_named_by_its_first_characters(world: World):
    await world.app("hello", revision_id="aaaa-1")
    await world.app("hello", revision_id="aaaa-2")
    await world.app("hello", revision_id="bbbb-1")
    await packages(world, "aaaa-1")
    assert (await world.call("POST", "/v1/apps/ada/hello/revision", {"revision_id": "aaaa-1"})).status == 202
    status, code, detail = (await world.call("POST", "/v1/apps/ada/hello/revision", {"revision_id": "aaaa"})).refusal()
    assert (status, code) == (400, "bad_request") and "2 revisions" in detail
    assert (await world.call("POST", "/v1/apps/ada/hello/revision", {"revision_id": "aaa"})).status == 404


async def test_what_cannot_be_pointed_to_is_refused_with_a_sentence(world: World):
    await two_revisions(world)
    for body, status, code, says in (
        ({"revision_id": "rev-2"}, 409, "conflict", "already"),
        ({"revision_id": "rev-9"}, 404, "not_found", "no revision"),
        ({}, 400, "bad_request", "revision_id is missing"),
        ({"revision_id": "rev-1", "strategy": "sideways"}, 422, "unprocessable", "strategy"),
        ({"revision_id": "rev-1", "auth": "secret"}, 422, "unprocessable", "auth"),
    ):
        answer = await world.call("POST", "/v1/apps/ada/hello/revision", body)
        assert (answer.status, answer.json["error_type"]) == (status, code), answer.body
        assert says in answer.json["detail"]
    assert await world.store.releases.under_way() == ()


async def test_a_revision_that_failed_or_lost_its_packages_cannot_come_back(world: World):
    await two_revisions(world)
    await world.store.revisions.set_state("rev-1", (RevisionState.DEPLOYED,), RevisionState.FAILED, "setup() raised", NOW_MS)
    assert "FAILED" in (await world.call("POST", "/v1/apps/ada/hello/revision", {"revision_id": "rev-1"})).json["detail"]
    await world.store.revisions.set_state("rev-1", (RevisionState.FAILED,), RevisionState.DEPLOYED, "", NOW_MS)
    await world.store.revisions.create(dataclasses.replace(revision_of("other", "ada", "rev-3"), env_key="f" * 32))
    await world.app("other", revision_id="rev-4")
    status, code, detail = (await world.call("POST", "/v1/apps/ada/other/revision", {"revision_id": "rev-3"})).refusal()
    assert (status, code) == (409, "conflict") and "packages" in detail


async def test_fresh_runners_are_a_release_too(world: World):
    await two_revisions(world)
    release = (await world.call("POST", "/v1/apps/ada/hello/rollout")).json["release"]
    assert (release["kind"], release["revision_id"]) == ("renew", "rev-2")
    (kept,) = await world.store.releases.under_way()
    assert kept.state is ReleaseState.UNDER_WAY


async def test_by_force_all_runners_end_at_once(world: World):
    await two_revisions(world)
    await world.runner("r1", revision_id="rev-2")
    await world.runner("r2", revision_id="rev-2")
    answer = await world.call("POST", "/v1/apps/ada/hello/rollout", {"force": True})
    assert (answer.status, answer.json) == (202, {"killed": 2})
    assert sorted(world.killed) == ["r1", "r2"]
    assert {runner.state for runner in await world.store.runners.living()} == {RunnerState.TERMINATING}
    assert (await world.call("POST", "/v1/apps/ada/hello/rollout", {"force": "yes"})).status == 400


async def test_a_revision_is_deleted_unless_something_needs_it(world: World):
    await two_revisions(world)
    assert (await world.call("DELETE", "/v1/apps/ada/hello/revisions/rev-2")).json["error_type"] == "conflict"
    await world.runner("r1", revision_id="rev-1")
    assert (await world.call("DELETE", "/v1/apps/ada/hello/revisions/rev-1")).status == 409
    await world.store.runners.move("r1", (RunnerState.IDLE,), RunnerState.TERMINATED, "gone", NOW_MS)
    assert (await world.call("DELETE", "/v1/apps/ada/hello/revisions/rev-1")).status == 204
    assert await world.store.revisions.get("rev-1") is None
    assert (await world.call("DELETE", "/v1/apps/ada/hello/revisions/rev-1")).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/apps/ada/hello/revisions"),
        ("POST", "/v1/apps/ada/hello/revision"),
        ("POST", "/v1/apps/ada/hello/rollout"),
        ("GET", "/v1/apps/ada/hello/releases"),
        ("GET", "/v1/apps/ada/hello/releases/x"),
        ("DELETE", "/v1/apps/ada/hello/revisions/rev-1"),
    ],
)
async def test_somebody_elses_app_is_unknown(world: World, method: str, path: str):
    await two_revisions(world)
    assert (await world.call(method, path, key=STRANGER)).status == 404


async def test_keys_that_only_call_may_look_but_change_nothing(world: World):
    await two_revisions(world)
    assert (await world.call("POST", "/v1/apps/ada/hello/revision", {"revision_id": "rev-1"}, key=READER)).status == 403
    assert (await world.call("POST", "/v1/apps/ada/hello/rollout", key=READER)).status == 403
