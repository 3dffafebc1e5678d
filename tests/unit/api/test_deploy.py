from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roost.core.model import Recipe, RevisionState, RunnerState
from tests.unit.api.world import NOW_MS, STRANGER, URL, Stream, World, recipe_of, spec_of


async def begin(world: World, body: dict[str, Any] | None = None, **spec: Any) -> tuple[Stream, str]:
    """A deploy whose revision is there: its stream and the revision's id."""
    stream = world.stream("POST", "/v1/deploy", {"manifest": await world.manifest(**spec), **(body or {})})
    accepted = await stream.until("accepted")
    return stream, accepted[0]["revision_id"]


async def test_a_deploy_is_told_step_by_step(world: World):
    with world.hints.listen("build") as build:
        stream, revision_id = await begin(world, {"auth": "public", "message": "first"})
        assert build.is_set()
    revision = await world.revision(revision_id)
    assert (revision.state, revision.plan.strategy, revision.plan.auth, revision.message) == (
        RevisionState.BUILDING,
        "rolling",
        "public",
        "first",
    )
    assert (await stream.until("step", step="environment"))[-1]["state"] == "begin"
    world.clock.ms += 700
    await world.built(revision_id)
    assert (await stream.until("step", step="environment"))[-1] == {"event": "step", "step": "environment", "state": "end", "ms": 700}
    assert (await stream.until("step", step="start"))[-1]["state"] == "begin"
    await world.started(revision_id, "r1")
    await world.moved("r1", RunnerState.SETUP)
    assert (await stream.until("step", step="setup"))[-1]["state"] == "begin"
    world.clock.ms += 1_100
    assert (await stream.until("step", step="setup"))[-1] == {"event": "step", "step": "setup", "state": "progress", "ms": 1_100}
    world.prints("r1", "loading the model")
    log = (await stream.until("log"))[-1]
    assert (log["message"], log["level"], log["source"], log["runner_id"]) == ("loading the model", "STDOUT", "user", "r1")
    await world.moved("r1", RunnerState.IDLE, ready_ms=world.clock.ms)
    assert (await stream.until("step", step="switch"))[-1]["state"] == "begin"
    await world.switched(revision_id)
    rest = await stream.rest()
    assert [(event["event"], event.get("step"), event.get("state")) for event in rest[:1]] == [("step", "switch", "end")]
    assert rest[1:] == [
        {
            "event": "ready",
            "application": "ada/hello",
            "revision_id": revision_id,
            "auth": "public",
            "url": f"{URL}/ada/hello",
            "queue_url": f"{URL}/_queue/ada/hello",
            "endpoints": [{"path": "/", "url": f"{URL}/ada/hello"}, {"path": "/other", "url": f"{URL}/ada/hello/other"}],
            "ms": 1_800,
        },
        {"event": "done", "application": "ada/hello", "revision_id": revision_id, "status": "deployed"},
    ]


async def test_the_build_log_is_told_but_not_that_of_an_earlier_build(world: World):
    _, key = recipe_of(spec_of())
    path = world.builds.log_path(key)
    path.write_text("an old failure\n")
    await world.store.environments.put_pending(key, Recipe("3.11", (), ()), NOW_MS)
    stream, revision_id = await begin(world)
    path.write_text("resolving\ninstalling\n")
    lines = [(await stream.until("log"))[-1] for _ in range(2)]
    assert [(line["message"], line["source"], line["level"]) for line in lines] == [
        ("resolving", "builder", "INFO"),
        ("installing", "builder", "INFO"),
    ]
    await world.failed(revision_id, "no")


async def test_a_deploy_that_joins_a_build_gets_its_log_from_the_first_line(world: World):
    _, key = recipe_of(spec_of())
    await world.store.environments.put_pending(key, Recipe("3.11", (), ()), NOW_MS)
    await world.store.environments.claim_build(key, NOW_MS)
    world.builds.log_path(key).write_text("resolving\n")
    stream, _ = await begin(world)
    assert (await stream.until("log"))[-1]["message"] == "resolving"


