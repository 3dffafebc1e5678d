"""Webhooks, from the submit to the receiver, in virtual time (spec: queue.md §9; faults.md F-67 to F-70)."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from urllib.parse import quote

import pytest

from roost.core.webhooks import WebhookState
from roost.server.settings import Settings
from roost.testkit.receivers import Delivery, Fails, IsRefused, Says
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World
from tests.sim.conftest import Another

JSON = ((b"content-type", b"application/json"),)
URL = "https://receiver.example/hook?a=1"


def saying(body: bytes, status: int = 200) -> Script:
    return Script(answer=always(Answer(status, body, JSON)))


async def submit(world: World, url: str = URL, body: bytes = b"{}", headers: dict[str, str] | None = None) -> str:
    reply = await world.call(f"/_queue/me/app?fal_webhook={quote(url, safe='')}", body=body, headers=headers)
    assert reply.status == 200, reply.body
    return str(reply.json["request_id"])


async def submits(world: World, count: int, url: str = URL) -> list[str]:
    return [await submit(world, url) for _ in range(count)]


async def state(world: World, request_id: str) -> tuple[str, int, str]:
    webhook = await world.server.store.webhooks.get(request_id)
    assert webhook is not None
    return webhook.state.value, webhook.tries, webhook.reason


async def all_delivered(world: World, ids: list[str]) -> bool:
    kept = await world.server.store.webhooks.list(limit=10_000)
    return {one.request_id for one in kept if one.state is WebhookState.DELIVERED} == set(ids)


def most_in_a_second(moments: list[int]) -> int:
    """The most of them in any second."""
    ordered, most, first = sorted(moments), 0, 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - 1000:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.fixture
async def quiet(another: Another) -> World:
    """One that answers JSON."""
    world = await another()
    await world.app(saying(b'{"seed": 1.10, "big": 12345678901234567890}'), max_multiplexing=64)
    return world


# --- what is sent, and when


async def test_the_end_of_a_request_is_told_to_its_receiver_as_the_app_wrote_it(quiet: World) -> None:
    request_id = await submit(quiet)
    await quiet.advance(5)
    (delivery,) = quiet.receivers.received
    gateway_id = (await quiet.request(request_id)).gateway_request_id
    assert delivery.url == URL
    assert (
        delivery.body
        == (
            f'{{"request_id":"{request_id}","gateway_request_id":"{gateway_id}","status":"OK",'
            '"payload":{"seed": 1.10, "big": 12345678901234567890}}'
        ).encode()
    )
    assert await state(quiet, request_id) == ("DELIVERED", 1, "answered 200")


async def test_a_delivery_carries_its_type_and_signature_and_nothing_else_of_ours(quiet: World) -> None:
    """S-14: no internal fields go out."""
    request_id = await submit(quiet, headers={"x-own": "1", "authorization": ""})
    await quiet.advance(5)
    (delivery,) = quiet.receivers.received
    assert set(delivery.headers) == {
        "content-type",
        *(f"x-fal-webhook-{name}" for name in ("request-id", "user-id", "timestamp", "signature")),
    }
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.headers["x-fal-webhook-request-id"] == request_id
    assert delivery.headers["x-fal-webhook-timestamp"] == str(delivery.at_ms // 1000)


async def test_the_result_is_there_before_the_receiver_is_told(another: Another) -> None:
    """GAPS B18."""
    world = await another()
    seen: list[str] = []

    def look(delivery: Delivery) -> Says:
        request = world.server.queue.find(delivery.request_id)
        seen.append(request.state.value if request is not None else "nothing")
        return Says()

    world.receivers.behaves("receiver.example", look)
    await world.app(saying(b"{}"))
    await submit(world)
    await world.advance(5)
    assert seen == ["COMPLETED"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (saying(b'{"detail":[]}', 422), {"status": "ERROR", "error": "Invalid status code: 422", "payload": {"detail": []}}),
        (saying(b"[1]", 201), {"status": "ERROR", "error": "Invalid status code: 201", "payload": [1]}),
        (saying(b"null"), {"status": "OK", "payload": None}),
    ],
    ids=["422", "201", "null"],
)
async def test_only_200_is_ok(another: Another, script: Script, expected: dict[str, object]) -> None:
    world = await another()
    await world.app(script)
    await submit(world)
    await world.advance(5)
    (delivery,) = world.receivers.received
    said = delivery.json
    del said["request_id"], said["gateway_request_id"]
    assert said == expected


@pytest.mark.parametrize("answer", [Answer(200, b"\x89PNG"), Answer(200, b'{"a": NaN}'), Answer(200, b"x" * 200_000), Answer(204, b"")])
async def test_what_is_no_json_is_told_without_its_payload(another: Another, answer: Answer) -> None:
    world = await another()
    await world.app(Script(answer=always(answer)))
    await submit(world)
    await world.advance(5)
    (delivery,) = world.receivers.received
    assert delivery.json["payload"] is None and delivery.json["payload_error"].startswith("Response payload is not JSON serializable.")


async def test_an_answer_in_a_file_is_sent_whole_and_one_of_more_than_ten_megabytes_is_not(another: Another) -> None:
    world = await another()
    large, huge = (json.dumps({"data": "x" * size}).encode() for size in (3_000_000, 11_000_000))
    await world.app(Script(answer=lambda call: Answer(200, huge if call.body == b"huge" else large, JSON)))
    first, second = await submit(world), await submit(world, body=b"huge")
    await world.advance(5)
    (delivery,), (cut,) = world.receivers.of(first), world.receivers.of(second)
    assert large in delivery.body
    assert cut.json["status"] == "OK" and cut.json["payload"] is None and "response_url" in cut.json["payload_error"]


async def test_requests_that_never_ran_are_told_as_errors(another: Another) -> None:
    """GAPS B7, B8: cancelled, flushed, and past their start deadline."""
    world = await another()
    await world.app(Script(setup_ms=60_000))
    cancelled, flushed = await submits(world, 2)
    late = await submit(world, headers={"x-fal-request-timeout": "3"})
    await world.cancel(cancelled)
    await world.advance(4)
    await world.server.queue.flush("me", "app")
    await world.advance(1)
    told = {delivery.request_id: delivery.json for delivery in world.receivers.received}
    assert set(told) == {cancelled, flushed, late}
    for request_id, detail, code in (
        (cancelled, "Request was cancelled", "client_cancelled"),
        (flushed, "Request was cancelled", "client_cancelled"),
        (late, "processing did not start within the 3 s that the request allows", "request_timeout"),
    ):
        said = told[request_id]
        assert (said["status"], said["error"], said["payload"]) == ("ERROR", detail, {"detail": detail, "error_type": code})
        result = await world.result(request_id)
        assert said["payload"] == result.json


async def test_nobody_is_told_of_a_request_without_a_webhook(quiet: World) -> None:
    await quiet.submit()
    await quiet.advance(5)
    assert quiet.receivers.begun == []
    assert await quiet.server.store.webhooks.list() == ()


# --- trying again


async def test_tries_go_on_with_growing_pauses_until_the_time_is_over_and_the_bytes_never_change(quiet: World) -> None:
    quiet.receivers.behaves("receiver.example", lambda delivery: Says(500))
    request_id = await submit(quiet)
    await quiet.advance(4000)
    tries = quiet.receivers.received
    pauses = [(later.at_ms - earlier.at_ms) / 1000 for earlier, later in itertools.pairwise(tries)]
    assert 15 <= len(tries) <= 32
    assert 1.5 <= pauses[0] <= 2.6 and max(pauses) <= 376
    assert all(later > earlier for earlier, later in zip(pauses[:6], pauses[2:8], strict=True))
    assert 3_000_000 < tries[-1].at_ms - tries[0].at_ms <= 3_600_000
    assert len({delivery.body for delivery in tries}) == 1
    ended, count, reason = await state(quiet, request_id)
    assert (ended, count) == ("FAILED", len(tries)) and reason == f"answered 500; its time is over, after {len(tries)} tries"
    log = await quiet.server.store.webhooks.tries(request_id)
    assert [(one.number, one.status, one.outcome) for one in log] == [(n, 500, "answered 500") for n in range(1, len(tries) + 1)]


@pytest.mark.parametrize("status", [301, 307, 410])
async def test_redirects_and_gone_are_final(quiet: World, status: int) -> None:
    """F-68."""
    quiet.receivers.behaves("receiver.example", lambda delivery: Says(status))
    request_id = await submit(quiet)
    await quiet.advance(3600)
    assert len(quiet.receivers.received) == 1
    ended, _, reason = await state(quiet, request_id)
    assert ended == "FAILED" and str(status) in reason


async def test_a_slow_receiver_has_15_seconds_once_and_then_two_minutes(quiet: World) -> None:
    """F-68: 200, but after 30 s."""
    quiet.receivers.behaves("receiver.example", lambda delivery: Says(200, after_ms=30_000))
    request_id = await submit(quiet)
    await quiet.advance(120)
    first, second = await quiet.server.store.webhooks.tries(request_id)
    assert (first.took_ms, first.status, first.outcome) == (15_000, None, "receiver.example gave no answer within 15 s")
    assert (second.took_ms, second.status) == (30_000, 200)
    assert (await state(quiet, request_id))[0] == "DELIVERED"


async def test_a_receiver_that_cannot_be_trusted_is_tried_again_and_a_forbidden_one_is_not(quiet: World) -> None:
    """F-68: a TLS error; S-12: a name that turns out to lead to a private address."""
    quiet.receivers.behaves("tls.example", lambda delivery: Fails("its certificate is not valid"))
    quiet.receivers.behaves("inside.example", lambda delivery: IsRefused())
    trusted, forbidden = await submit(quiet, "https://tls.example/"), await submit(quiet, "https://inside.example/")
    await quiet.advance(60)
    assert (await state(quiet, trusted))[0] == "PENDING" and len(await quiet.server.store.webhooks.tries(trusted)) > 3
    assert await state(quiet, forbidden) == ("FAILED", 1, "10.0.0.1 is a private address")


# --- storms


async def test_after_ten_minutes_down_all_are_delivered_and_there_was_no_storm(another: Another) -> None:
    """F-67: 2,000 are due; while it is down there is one try at a time, and never more than the rate."""
    world = await another(Settings(webhook_rate=50))
    await world.app(saying(b'{"a": 1}'), max_multiplexing=64)
    down_until_ms = world.clock.now_ms() + 600_000
    world.receivers.behaves("receiver.example", lambda delivery: Fails() if delivery.at_ms < down_until_ms else Says(after_ms=20))
    ids = await submits(world, 2000)
    await world.advance((down_until_ms - world.clock.now_ms()) / 1000)
    probes = len(world.receivers.begun)
    assert world.receivers.received == [] and world.receivers.at_once["receiver.example"] == 1
    assert 15 < probes < 60, "one that is down is asked now and then"
    await world.advance(150)
    assert await all_delivered(world, ids)
    assert Counter(delivery.request_id for delivery in world.receivers.received) == Counter(ids)
    assert most_in_a_second(world.receivers.begun) <= 50
    delivered = [delivery.at_ms for delivery in world.receivers.received]
    assert delivered[0] - down_until_ms <= 30_000
    assert delivered[-1] - delivered[0] <= 45_000, "40 s at full pace"


async def test_a_receiver_that_never_answers_holds_up_nobody(another: Another) -> None:
    """F-70: A hangs with 1,000 due, and B is told as fast as it ever was."""

    async def waits(hanging: int) -> list[int]:
        world = await another()
        await world.app(saying(b"{}"), max_multiplexing=64)
        world.receivers.behaves("a.example", lambda delivery: Says(after_ms=10**9))
        await submits(world, hanging, "https://a.example/")
        await world.advance(20)
        for _ in range(100):
            await submit(world, "https://b.example/")
            await world.advance(0.3)
        await world.advance(5)
        ended = {request.id: request.finished_ms or 0 for request in await world.server.store.requests.list(limit=10_000)}
        told = world.receivers.to("b.example")
        assert len(told) == 100 and world.receivers.at_once.get("a.example", 0) <= 1
        return sorted(delivery.at_ms - ended[delivery.request_id] for delivery in told)

    alone, beside = await waits(0), await waits(1000)
    assert beside[98] <= alone[98] + 20, (alone[-5:], beside[-5:])


async def test_many_receivers_that_hang_leave_room_for_the_others(another: Another) -> None:
    world = await another()
    await world.app(saying(b"{}"), max_multiplexing=64)
    for n in range(80):
        world.receivers.behaves(f"h{n}.example", lambda delivery: Says(after_ms=10**9))
        await submits(world, 3, f"https://h{n}.example/")
    await world.advance(40)
    began_ms = world.clock.now_ms()
    await submit(world, "https://b.example/")
    await world.advance(2)
    assert [delivery.at_ms - began_ms < 1000 for delivery in world.receivers.to("b.example")] == [True]


async def test_an_address_that_fails_does_not_slow_the_others_of_its_receiver(quiet: World) -> None:
    """A host may be many people's: a 500 of one is no sign that it is down."""
    quiet.receivers.behaves("receiver.example", lambda delivery: Says(500 if delivery.url.endswith("/bad") else 200))
    bad = await submits(quiet, 20, "https://receiver.example/bad")
    good = await submits(quiet, 200, "https://receiver.example/good")
    await quiet.advance(10)
    assert {(await state(quiet, one))[0] for one in good} == {"DELIVERED"}
    assert {(await state(quiet, one))[0] for one in bad} == {"PENDING"}


