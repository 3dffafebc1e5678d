"""`/api/fal/proxy`: a request that names where it would have been sent is served as if it had been sent there, and any page may make it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roost.core.model import Key
from roost.testkit.calling import Calling
from roost.testkit.dialling import Dialling
from roost.testkit.script import Answer, Received, Script, always
from roost.testkit.world import World
from roost.web.auth import hash_secret
from roost.web.shortcut import Request

DOOR = "/api/fal/proxy"
PAGE = {"origin": "https://page.example"}
OPEN = ("*", "*")


async def make_key(world: World, owner: str) -> str:
    """The Authorization of an account."""
    store = world.server.store
    await store.keys.create(Key(owner, owner, "API", "", hash_secret(world.server.pepper, "s"), 0, None))
    await world.server.reload_keys()
    return f"Key {owner}:s"


def ask(world: World, target: str, method: str = "POST", body: bytes = b"{}", **fields: str) -> Calling | Dialling:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return world.call(DOOR, method=method, body=body, headers={**PAGE, "x-fal-target-url": target, **named})


def readable(calling: Any) -> tuple[str, str]:
    """What lets a page read this answer."""
    headers = calling.headers
    return headers.get("access-control-allow-origin", ""), headers.get("access-control-expose-headers", "")


def told(calling: Calling | Dialling) -> list[Any]:
    """The states that a stream has said."""
    blocks = calling.reply.body.decode().split("\n\n")[:-1]
    return [json.loads(block.removeprefix("data: "))["status"] for block in blocks if block.startswith("data: ")]


async def test_a_call_runs_as_if_it_had_been_dialled(world: World) -> None:
    await world.app(Script(answer=always(Answer(201, b"done", ((b"x-mine", b"1"),)))))
    reply = await ask(world, "https://fal.run/me/app/paint?steps=3", body=b'{"a":1}', x_app_mine="2", cookie="secret=1")
    (call,) = world.backend.received
    assert (reply.status, reply.body, reply.headers["x-mine"], readable(reply)) == (201, b"done", "1", OPEN)
    assert reply.headers["x-fal-request-id"] == call.request_id
    assert (call.path, call.head.query, call.body) == ("/paint", b"steps=3", b'{"a":1}')
    assert (call.header("host"), call.header("x-forwarded-proto"), call.header("x-app-mine")) == ("fal.run", "https", "2")
    assert not any(call.header(name) for name in ("x-fal-target-url", "origin", "cookie"))


async def test_only_the_callers_own_key_opens_a_private_app(world: World) -> None:
    await world.app(auth="private")
    refused = await ask(world, "https://fal.run/me/app")
    assert (refused.status, refused.error_type, readable(refused)) == (401, "unauthorized", OPEN)
    stranger = await ask(world, "https://fal.run/me/app", authorization=await make_key(world, "ada"))
    assert (stranger.status, stranger.error_type, readable(stranger)) == (403, "forbidden", OPEN)
    assert (await ask(world, "https://fal.run/me/app", authorization=await make_key(world, "me"))).status == 200


async def test_a_request_goes_through_the_queue_by_the_names_that_clients_have(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=500))))
    submitted = await ask(world, "https://queue.fal.run/me/app/paint", x_fal_queue_priority="low")
    request_id = submitted.json["request_id"]
    url = f"https://queue.fal.run/me/app/requests/{request_id}"
    assert (submitted.status, submitted.json["status_url"], readable(submitted)) == (200, f"{url}/status", OPEN)
    status = await ask(world, f"{url}/status?logs=0", "GET", b"")
    assert (status.status, status.json["status"], status.json["response_url"], readable(status)) == (202, "IN_QUEUE", url, OPEN)
    await world.advance(5)
    result = await ask(world, url, "GET", b"")
    assert (result.status, result.body, result.headers["x-fal-request-id"], readable(result)) == (200, b"ok", request_id, OPEN)
    over = await ask(world, f"{url}/cancel", "PUT", b"")
    assert (over.status, over.json["status"], readable(over)) == (400, "ALREADY_COMPLETED", OPEN)


async def test_a_status_stream_arrives_as_it_is_told(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=2_000))))
    request_id = await world.submit()
    stream = ask(world, f"https://queue.fal.run/me/app/requests/{request_id}/status/stream", "GET", b"")
    await world.advance(0.1)
    assert told(stream) == ["IN_QUEUE"] and stream.reply.headers["content-type"] == "text/event-stream"
    await world.advance(2)
    assert told(stream)[-1] == "IN_PROGRESS" and not stream.done
    assert told((await stream) and stream)[-1] == "COMPLETED" and readable(stream.reply) == OPEN


async def test_an_answer_of_the_app_streams_through(world: World) -> None:
    await world.app(Script(answer=always(Answer(body=b"data: 1\n\n", stream_ms=2_000))))
    stream = ask(world, "https://fal.run/me/app/stream")
    await world.advance(2)
    assert stream.reply.status == 200 and not stream.done
    assert (await stream).body == b"data: 1\n\n"


async def test_a_caller_that_hangs_up_is_told_to_the_app(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=60_000, minds_caller=True))))
    calling = ask(world, "https://fal.run/me/app/paint")
    await world.advance(3)
    calling.hang_up()
    await world.advance(6)
    assert [call.path for call in world.backend.received] == ["/paint", "/paint/cancel"]
    assert world.in_flight() == 0


@pytest.mark.parametrize(
    ("target", "status", "error_type"),
    [
        ("https://example.com/me/app", 412, "bad_target"),
        ("https://me:s@fal.run/me/app", 412, "bad_target"),
        ("https://rest.fal.ai/v1/apps", 412, "bad_target"),
        ("http://roost.test/v1/apps", 412, "bad_target"),
        ("https://fal.run/me/nothing", 404, "not_found"),
    ],
)
async def test_a_refusal_can_be_read_by_the_page(world: World, target: str, status: int, error_type: str) -> None:
    reply = await ask(world, target)
    assert (reply.status, reply.error_type, readable(reply)) == (status, error_type, OPEN)
    assert reply.headers["x-fal-request-id"] and world.backend.received == []


async def test_a_door_without_a_target_says_so(world: World) -> None:
    reply = await world.call(DOOR)
    assert (reply.status, reply.error_type) == (400, "bad_request")


async def test_a_page_may_send_its_key_and_fields(world: World) -> None:
    reply = await world.call(DOOR, method="OPTIONS", body=b"", headers={**PAGE, "access-control-request-method": "PUT"})
    allowed = {name: reply.headers[f"access-control-allow-{name}"] for name in ("origin", "methods", "headers")}
    assert (reply.status, allowed) == (204, {"origin": "*", "methods": "*", "headers": "*, authorization"})
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("path", ["/me/app", "/_queue/me/app", "/_queue/me/app/requests/x/status", "/tokens/", "/storage/upload/initiate"])
async def test_calls_the_queue_and_what_stands_around_them_are_open_to_pages(world: World, path: str) -> None:
    reply = await world.call(path, method="OPTIONS", body=b"", headers={**PAGE, "access-control-request-method": "POST"})
    assert (reply.status, reply.headers["access-control-allow-headers"]) == (204, "*, authorization")


async def test_a_page_reads_the_id_of_a_call_that_the_app_lets_it_read(world: World) -> None:
    await world.app(Script(answer=always(Answer(headers=((b"access-control-allow-origin", b"*"),)))))
    direct = await world.call(headers=PAGE)
    again = await world.call(headers=PAGE)
    queued = await world.finished(await world.submit(origin="https://page.example"))
    assert [readable(reply) for reply in (direct, again, queued)] == [OPEN] * 3


async def test_an_app_that_lets_no_page_read_is_left_alone(world: World) -> None:
    await world.app(Script(answer=always(Answer())))
    assert readable(await world.call(headers=PAGE)) == ("", "")


async def test_a_call_that_waits_is_served_by_the_next_server(world: World) -> None:
    await world.app(Script(setup_ms=3_000))
    waiting = ask(world, "https://fal.run/me/app/paint")
    await world.advance(1)
    await world.hand_over()
    reply = await waiting
    assert (reply.status, [call.path for call in world.backend.received], readable(reply)) == (200, ["/paint"], OPEN)


async def test_an_attempt_at_realtime_is_told_that_there_is_none(world: World) -> None:
    await world.app()
    reply = await world.call("/me/app/realtime", method="GET", body=b"", headers={"connection": "Upgrade", "upgrade": "websocket"})
    assert (reply.status, reply.error_type) == (501, "not_implemented")


# the short ways, which go by a request's head alone


async def test_targets_are_told_apart_on_one_connection(world: World) -> None:
    await world.app(Script(answer=lambda call: Answer(body=call.path.encode())), min_concurrency=1, max_multiplexing=4)
    await world.advance(3)
    for path in ("/a", "/b", "/a", "/c"):
        assert (await ask(world, f"https://fal.run/me/app{path}")).body == path.encode()
    assert (await ask(world, "https://queue.fal.run/me/app/a")).json["status"] == "IN_QUEUE"
    assert (await ask(world, "https://example.com/me/app/a")).status == 412


@pytest.mark.parametrize("host", [b"roost.test", b"fal.run", b"queue.fal.run", b"queue.roost.test", b"rest.fal.ai"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_no_short_way_takes_a_request_at_the_door(world: World, host: bytes, method: str) -> None:
    await world.app(min_concurrency=1)
    await world.advance(3)
    headers = [(b"host", host), (b"x-fal-target-url", b"https://fal.run/me/app"), (b"content-length", b"2")]
    assert world.server.http._shorts is not None
    for shorts in world.server.http._shorts:
        assert shorts.shortcut.plan(Request(method, DOOR.encode(), b"", headers, "http", "1.1", True)) is None


async def test_the_caller_behind_the_door_is_the_one_that_dialled_it(world: World) -> None:
    seen: list[Received] = []

    def answer(call: Received) -> Answer:
        seen.append(call)
        return Answer()

    await world.app(Script(answer=answer))
    await ask(world, "https://fal.run/me/app", x_forwarded_for="203.0.113.9")
    assert seen[0].header("x-forwarded-for") in ("192.0.2.1", "")