async def test_a_failed_build_is_the_resolvers_words_and_what_to_do(world: World):
    stream, revision_id = await begin(world)
    key = (await world.revision(revision_id)).env_key
    await world.store.environments.put_pending(key, Recipe("3.11", (), ()), NOW_MS)
    await world.store.environments.claim_build(key, NOW_MS)
    await world.store.environments.finish(key, False, "no such package:\n  nunpy", (), 0, 0, NOW_MS)
    await world.failed(revision_id, "no such package:\n  nunpy\nDid you mean numpy?")
    error = (await stream.rest())[-1]
    assert error == {
        "event": "error",
        "detail": "no such package:\n  nunpy",
        "error_type": "build_failed",
        "hint": "Did you mean numpy?",
    }


async def test_a_failed_setup_is_told_after_the_last_lines_of_its_runner(world: World):
    stream, revision_id = await begin(world)
    await world.built(revision_id)
    await world.started(revision_id, "r1")
    await world.moved("r1", RunnerState.SETUP)
    await stream.until("step", step="setup")
    await world.failed(revision_id, "setup() raised: ValueError: no")
    # The process writes its last words and ends a moment after the revision has failed.
    world.prints("r1", "Traceback ...", stream="err")
    await world.moved("r1", RunnerState.TERMINATED)
    rest = [event for event in await stream.rest() if event["event"] != "step"]
    assert [event["event"] for event in rest] == ["log", "error"]
    assert (rest[1]["error_type"], rest[1]["detail"]) == ("setup_failed", "setup() raised: ValueError: no")


async def test_a_runner_that_does_not_end_keeps_the_error_back_for_a_second_only(world: World):
    stream, revision_id = await begin(world)
    await world.built(revision_id)
    await world.started(revision_id, "r1")
    await stream.until("step", step="start")
    await world.failed(revision_id, "setup() did not end within startup_timeout 600 s")
    while stream.outbox.empty():
        world.clock.ms += 250
        await world.store.meta.get("a moment")
    assert (await stream.rest())[-1]["error_type"] == "startup_timeout"


async def test_a_caller_who_hangs_up_has_ended_the_deploy(world: World):
    stream, revision_id = await begin(world)
    with world.hints.listen("build") as build, world.hints.listen("fleet") as fleet:
        await stream.hang_up()
        assert build.is_set() and fleet.is_set()
    revision = await world.revision(revision_id)
    assert (revision.state, revision.reason) == (RevisionState.FAILED, "the author ended the deploy")


async def test_hanging_up_after_the_switch_changes_nothing(world: World):
    stream, revision_id = await begin(world)
    await world.built(revision_id)
    await world.switched(revision_id)
    await stream.hang_up()
    assert (await world.revision(revision_id)).state is RevisionState.DEPLOYED


async def test_a_planned_restart_leaves_the_deploy_under_way_and_the_same_request_finds_it_again(world: World):
    stream, revision_id = await begin(world)
    world.closing.set()
    assert (await stream.rest())[-1] == {"event": "restarting"}
    assert (await world.revision(revision_id)).state is RevisionState.BUILDING
    assert (await world.call("POST", "/v1/deploy", {"manifest": await world.manifest()})).refusal()[:2] == (503, "server_stopping")
    world.closing.clear()
    _, again = await begin(world)
    assert again == revision_id


async def test_a_second_deploy_of_the_same_beside_the_first_is_another_revision(world: World):
    _, first = await begin(world)
    _, second = await begin(world)
    _, third = await begin(world, pickle=b"edited")
    assert len({first, second, third}) == 3


async def test_a_quiet_deploy_is_alive(world: World):
    stream, _ = await begin(world)
    await stream.until("step", state="begin")
    world.clock.ms += 1_900
    assert (await stream.next() or {})["event"] in ("step", "beat")