async def test_large_payloads_are_not_all_in_memory_together(another: Another) -> None:
    world = await another()
    large = json.dumps("x" * 9_000_000).encode()
    await world.app(saying(large), max_multiplexing=64)
    hosts = [f"h{n}.example" for n in range(12)]
    for host in hosts:
        world.receivers.behaves(host, lambda delivery: Says(after_ms=10_000))
        await submit(world, f"https://{host}/")
    await world.advance(5)
    assert sum(len(world.receivers.to(host)) for host in hosts) == 3
    await world.advance(60)
    assert [len(world.receivers.to(host)) for host in hosts] == [1] * 12


# --- servers come and go


async def test_what_is_owed_is_sent_by_the_next_server_with_the_same_bytes(quiet: World) -> None:
    """F-69: killed while receivers had the notice and had not answered."""
    quiet.receivers.behaves("receiver.example", lambda delivery: Says(after_ms=2_000))
    ids = await submits(quiet, 10)
    await quiet.advance(3.1)
    await quiet.crash()
    told_before = {delivery.request_id: delivery for delivery in quiet.receivers.received}
    await quiet.start_server()
    await quiet.advance(30)
    assert await all_delivered(quiet, ids)
    counts = Counter(delivery.request_id for delivery in quiet.receivers.received)
    assert set(counts) == set(ids) and max(counts.values()) == 2
    again = [request_id for request_id, count in counts.items() if count == 2]
    assert again
    for request_id in again:
        first, second = quiet.receivers.of(request_id)
        assert first is told_before[request_id] and first.body == second.body


