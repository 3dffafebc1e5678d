"""A queued request from its submit to its result through a whole server: what the app gets, and what comes back."""

from __future__ import annotations

from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World

QUEUE = "/_queue/me/app"


async def test_the_app_gets_a_queued_request_as_it_was_sent_and_the_caller_its_answer(world: World) -> None:
    reply = Answer(201, b"\x00made", ((b"content-type", b"image/png"), (b"x-custom", b"1")))
    await world.app(Script(answer=always(reply)))
    fields = {"content-type": "text/plain", "x-mine": "yes", "x-fal-queue-priority": "low", "x-fal-request-timeout": "60"}
    told = (await world.call(f"{QUEUE}/a%2Fb//c?x=1&fal_max_queue_length=9&y", method="PUT", body=b"\x00raw", headers=fields)).json
    await world.advance(5)
    (call,) = world.backend.received
    assert (call.path, call.head.query, call.head.method, call.body) == ("/a%2Fb//c", b"x=1&y", "PUT", b"\x00raw")
    assert (call.request_id, call.header("x-fal-caller-user-id"), call.header("x-mine")) == (told["request_id"], "anonymous", "yes")
    assert {name for name, _ in call.head.headers if name.startswith(b"x-fal-")} == {
        b"x-fal-attempt",
        b"x-fal-request-id",
        b"x-fal-endpoint",
        b"x-fal-caller-user-id",
        b"x-fal-object-lifecycle-preference",
    }
    result = await world.call(told["response_url"].removeprefix("http://roost.test"), method="GET", body=b"")
    assert (result.status, result.body) == (201, b"\x00made")
    assert {name: result.headers.get(name) for name in ("content-type", "x-custom", "x-fal-request-id", "x-fal-served-from")} == {
        "content-type": "image/png",
        "x-custom": "1",
        "x-fal-request-id": told["request_id"],
        "x-fal-served-from": call.runner_id,
    }


async def test_bodies_of_any_size_go_both_ways_unchanged(world: World) -> None:
    for size in (0, 1, 65_536, 65_537, 3_000_000):
        body = bytes(range(251)) * (size // 251 + 1)
        await world.app(Script(answer=always(Answer(200, body[:size]))), name=f"app-{size}")
        told = (await world.call(f"/_queue/me/app-{size}", body=body[:size])).json
        await world.advance(5)
        assert world.backend.received[-1].body == body[:size]
        result = await world.call(f"/_queue/me/app-{size}/requests/{told['request_id']}", method="GET", body=b"")
        assert (result.status, result.body, result.complete) == (200, body[:size], True)


async def test_a_stream_follows_a_request_that_wakes_its_app(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=2_500))))
    told = (await world.call(QUEUE)).json
    stream = await world.call(f"{QUEUE}/requests/{told['request_id']}/status/stream", method="GET", body=b"")
    states = [line.split(b'"')[3].decode() for line in stream.body.split(b"\n") if line.startswith(b"data: ")]
    assert sorted(set(states), key=states.index) == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert states.count("COMPLETED") == 1 and states.count("IN_PROGRESS") >= 3


async def test_flushed_and_cancelled_requests_never_reach_the_app(world: World) -> None:
    await world.app()
    first, second = [(await world.call(QUEUE)).json["request_id"] for _ in range(2)]
    assert (await world.call(f"{QUEUE}/requests/{first}/cancel", method="PUT", body=b"")).status == 202
    await world.server.queue.flush("me", "app")
    await world.advance(10)
    assert world.backend.received == []
    results = [await world.call(f"{QUEUE}/requests/{request_id}", method="GET", body=b"") for request_id in (first, second)]
    assert [(result.status, result.error_type) for result in results] == [(499, "client_cancelled")] * 2
