from __future__ import annotations

import pytest

from roost.core.model import RunnerState
from roost.core.placement import Unplaced
from tests.unit.api.world import ADMIN, NOW_MS, STRANGER, World

APP_LOGS = "/v1/apps/ada/hello/logs"


async def test_runners_are_listed_and_ended_ones_only_when_asked_for(world: World):
    await world.app("hello")
    await world.app("other", revision_id="rev-2")
    await world.runner("r1")
    await world.runner("r2", revision_id="rev-2")
    await world.runner("r3")
    world.clock.ms += 2_000
    await world.moved("r3", RunnerState.TERMINATED)
    world.clock.ms += 500

    async def listed(query: str) -> list[tuple[str, str, float]]:
        runners = (await world.call("GET", f"/v1/runners{query}")).json["runners"]
        return [(runner["runner_id"], runner["state"], runner["uptime_seconds"]) for runner in runners]

    assert await listed("") == [("r1", "IDLE", 2.5), ("r2", "IDLE", 2.5)]
    assert await listed("?app=ada/hello") == [("r1", "IDLE", 2.5)]
    assert await listed(f"?app=ada/hello&since={NOW_MS}") == [("r3", "TERMINATED", 2.0), ("r1", "IDLE", 2.5)]
    assert await listed(f"?since={NOW_MS + 2_001}") == [("r1", "IDLE", 2.5), ("r2", "IDLE", 2.5)]
    assert (await world.call("GET", "/v1/runners", key=STRANGER)).json == {"runners": []}


@pytest.mark.parametrize("state", [RunnerState.PENDING, RunnerState.SETUP, RunnerState.IDLE, RunnerState.RUNNING])
async def test_a_stopped_runner_drains(world: World, state: RunnerState):
    await world.app("hello")
    await world.runner("r1", state)
    with world.hints.listen("fleet") as fleet:
        answer = await world.call("POST", "/v1/runners/r1/stop")
        assert fleet.is_set()
    assert (answer.status, answer.json) == (202, {"runner_id": "r1", "state": "DRAINING"})
    row = await world.store.runners.get("r1")
    assert row is not None
    assert (row.state, row.reason) == (RunnerState.DRAINING, f"stopped by key:{ADMIN}")
    assert world.killed == []


@pytest.mark.parametrize("state", [RunnerState.DRAINING, RunnerState.TERMINATING, RunnerState.TERMINATED])
async def test_stopping_a_runner_that_goes_already_changes_nothing(world: World, state: RunnerState):
    await world.app("hello")
    await world.runner("r1", state)
    answer = await world.call("POST", "/v1/runners/r1/stop")
    assert (answer.status, answer.json["state"]) == (202, state.value)


async def test_a_killed_runner_is_killed_once(world: World):
    await world.app("hello")
    await world.runner("r1", RunnerState.DRAINING)
    assert (await world.call("POST", "/v1/runners/r1/kill")).json == {"runner_id": "r1", "state": "TERMINATING"}
    await world.moved("r1", RunnerState.TERMINATED)
    assert (await world.call("POST", "/v1/runners/r1/kill")).json["state"] == "TERMINATED"
    assert world.killed == ["r1"]


@pytest.mark.parametrize("verb", ["stop", "kill"])
async def test_a_runner_that_is_not_there_or_not_ones_own_is_not_found(world: World, verb: str):
    await world.app("hello")
    await world.runner("r1")
    for runner_id, key in (("r9", ADMIN), ("r1", STRANGER)):
        status, _, detail = (await world.call("POST", f"/v1/runners/{runner_id}/{verb}", key=key)).refusal()
        assert status == 404
        assert "not found" in detail
    assert world.killed == []


async def test_an_apps_log_is_that_of_all_its_runners_by_time(world: World):
    await world.app("hello")
    await world.app("other", revision_id="rev-2")
    for runner_id, revision_id in (("r1", "rev-1"), ("r2", "rev-1"), ("r3", "rev-2")):
        await world.runner(runner_id, revision_id=revision_id)
    world.prints("r1", "one", at_ms=1_000)
    world.prints("r2", "two", at_ms=2_000)
    world.prints("r1", "three", at_ms=3_000)
    world.prints("r3", "somebody else's")
    await world.moved("r2", RunnerState.TERMINATED)
    assert [line["message"] for line in await world.lines(APP_LOGS)] == ["one", "two", "three"]
    assert [line["message"] for line in await world.lines(f"{APP_LOGS}?lines=2")] == ["two", "three"]
    assert [line["message"] for line in await world.lines(f"{APP_LOGS}?lines=0")] == []
    assert [line["message"] for line in await world.lines("/v1/runners/r1/logs?since=2500")] == ["three"]
    assert (await world.lines("/v1/runners/r2/logs"))[0] == {
        "timestamp": "1970-01-01T00:00:02.000+00:00",
        "level": "STDOUT",
        "source": "user",
        "message": "two",
        "runner_id": "r2",
    }


async def test_a_followed_log_goes_on_with_new_lines_also_of_new_runners(world: World):
    await world.app("hello")
    await world.runner("r1")
    world.prints("r1", "old", "last")
    stream = world.stream("GET", f"{APP_LOGS}?follow=1&lines=1")
    assert (await stream.next() or {})["message"] == "last"
    world.prints("r1", "new")
    assert (await stream.next() or {})["message"] == "new"
    await world.runner("r2")
    world.prints("r2", "from another")
    assert (await stream.next() or {})["message"] == "from another"
    await stream.hang_up()


async def test_a_followed_log_is_alive_when_nothing_is_printed(world: World):
    await world.app("hello")
    stream = world.stream("GET", f"{APP_LOGS}?follow=1")
    await world.lines(APP_LOGS)
    world.clock.ms += 2_000
    assert await stream.next() == {"event": "beat"}


async def test_a_followed_log_says_that_the_server_restarts(world: World):
    await world.app("hello")
    stream = world.stream("GET", f"{APP_LOGS}?follow=1")
    world.closing.set()
    assert await stream.rest() == [{"event": "restarting"}]


@pytest.mark.parametrize("query", ["lines=-1", "lines=x", "since=1.5", "lines=" + "9" * 5000])
async def test_a_log_that_is_asked_for_in_nonsense_is_refused(world: World, query: str):
    await world.app("hello")
    assert (await world.call("GET", f"{APP_LOGS}?{query}")).refusal()[:2] == (422, "unprocessable")


async def test_a_runner_that_there_is_no_room_for_is_pending_with_the_reason(world: World):
    await world.app("hello")
    reason = "GPU-L40 needs 1 x L40, and 2 of 2 are in use"
    for application in ("ada/hello", "bob/hello"):
        world.unplaced[application] = Unplaced(NOW_MS - 3_000, reason, "rev", ("GPU-L40", "GPU"))
    [wanted] = (await world.call("GET", "/v1/runners")).json["runners"]
    assert (wanted["runner_id"], wanted["application"], wanted["state"]) == ("", "ada/hello", "PENDING")
    assert (wanted["reason"], wanted["machine_type"], wanted["uptime_seconds"]) == (f"no room: {reason}", "GPU-L40, GPU", 3.0)
    assert (await world.call("GET", "/v1/runners?app=ada/none")).json == {"runners": []}
    assert (await world.call("GET", "/v1/apps/ada/hello")).json["no_room"] == reason
    world.unplaced.clear()
    assert (await world.call("GET", "/v1/apps/ada/hello")).json["no_room"] == ""