async def test_what_was_due_while_no_server_was_there_is_tried_once_more_however_late(quiet: World) -> None:
    quiet.receivers.behaves("receiver.example", lambda delivery: Fails())
    request_id = await submit(quiet)
    await quiet.advance(1.2)
    await quiet.crash()
    await quiet.advance(2 * 3600)
    quiet.receivers.behaves("receiver.example", lambda delivery: Says())
    await quiet.start_server()
    await quiet.advance(10)
    assert (await state(quiet, request_id))[0] == "DELIVERED"


async def test_a_planned_restart_goes_on_with_the_outbox_and_sends_little_twice(quiet: World) -> None:
    quiet.receivers.behaves("receiver.example", lambda delivery: Says(after_ms=100))
    ids = await submits(quiet, 100)
    await quiet.advance(1)
    for _ in range(3):
        await quiet.advance(0.5)
        await quiet.hand_over()
    await quiet.advance(10)
    assert await all_delivered(quiet, ids)
    assert len(quiet.receivers.received) == 100, "what is answered within a moment is not sent again"


# --- afterwards


async def test_one_that_was_given_up_is_sent_again_by_hand(quiet: World) -> None:
    quiet.receivers.behaves("receiver.example", lambda delivery: Says(410))
    request_id = await submit(quiet)
    await quiet.advance(5)
    quiet.receivers.behaves("receiver.example", lambda delivery: Says(500 if len(quiet.receivers.received) < 3 else 200))
    now_ms = quiet.clock.now_ms()
    await quiet.server.store.webhooks.resend(request_id, now_ms, now_ms + 3_600_000)
    quiet.server.hints.give("webhooks")
    await quiet.advance(10)
    assert await state(quiet, request_id) == ("DELIVERED", 3, "answered 200")
    log = await quiet.server.store.webhooks.tries(request_id)
    assert [(one.number, one.status) for one in log] == [(1, 410), (2, 500), (3, 500), (4, 200)]
    assert len({delivery.body for delivery in quiet.receivers.received}) == 1
    assert [event.kind for event in await quiet.events(f"request:{request_id}")][-3:] == [
        "WEBHOOK_FAILED",
        "WEBHOOK_RESENT",
        "WEBHOOK_DELIVERED",
    ]


async def test_it_is_deleted_with_its_request(another: Another) -> None:
    world = await another(Settings(request_days=2 / 24))
    await world.app(saying(b"{}"))
    request_id = await submit(world)
    await world.advance(5)
    assert (await state(world, request_id))[0] == "DELIVERED"
    await world.advance(2 * 3600 + 120)
    assert await world.server.store.webhooks.get(request_id) is None
    assert await world.server.store.webhooks.tries(request_id) == ()
