"""Queued requests over the API: who sees which, how each went, and trying again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roost.core.requests import (
    Again,
    Claim,
    Content,
    Final,
    Input,
    NewRequest,
    Output,
    Priority,
    Request,
    RetryRules,
)
from roost.data.payloads import Payloads
from roost.testkit import blank
from tests.unit.api.world import NOW_MS, READER, STRANGER, URL, World

ISO = "2023-11-14T22:13:20.000+00:00"
JSON_FIELDS = ((b"content-type", b"application/json"),)


async def queued(
    world: World, qid: str, *, owner: str = "ada", name: str = "hello", caller: str = "ada", content: Content | None = None
) -> Request:
    """A request as a submit leaves it."""
    request = blank.REQUEST._replace(
        id=qid,
        owner=owner,
        name=name,
        caller=caller,
        priority=Priority.LOW,
        created_ms=world.clock.ms,
        hint="cats",
        rules=RetryRules(never=True),
        store_io=False,
        endpoint="/other",
        method="PUT",
        gateway_request_id=qid,
    )
    sent = Input("PUT", b"/other", b"x=1", JSON_FIELDS, content or Content(2, b"{}"))
    return (await world.queue.submit(NewRequest(request, sent))).request


async def begun(world: World, qid: str) -> Request:
    request = await world.queue.get(qid)
    assert request is not None
    claimed = await world.queue.claim(request, Claim(f"{qid}-{request.attempt + 1}", "r1", NOW_MS + 10_000))
    assert claimed is not None
    return claimed.request


async def ended(world: World, qid: str) -> None:
    request = await begun(world, qid)
    output = Output(422, JSON_FIELDS, Content(2, b"{}"))
    await world.queue.finish(
        qid, request.attempt, Final(422, "Invalid status code: 422", output=output, inference_ms=250, outcome="the app answered 422")
    )


async def listed(world: World, query: str = "", **asked: Any) -> list[str]:
    answer = await world.call("GET", f"/v1/requests{query}", **asked)
    assert answer.status == 200, answer.body
    return [request["request_id"] for request in answer.json["requests"]]


async def test_requests_are_listed_newest_first_and_narrowed_down(world: World):
    for qid, name, caller in (("q1", "hello", "ada"), ("q2", "other", "bob"), ("q3", "hello", "bob")):
        await queued(world, qid, name=name, caller=caller)
    await ended(world, "q1")
    assert await listed(world) == ["q3", "q2", "q1"]
    assert await listed(world, "?app=ada/hello") == ["q3", "q1"]
    assert await listed(world, "?caller=bob") == ["q3", "q2"]
    assert await listed(world, "?state=completed") == ["q1"]
    assert await listed(world, "?limit=1") == ["q3"]
    assert await listed(world, "?limit=1&before=q3") == ["q2"]


@pytest.mark.parametrize(("key", "theirs"), [("admin", ["q4", "q3", "q2", "q1", "q0"]), (READER, ["q4", "q2", "q0"])])
async def test_pages_show_every_request_once_also_when_more_come_meanwhile(world: World, key: str, theirs: list[str]):
    for number in range(5):
        await queued(world, f"q{number}", caller=("ada", "bob")[number % 2])
    seen: list[str] = []
    while page := await listed(world, f"?limit=2{f'&before={seen[-1]}' if seen else ''}", key=key):
        seen += page
        await queued(world, f"later-{len(seen)}")
    assert seen == theirs


async def test_a_page_has_a_hundred_unless_somebody_asks_for_more(world: World):
    for number in range(103):
        await queued(world, f"q{number}")
    assert len(await listed(world)) == 100
    assert len(await listed(world, "?limit=5000")) == 103
    assert await listed(world, "?before=q3") == ["q2", "q1", "q0"]


async def test_an_account_sees_what_its_apps_got_and_what_it_sent(world: World):
    await queued(world, "own")
    await queued(world, "from-bob", caller="bob")
    await queued(world, "to-bob", owner="bob", name="his")
    await queued(world, "bobs", owner="bob", name="his", caller="bob")
    assert await listed(world) == ["from-bob", "own"]
    assert await listed(world, "?app=bob/his") == ["to-bob"]
    assert await listed(world, key=READER) == ["to-bob", "own"]
    assert await listed(world, "?app=ada/hello", key=READER) == ["own"]
    seen = {
        key: [(await world.call("GET", f"/v1/requests/{qid}", key=key)).status for qid in ("own", "from-bob", "to-bob", "bobs")]
        for key in ("admin", READER, STRANGER)
    }
    assert seen == {"admin": [200, 200, 200, 404], READER: [200, 404, 200, 404], STRANGER: [404, 200, 200, 200]}


@pytest.mark.parametrize(
    ("query", "key", "status", "says"),
    [
        ("?state=FAILED", "admin", 422, "IN_QUEUE"),
        ("?app=hello", "admin", 422, "owner/name"),
        ("?limit=many", "admin", 422, "limit"),
        ("?before=q9", "admin", 404, "q9"),
        ("?caller=bob", READER, 403, "own account"),
    ],
)
async def test_a_list_that_cannot_be_made_says_why(world: World, query: str, key: str, status: int, says: str):
    answer = await world.call("GET", f"/v1/requests{query}", key=key)
    assert answer.status == status and says in answer.body.decode()


async def test_a_request_tells_its_attempts_and_its_timeline(world: World):
    await queued(world, "q1")
    first = await begun(world, "q1")
    await world.queue.requeue("q1", first.attempt, Again(None, "server_error", "the app answered 503"))
    await ended(world, "q1")
    told = (await world.call("GET", "/v1/requests/q1")).json
    attempts, events = told.pop("attempts"), told.pop("events")
    assert told.pop("expires_at") > ISO
    assert told == {
        "request_id": "q1",
        "gateway_request_id": "q1-2",
        "application": "ada/hello",
        "endpoint": "/other",
        "method": "PUT",
        "status": "COMPLETED",
        "priority": "low",
        "caller": "ada",
        "attempt": 2,
        "error": "Invalid status code: 422",
        "status_code": 422,
        "created_at": ISO,
        "started_at": ISO,
        "finished_at": ISO,
        "metrics": {"inference_time": 0.25},
    }
    assert attempts[0] == {
        "number": 1,
        "gateway_request_id": "q1-1",
        "runner_id": "r1",
        "state": "FAILED",
        "started_at": ISO,
        "ended_at": ISO,
        "outcome": "the app answered 503",
        "condition": "server_error",
    }
    assert [attempt["state"] for attempt in attempts] == ["FAILED", "ANSWERED"]
    assert [event["kind"] for event in events] == ["IN_QUEUE", "IN_PROGRESS", "IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


async def test_a_waiting_request_tells_its_place(world: World):
    for qid in ("q1", "q2"):
        await queued(world, qid)
    told = (await world.call("GET", "/v1/requests/q2")).json
    assert (told["status"], told["queue_position"], told["metrics"]) == ("IN_QUEUE", 1, {})
    assert not {"error", "status_code", "runner_id", "started_at", "finished_at"} & told.keys()


async def test_a_retry_is_a_new_request_with_the_same_input(world: World, tmp_path: Path):
    await world.app("hello")
    content = await Payloads(tmp_path / "payloads").put(b"x" * 2_500_000)
    await queued(world, "q1", caller="bob", content=content)
    await ended(world, "q1")
    world.clock.ms += 1000
    answer = await world.call("POST", "/v1/requests/q1/retry")
    new_id = answer.json["request_id"]
    assert (answer.status, answer.json["queue_position"], new_id != "q1") == (201, 0, True)
    assert answer.json["status_url"] == f"{URL}/_queue/ada/hello/requests/{new_id}/status"
    new, sent = await world.store.requests.get(new_id), await world.store.requests.input(new_id)
    assert new is not None and sent is not None
    assert (new.retry_of, new.caller, new.attempt, new.created_ms) == ("q1", "bob", 0, world.clock.ms)
    assert (new.rules, new.priority, new.hint, new.store_io) == (RetryRules(never=True), Priority.LOW, "cats", False)
    assert (sent.method, sent.path, sent.query, sent.headers) == ("PUT", b"/other", b"x=1", JSON_FIELDS)
    # Each row has a file of its own: the older one's goes with it.
    assert sent.content.file != content.file and sent.content.size == 2_500_000
    assert (await world.call("GET", f"/v1/requests/{new_id}")).json["retry_of"] == "q1"


async def test_what_has_not_ended_or_could_not_run_is_not_tried_again(world: World):
    await world.app("hello")
    await queued(world, "q1")
    await queued(world, "q2", name="gone")
    await ended(world, "q2")
    for qid, says in (("q1", "IN_QUEUE"), ("q2", "not deployed")):
        status, code, detail = (await world.call("POST", f"/v1/requests/{qid}/retry")).refusal()
        assert (status, code) == (409, "conflict") and says in detail
    assert (await world.call("POST", "/v1/requests/q2/retry", key=READER)).status == 403
    assert (await world.call("POST", "/v1/requests/q2/retry", key=STRANGER)).status == 404


async def test_a_cancel_is_answered_as_in_the_queue(world: World):
    await queued(world, "q1")
    answers = [await world.call("PUT", "/v1/requests/q1/cancel", key=READER) for _ in range(2)]
    assert [(answer.status, answer.json) for answer in answers] == [
        (202, {"status": "CANCELLATION_REQUESTED"}),
        (400, {"status": "ALREADY_COMPLETED"}),
    ]
    assert (await world.call("PUT", "/v1/requests/q9/cancel")).status == 404


# queues of apps


@pytest.mark.parametrize("key", ["admin", READER])
async def test_a_queues_size_is_told_under_the_names_that_clients_read(world: World, key: str):
    await world.app("hello")
    for qid, caller in (("q1", "ada"), ("q2", "bob"), ("q3", "bob")):
        await queued(world, qid, caller=caller)
    await begun(world, "q3")
    answers = [
        (await world.call("GET", path, key=key)).json
        for path in ("/v1/serverless/apps/ada/hello/queue", "/applications/ada/hello/queue", "/applications/ada/hello/queue?by_user=true")
    ]
    assert answers == [
        {"queue_size": 2},
        {"size": 2, "queue_size": 2},
        {"size": 2, "queue_size": 2, "by_user": {"ada": 1, "bob": 1}},
    ]


async def test_a_flush_ends_what_waits_and_nothing_else(world: World):
    await world.app("hello")
    for qid, caller in (("q1", "ada"), ("q2", "bob"), ("q3", "ada"), ("q4", "ada")):
        await queued(world, qid, caller=caller)
    await begun(world, "q4")
    assert (await world.call("DELETE", "/applications/ada/hello/queue?caller_user_id=bob")).json == {"flushed": 1}
    assert (await world.call("DELETE", "/applications/ada/hello/queue")).json == {"flushed": 2}
    states = [(await world.call("GET", f"/v1/requests/{qid}")).json for qid in ("q1", "q2", "q3", "q4")]
    assert [(told["status"], told.get("error_type")) for told in states] == [("COMPLETED", "client_cancelled")] * 3 + [
        ("IN_PROGRESS", None)
    ]


async def test_only_the_apps_own_admins_flush(world: World):
    await world.app("hello")
    await queued(world, "q1")
    path = "/applications/ada/hello/queue"
    asked = [
        ("DELETE", path, READER),
        ("DELETE", path, STRANGER),
        ("GET", path, STRANGER),
        ("GET", "/applications/ada/none/queue", "admin"),
    ]
    assert [(await world.call(method, path, key=key)).status for method, path, key in asked] == [403, 404, 404, 404]
    assert world.queue.queued("ada/hello") == 1
