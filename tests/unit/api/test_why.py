from __future__ import annotations

from typing import Any

from roost.core.model import RunnerState
from roost.core.requests import Claim, Content, Input, NewRequest, Priority, Request, RequestState, RetryRules
from roost.core.stages import ColdStart
from tests.unit.api.world import NOW_MS, READER, RUNNERS_KEY, STRANGER, World


def now(answer: Any) -> list[str]:
    assert answer.status == 200, answer.body
    return [said["text"] for part in answer.json["parts"] if part["title"] == "Now" for said in part["said"]]


async def submitted(world: World, id: str = "q1", caller: str = "ada", owner: str = "ada") -> Request:
    request = Request(
        seq=0,
        id=id,
        owner=owner,
        name="hello",
        environment="main",
        caller=caller,
        state=RequestState.IN_QUEUE,
        priority=Priority.NORMAL,
        attempt=0,
        deaths=0,
        used=(),
        created_ms=world.clock.ms,
        due_ms=None,
        deadline_ms=None,
        hint="",
        rules=RetryRules(),
        store_io=True,
        endpoint="/",
        method="POST",
    )
    await world.queue.submit(NewRequest(request, Input("POST", b"/", b"", (), Content())))
    return request


async def test_a_waiting_request_says_its_place_and_what_its_app_lacks(world: World):
    await world.app("hello")
    await world.runner("r1", RunnerState.SETUP)
    first, _ = await submitted(world), await submitted(world, "q2")
    world.clock.ms += 5_000
    answer = await world.call("GET", "/v1/why/request/q2", key=READER)
    assert (answer.json["kind"], answer.json["id"]) == ("request", "q2")
    assert now(answer)[:3] == [
        "It has waited for 5 s for a runner of ada/hello.",
        "1 request of this app goes before it.",
        "Runner r1 was started 5 s ago and its setup() runs; it has 10 min for each (startup_timeout).",
    ]
    story = next(part["said"] for part in answer.json["parts"] if part["title"] == "What happened")
    assert story[0]["text"].startswith("IN_QUEUE") and story[0]["at"] == "2023-11-14T22:13:20.000+00:00"

    await world.queue.claim(first, Claim("g1", "r1", world.clock.ms + 60_000))
    world.clock.ms += 3_000
    assert now(await world.call("GET", "/v1/why/request/q1")) == ["Attempt 1 has been under way for 3 s on runner r1."]


async def test_what_is_somebody_elses_is_not_there(world: World):
    await world.app("hello")
    await world.runner("r1")
    await submitted(world)
    for path in ("request/q1", "request/q0", "runner/r1", "runner/r0", "app/ada/hello"):
        assert (await world.call("GET", f"/v1/why/{path}", key=STRANGER)).status == 404
    for path in ("request/q1", "runner/r1", "app/ada/hello"):
        assert (await world.call("GET", f"/v1/why/{path}", key=RUNNERS_KEY)).status == 403
    assert (await world.call("GET", "/v1/why/app/ada/nothing")).status == 404


async def test_what_another_accounts_runners_do_is_not_told_to_callers(world: World):
    await world.app("hello", owner="bob")
    await submitted(world, owner="bob")
    assert now(await world.call("GET", "/v1/why/request/q1")) == [
        "It has waited for 0 ms for a runner of bob/hello.",
        "It is the next to go.",
    ]


async def test_a_runner_tells_its_whole_life_also_when_it_has_ended(world: World):
    await world.app("hello")
    await world.runner("r1", RunnerState.PENDING)
    await world.store.runners.keep_cold_start("r1", ColdStart((("fork", 3.25), ("connect", 1.0), ("setup", 8.0))))
    await world.moved("r1", RunnerState.IDLE, ready_ms=NOW_MS + 12)
    world.clock.ms += 9_000
    await world.moved("r1", RunnerState.TERMINATED)
    answer = await world.call("GET", "/v1/why/runner/r1")
    assert "Its cold start took 12.2 ms: fork 3.25 ms, connect 1 ms, setup 8 ms." in now(answer)
    assert "It ended 0 ms ago, after 9 s: no reason is kept." in now(answer)
    assert [said["text"].split(" ")[0].rstrip(":") for said in answer.json["parts"][1]["said"]] == ["PENDING", "IDLE", "TERMINATED"]


async def test_an_app_tells_its_decisions_and_the_starts_that_failed(world: World):
    await world.app("hello")
    for number, reason in enumerate(("no demand", "1 waiting", "2 waiting")):
        await world.store.decisions.record("ada/hello", number, reason, {}, NOW_MS + number)
    await world.runner("r1", RunnerState.SETUP)
    await world.moved("r1", RunnerState.TERMINATED)
    answer = await world.call("GET", "/v1/why/app/ada/hello", key=READER)
    assert "2 runners are wanted, as was decided 0 ms ago: 2 waiting." in now(answer)
    told = {part["title"]: [said["text"] for said in part["said"]] for part in answer.json["parts"]}
    assert told["Decisions"] == ["2 runners: 2 waiting", "1 runner: 1 waiting", "0 runners: no demand"]
    assert told["Starts that did not become ready"][0].startswith("runner r1 of revision rev-1")


async def test_listed_runners_show_what_their_start_took(world: World):
    await world.app("hello")
    await world.runner("r1")
    await world.runner("r2")
    await world.store.runners.keep_cold_start("r2", ColdStart((("spawn", 500.0), ("connect", 90.0), ("setup", 10.0)), "refused"))
    listed = (await world.call("GET", "/v1/runners")).json["runners"]
    assert [runner.get("cold_start") for runner in listed] == [
        None,
        {"ms": 600.0, "stages": {"spawn": 500.0, "connect": 90.0, "setup": 10.0}, "why_spawned": "refused"},
    ]