@pytest.mark.parametrize(
    ("spec", "status", "code", "said"),
    [
        ({"name": "no spaces"}, 422, "unprocessable", "'no spaces' cannot be an app's name"),
        ({"name": "a--b"}, 422, "unprocessable", "cannot be an app's name"),
        ({"machine_types": ("GPU-H1000",)}, 422, "unprocessable", "there is no machine type 'GPU-H1000'"),
        ({"machine_types": ("GPU-H100",)}, 422, "unsatisfiable", "GPU-H100 needs 1 x H100, and this machine has no GPU"),
        ({"runtime": "9.9.9"}, 422, "version_mismatch", "roost 9.9.9"),
        ({"requirements": (("pydantic<2",),), "pins": ("pydantic==2.7.1",)}, 422, "build_failed", "pydantic 2.7.1"),
        ({"kind": "container"}, 422, "unprocessable", "'container'"),
        ({"min_concurrency": -1}, 422, "unprocessable", "min_concurrency must be at least 0"),
    ],
)
async def test_a_deploy_that_cannot_succeed_is_refused_before_anything_is_made(
    world: World, spec: dict[str, Any], status: int, code: str, said: str, tmp_path: Path
):
    answer = await world.call("POST", "/v1/deploy", {"manifest": await world.manifest(**spec)})
    assert answer.refusal()[:2] == (status, code)
    assert said in answer.json["detail"]
    assert await world.store.revisions.in_state(*RevisionState) == ()
    assert not (tmp_path / "bundles").exists()


async def test_what_does_not_fit_names_the_way_out(world: World):
    answer = await world.call("POST", "/v1/deploy", {"manifest": await world.manifest(machine_types=("GPU-H100",))})
    assert "--machine-type" in answer.json["hint"]
    assert "XS, S, M" in answer.json["hint"]


async def test_missing_pieces_are_a_conflict(world: World):
    manifest = await world.manifest()
    manifest["pickle_sha256"] = "0" * 64
    assert (await world.call("POST", "/v1/deploy", {"manifest": manifest})).refusal()[:2] == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "manifest"),
        ({"manifest": {"spec": {"name": 3}}}, "manifest.spec.name"),
        ({"manifest": 5}, "manifest"),
    ],
)
async def test_a_manifest_that_is_none_is_refused_by_the_name_of_its_part(world: World, body: dict[str, Any], said: str):
    status, code, detail = (await world.call("POST", "/v1/deploy", body)).refusal()
    assert (status, code) == (422, "unprocessable")
    assert said in detail


@pytest.mark.parametrize(("name", "value"), [("auth", "secret"), ("strategy", "fast"), ("auth", ["public"])])
async def test_a_word_that_the_server_does_not_know_is_refused(world: World, name: str, value: Any):
    status, _, detail = (await world.call("POST", "/v1/deploy", {"manifest": await world.manifest(), name: value})).refusal()
    assert status == 422
    assert detail.startswith(f"{name} must be one of")


async def test_keys_of_a_newer_roost_are_ignored(world: World):
    manifest = await world.manifest()
    manifest["spec"]["invented_later"] = 1
    stream = world.stream("POST", "/v1/deploy", {"manifest": manifest, "invented_later": 2})
    assert (await stream.until("accepted"))[0]["application"] == "ada/hello"


async def test_two_owners_may_have_an_app_of_one_name(world: World):
    await world.app("hello")
    body = {"manifest": await world.manifest()}
    stream = world.stream("POST", "/v1/deploy", body, key=STRANGER)
    assert (await stream.until("accepted"))[0]["application"] == "bob/hello"


async def test_a_detached_deploy_of_an_app_that_exists_is_told_at_once_and_goes_on_when_its_author_leaves(world: World):
    await world.app("hello", revision_id="rev-1")
    stream = world.stream("POST", "/v1/deploy", {"manifest": await world.manifest(), "detach": True, "reset_scale": True})
    events = await stream.rest()
    assert [(one["event"], one.get("status")) for one in events] == [("accepted", None), ("done", "rolling_out")]
    revision = await world.revision(events[0]["revision_id"])
    assert revision.plan.detached and revision.plan.reset_scale and revision.state is RevisionState.BUILDING


async def test_a_first_deploy_is_waited_for_also_when_it_is_detached(world: World):
    stream = world.stream("POST", "/v1/deploy", {"manifest": await world.manifest(), "detach": True})
    assert (await stream.until("accepted"))[-1]["event"] == "accepted"
    assert (await stream.next() or {}).get("event") != "done"
    await stream.hang_up()


@pytest.mark.parametrize("body", [{"detach": "yes"}, {"reset_scale": 1}, {"detach": True, "strategy": "recreate"}])
async def test_flags_that_cannot_be_are_refused(world: World, body: dict[str, Any]):
    assert (await world.call("POST", "/v1/deploy", {"manifest": await world.manifest(), **body})).status == 422
