"""The queue's HTTP side: what callers are told, byte for byte where the protocol says so (spec: queue.md §1-4)."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roost.core.requests import Again, Claim, Priority
from roost.gateway.short_status import StatusShortcut
from roost.testkit.calling import Calling
from roost.testkit.dialling import Dialling, request_bytes
from roost.testkit.loop import VirtualLoop
from roost.web.http import HttpServer
from roost.wire.frames import Headers
from tests.sim.queue_desk import HOST, LARGEST, Desk, desk_in

UNKNOWN = "0f8fad5b-d9cb-469f-a165-70867728950e"
NOT_FOUND = (404, b'{"status":"NOT_FOUND"}')


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with desk_in(tmp_path, loop.clock) as desk:
        await desk.app()
        yield desk


def events(calling: Calling) -> list[Any]:
    """What a stream said so far; a comment is ":"."""
    blocks = calling.reply.body.decode().split("\n\n")[:-1]
    return [":" if block.startswith(":") else json.loads(block.removeprefix("data: ")) for block in blocks]


# submit


async def test_a_submit_is_answered_with_urls_that_work(desk: Desk) -> None:
    reply = await desk.ask("POST", "/me/app/predict", body=b'{"x":1}')
    told = reply.json
    url = f"http://queue.roost.test/me/app/requests/{told['request_id']}"
    assert reply.status == 200 and told == {
        "request_id": reply.headers["x-fal-request-id"],
        "gateway_request_id": told["request_id"],
        "response_url": url,
        "status_url": f"{url}/status",
        "cancel_url": f"{url}/cancel",
        "status": "IN_QUEUE",
        "queue_position": 0,
    }
    stored = await desk.store.requests.get(told["request_id"])
    assert stored is not None and (stored.endpoint, stored.caller, stored.environment) == ("/predict", "ada", "main")
    for asked in ("status", "status/stream", "cancel"):
        calling = desk.ask("PUT" if asked == "cancel" else "GET", f"/me/app/requests/{told['request_id']}/{asked}")
        await asyncio.sleep(0.1)
        assert calling.reply.status in (200, 202)
        calling.hang_up()


async def test_urls_echo_the_prefix_by_which_the_queue_was_dialled(desk: Desk) -> None:
    told = (await desk.ask("POST", "/_queue/me/app", host="10.0.0.1:8700", body=b"{}")).json
    assert told["status_url"] == f"http://10.0.0.1:8700/_queue/me/app/requests/{told['request_id']}/status"
    again = await desk.ask("GET", f"/_queue/me/app/requests/{told['request_id']}/status", host="10.0.0.1:8700")
    assert again.json["response_url"] == told["response_url"]


async def test_a_request_is_kept_as_it_came_whatever_its_method_and_content(desk: Desk) -> None:
    fields = {"content-type": "image/png", "x-custom": "1", "x-fal-runner-hint": "cats", "x-fal-secret": "no"}
    request_id = await desk.submit("/me/app/a%2Fb/?x=1&fal_max_queue_length=5&y", body=b"\x00raw", headers=fields, key="ada")
    sent = await desk.store.requests.input(request_id)
    assert sent is not None
    assert (sent.method, sent.path, sent.query, sent.content.inline) == ("POST", b"/a%2Fb/", b"x=1&y", b"\x00raw")
    names = dict(sent.headers)
    assert names[b"content-type"] == b"image/png" and names[b"x-custom"] == b"1"
    assert not {b"authorization", b"x-fal-secret", b"x-fal-runner-hint"} & names.keys()
    for method in ("GET", "PUT", "DELETE"):
        other = await desk.ask(method, "/me/app/things", body=b"")
        stored = await desk.store.requests.input(other.json["request_id"])
        assert other.status == 200 and stored is not None and stored.method == method


async def test_what_a_caller_wishes_is_stored_with_its_request(desk: Desk) -> None:
    fields = {"x-fal-queue-priority": "low", "x-fal-request-timeout": "2.5", "x-fal-runner-hint": "cats", "x-fal-store-io": "0"}
    now_ms = desk.clock.now_ms()
    request = desk.queue.find(await desk.submit(headers=fields | {"x-fal-no-retry": "1"}))
    assert request is not None
    assert (request.priority, request.deadline_ms, request.hint) == (Priority.LOW, now_ms + 2500, "cats")
    assert (request.store_io, request.rules.never) == (False, True)


async def test_an_owners_requests_have_the_apps_own_start_deadline_and_retry_rules(desk: Desk) -> None:
    await desk.app("slow", start_timeout_ms=5000, skip_retry_conditions=("timeout",), retry_config=(("server_error", 2),))
    config = {"x-fal-retry-config": '{"server_error": {"retries": 7}}'}
    now_ms = desk.clock.now_ms()
    own, others = [desk.queue.find(await desk.submit("/me/slow", key=key, headers=config)) for key in ("me", "ada")]
    assert own is not None and others is not None
    assert (own.deadline_ms, others.deadline_ms) == (now_ms + 5000, None)
    assert own.rules.skip == others.rules.skip == ("timeout",)
    assert (dict(own.rules.budgets)["server_error"], dict(others.rules.budgets)["server_error"]) == (7, 2)


@pytest.mark.parametrize("size", [65_536, 65_537, 300_000])
async def test_a_large_body_is_a_file_before_its_request_is_a_row(desk: Desk, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sent = await desk.store.requests.input(await desk.submit(body=body))
    assert sent is not None and (sent.content.inline is None) == (size > 65_536)
    kept = sent.content.inline if sent.content.inline is not None else desk.payloads.read(sent.content.file, 0, size)
    assert kept == body


async def test_a_body_above_the_limit_is_refused_before_it_is_read(desk: Desk) -> None:
    reply = await desk.ask("POST", "/me/app", headers={"content-length": str(LARGEST + 1)})
    assert (reply.status, reply.error_type) == (413, "payload_too_large")


@pytest.mark.parametrize(
    ("path", "headers", "says"),
    [
        ("/me/app", {"x-fal-request-timeout": "soon"}, "'soon'"),
        ("/me/app", {"x-fal-queue-priority": "urgent"}, "'urgent'"),
        ("/me/app?fal_webhook=http%3A%2F%2F10.0.0.1%2Fhook", {}, "10.0.0.1 is a private address"),
        ("/me/app?fal_webhook=ftp://x.test", {}, "no http or https URL"),
        ("/me/app?fal_webhook=http://me:secret@x.test", {}, "fal_webhook cannot be called"),
        ("/me/app?fal_max_queue_length=many", {}, "'many'"),
    ],
)
async def test_a_submit_that_cannot_be_understood_queues_nothing(desk: Desk, path: str, headers: dict[str, str], says: str) -> None:
    reply = await desk.ask("POST", path, headers=headers, body=b"{}")
    assert (reply.status, reply.error_type) == (400, "bad_request") and says in reply.detail
    assert desk.queue.queued("me/app") == 0


async def test_a_caller_may_refuse_a_long_queue(desk: Desk) -> None:
    for _ in range(3):
        await desk.submit("/me/app?fal_max_queue_length=2")
    reply = await desk.ask("POST", "/me/app?fal_max_queue_length=2", body=b"{}")
    assert (reply.status, reply.error_type, reply.headers["retry-after"]) == (429, "queue_full", "1")
    assert desk.queue.queued("me/app") == 3


async def test_what_was_accepted_is_answered_again_however_long_the_queue_has_become(desk: Desk) -> None:
    key = {"idempotency-key": "once"}
    first = await desk.submit("/me/app?fal_max_queue_length=0", headers=key)
    await desk.submit()
    assert await desk.submit("/me/app?fal_max_queue_length=0", headers=key) == first
    other = await desk.ask("POST", "/me/app?fal_max_queue_length=0", body=b"other", headers=key)
    assert (other.status, other.error_type) == (422, "unprocessable")
    for stranger in ({"idempotency-key": "twice"}, {}):
        assert (await desk.ask("POST", "/me/app?fal_max_queue_length=0", body=b"{}", headers=stranger)).status == 429


async def test_an_idempotency_key_makes_one_request_of_many_submits(desk: Desk) -> None:
    key = {"idempotency-key": "once"}
    replies = [await desk.ask("POST", "/me/app/x?a=1", body=b"{}", headers=key) for _ in range(2)]
    replies += await asyncio.gather(*(_reply(desk.ask("POST", "/me/app/x?a=1", body=b"{}", headers=key)) for _ in range(20)))
    assert {reply.status for reply in replies} == {200} and len({reply.json["request_id"] for reply in replies}) == 1
    assert desk.queue.queued("me/app") == 1
    assert await desk.submit("/me/app/x?a=1", headers=key, key="bob") != replies[0].json["request_id"]


async def _reply(calling: Calling) -> Any:
    return await calling


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/me/app/x", b"other"), ("POST", "/me/app/y", b"{}"), ("PUT", "/me/app/x", b"{}"), ("POST", "/me/app/x?a", b"{}")],
)
async def test_an_idempotency_key_of_another_request_is_refused_with_both_fingerprints(
    desk: Desk, method: str, path: str, body: bytes
) -> None:
    key = {"idempotency-key": "once"}
    first = await desk.submit("/me/app/x", headers=key)
    reply = await desk.ask(method, path, body=body, headers=key)
    assert (reply.status, reply.error_type) == (422, "unprocessable")
    fingerprints = {word.strip(",") for word in reply.detail.split() if len(word.strip(",")) == 64}
    assert first in reply.detail and len(fingerprints) == 2


async def test_a_large_body_that_came_twice_is_kept_once(desk: Desk) -> None:
    for _ in range(2):
        await desk.submit(body=b"x" * 100_000, headers={"idempotency-key": "once"})
    assert len(list(desk.payloads_folder.glob("??/*"))) == 1


@pytest.mark.parametrize(
    ("auth", "nobody", "wrong", "stranger", "owner"),
    [("public", 200, 200, 200, 200), ("shared", 401, 401, 200, 200), ("private", 401, 401, 403, 200)],
)
async def test_who_may_submit_is_who_may_call(desk: Desk, auth: str, nobody: int, wrong: int, stranger: int, owner: int) -> None:
    await desk.app("mode", auth)
    keys = (None, "Key no:key", "ada", "me")
    assert [(await desk.ask("POST", "/me/mode", key=key, body=b"{}")).status for key in keys] == [nobody, wrong, stranger, owner]


async def test_an_app_that_is_not_there_is_said_so(desk: Desk) -> None:
    reply = await desk.ask("POST", "/me/nothing", body=b"{}")
    assert (reply.status, reply.error_type) == (404, "not_found") and "me/nothing" in reply.detail


async def test_a_store_that_cannot_write_never_accepts(desk: Desk) -> None:
    await desk.submit()
    await desk.store.close()
    reply = await desk.ask("POST", "/me/app", body=b"{}")
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("size", [100_000, 2_000_000], ids=["kept", "on its way"])
async def test_a_disk_that_does_not_take_a_large_body_accepts_nothing(desk: Desk, size: int) -> None:
    """faults.md F-32; a disk that is full in earnest is in tests/system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        reply = await desk.ask("POST", "/me/app", body=b"x" * size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (reply.status, reply.error_type, reply.headers["retry-after"]) == (503, "internal_error", "1")
    assert "disk" in reply.detail and "request_id" not in reply.json
    assert desk.queue.queued("me/app") == 0


# status


async def test_status_tells_a_requests_life(desk: Desk) -> None:
    first, second = await desk.submit(), await desk.submit()
    seen = [(await desk.status(second))["queue_position"]]
    begun = await desk.begin()
    seen.append((await desk.status(second))["queue_position"])
    assert seen == [1, 0] and begun.request.id == first
    reply = await desk.ask("GET", f"/me/app/requests/{first}/status/")
    assert (reply.status, reply.json["status"], reply.json["logs"]) == (202, "IN_PROGRESS", None)
    await desk.answer(begun.request)
    reply = await desk.ask("GET", f"/me/app/requests/{first}/status")
    assert (reply.status, reply.json["status"], reply.json["metrics"]) == (200, "COMPLETED", {"inference_time": 0.25})
    assert reply.headers["x-fal-request-id"] == first and reply.headers["access-control-allow-origin"] == "*"


async def test_a_retry_shows_as_a_request_that_waits_again_under_the_same_id(desk: Desk) -> None:
    request_id = await desk.submit()
    begun = await desk.begin()
    await desk.queue.requeue(request_id, begun.request.attempt, Again(desk.clock.now_ms() + 1000, "server_error", "503"))
    assert (await desk.status(request_id))["status"] == "IN_QUEUE"


async def test_a_request_that_fell_out_of_memory_is_answered_from_the_store(desk: Desk) -> None:
    request_id = await desk.submit()
    await desk.answer((await desk.begin()).request)
    await desk.reopen()
    assert desk.queue.find(request_id) is None
    assert (await desk.status(request_id))["status"] == "COMPLETED"
    assert (await desk.ask("GET", f"/me/app/requests/{request_id}")).json == {"ok": True}


# who may see it


@pytest.mark.parametrize("tail", ["/status", "/status/stream", "", "/cancel"])
@pytest.mark.parametrize(
    ("app", "submitter", "reader", "seen"),
    [
        ("app", "ada", "ada", True),
        ("app", "ada", "me", True),
        ("app", "ada", "bob", False),
        ("app", "ada", None, False),
        ("open", None, None, True),
        ("open", None, "bob", True),
        ("open", None, "Key no:key", True),
        ("open", "ada", None, False),
        ("open", "ada", "bob", False),
    ],
)
async def test_a_request_is_seen_by_its_caller_and_the_apps_owner(
    desk: Desk, app: str, submitter: str | None, reader: str | None, seen: bool, tail: str
) -> None:
    await desk.app("open", "public")
    request_id = await desk.submit(f"/me/{app}", key=submitter)
    calling = desk.ask("PUT" if tail == "/cancel" else "GET", f"/me/{app}/requests/{request_id}{tail}", key=reader)
    await asyncio.sleep(0.1)
    calling.hang_up()
    if seen:
        assert calling.reply.status in (200, 202, 400)
    else:
        assert (calling.reply.status, calling.reply.body) == NOT_FOUND


@pytest.mark.parametrize("tail", ["/status", "/status/stream", "", "/response", "/cancel"])
async def test_an_id_that_nobody_knows_is_not_found_and_a_bad_key_is_told(desk: Desk, tail: str) -> None:
    known = await desk.submit()
    method = "PUT" if tail == "/cancel" else "GET"
    for key in ("ada", None):
        reply = await desk.ask(method, f"/me/app/requests/{UNKNOWN}{tail}", key=key)
        assert (reply.status, reply.body) == NOT_FOUND and reply.headers["x-fal-request-id"]
    for request_id in (UNKNOWN, known):
        assert (await desk.ask(method, f"/me/app/requests/{request_id}{tail}", key="Key no:key")).status == 401


async def test_a_request_is_found_under_its_own_app_only(desk: Desk) -> None:
    await desk.app("other")
    request_id = await desk.submit()
    reply = await desk.ask("GET", f"/me/other/requests/{request_id}/status")
    assert (reply.status, reply.body) == NOT_FOUND
    assert (await desk.ask("GET", f"/me/app/any/path/requests/{request_id}/status")).status == 202


async def test_a_request_outlives_its_app(desk: Desk) -> None:
    request_id = await desk.submit()
    await desk.store.apps.delete("me", "app", desk.clock.now_ms(), reason="", actor="")
    await desk.routes.refresh()
    assert (await desk.status(request_id))["status"] == "IN_QUEUE"


# result


async def test_a_result_is_the_apps_own_answer_every_time(desk: Desk) -> None:
    request_id = await desk.submit()
    await desk.answer(
        (await desk.begin()).request, 201, b"\x00png", (b"content-type", b"image/png"), (b"x-custom", b"1"), (b"x-custom", b"2")
    )
    for path in (f"/me/app/requests/{request_id}", f"/me/app/requests/{request_id}/", f"/me/app/requests/{request_id}/response"):
        reply = await desk.ask("GET", path)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (201, b"\x00png", "image/png")
        assert (reply.headers["x-fal-request-id"], reply.headers["content-length"]) == (request_id, "4")


async def test_a_large_result_comes_whole(desk: Desk) -> None:
    request_id = await desk.submit()
    await desk.answer((await desk.begin()).request, 200, b"0123456789" * 300_000)
    reply = await desk.ask("GET", f"/me/app/requests/{request_id}")
    assert (reply.status, len(reply.body), reply.complete) == (200, 3_000_000, True)


async def test_a_result_whose_file_is_gone_is_a_named_error(desk: Desk) -> None:
    request_id = await desk.submit()
    await desk.answer((await desk.begin()).request, 200, b"0123456789" * 30_000)
    for path in desk.payloads_folder.glob("??/*"):
        path.unlink()
    reply = await desk.ask("GET", f"/me/app/requests/{request_id}")
    assert (reply.status, reply.error_type) == (500, "internal_error") and "missing" in reply.detail


@pytest.mark.parametrize(("size", "flipped"), [(100_000, 5), (100_000, 99_999), (2_000_000, 70_000), (100_000, 100_010)])
async def test_a_result_whose_file_was_changed_is_a_named_error_and_never_wrong_bytes(desk: Desk, size: int, flipped: int) -> None:
    """faults.md F-36. Behind the body lie its hashes."""
    request_id = await desk.submit()
    await desk.answer((await desk.begin()).request, 200, b"x" * size)
    flip(desk, flipped)
    reply = await desk.ask("GET", f"/me/app/requests/{request_id}")
    assert (reply.status, reply.error_type) == (500, "internal_error") and "damaged" in reply.detail
    assert "x" * 100 not in reply.detail


async def test_a_large_result_that_was_changed_far_behind_breaks_off_before_the_first_wrong_byte(desk: Desk) -> None:
    """Its head has gone out by then: only a broken connection can say it."""
    request_id = await desk.submit()
    await desk.answer((await desk.begin()).request, 200, b"x" * 3_000_000)
    flip(desk, 2_500_000)
    reply = await desk.ask("GET", f"/me/app/requests/{request_id}")
    assert (reply.status, reply.broken, reply.complete) == (200, True, False)
    assert 0 < len(reply.body) < 2_500_000 and set(reply.body) == set(b"x")


def flip(desk: Desk, place: int) -> None:
    """One bit of the one payload file."""
    (path,) = desk.payloads_folder.glob("??/*")
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


async def test_a_result_before_the_end_is_refused_in_the_protocols_words(desk: Desk) -> None:
    request_id = await desk.submit()
    for _ in range(2):
        reply = await desk.ask("GET", f"/me/app/requests/{request_id}")
        assert (reply.status, reply.json) == (400, {"detail": "Request is still in progress", "error_type": "bad_request"})
        assert (reply.error_type, reply.headers["x-fal-request-id"]) == ("bad_request", request_id)
        if desk.queue.queued("me/app"):
            await desk.begin()


async def test_a_failed_request_has_its_error_as_result(desk: Desk) -> None:
    request_id = await desk.submit()
    await desk.fail((await desk.begin()).request, status=503, error="the runner died", error_type="runner_disconnected")
    reply = await desk.ask("GET", f"/me/app/requests/{request_id}")
    assert (reply.status, reply.error_type) == (503, "runner_disconnected")
    assert reply.json == {"detail": "the runner died", "error_type": "runner_disconnected"}
    told = await desk.status(request_id)
    assert (told["error"], told["error_type"]) == ("the runner died", "runner_disconnected")


async def test_a_start_deadline_that_passed_is_the_callers_own_doing(desk: Desk) -> None:
    request_id = await desk.submit(headers={"x-fal-request-timeout": "2"})
    await asyncio.sleep(3)
    (late,) = desk.queue.due_and_expired(desk.clock.now_ms())
    await desk.queue.expire(late.id)
    assert (await desk.status(request_id))["status"] == "COMPLETED"
    reply = await desk.ask("GET", f"/me/app/requests/{request_id}")
    assert (reply.status, reply.headers["x-fal-request-timeout-type"]) == (504, "user")


async def test_after_its_retention_a_request_is_not_found(desk: Desk) -> None:
    request_id = await desk.submit(headers={"x-fal-store-io": "0"})
    await desk.answer((await desk.begin()).request)
    await asyncio.sleep(3_599)
    assert (await desk.ask("GET", f"/me/app/requests/{request_id}")).status == 200
    await asyncio.sleep(2)
    reply = await desk.ask("GET", f"/me/app/requests/{request_id}")
    assert (reply.status, reply.body) == NOT_FOUND


# cancel


async def test_a_cancel_ends_what_waits_and_asks_what_runs(desk: Desk) -> None:
    waits = await desk.submit()
    reply = await desk.ask("PUT", f"/me/app/requests/{waits}/cancel")
    assert (reply.status, reply.body) == (202, b'{"status":"CANCELLATION_REQUESTED"}')
    told = await desk.status(waits)
    assert (told["status"], told["error"], told["error_type"]) == ("COMPLETED", "Request was cancelled", "client_cancelled")
    assert (await desk.ask("GET", f"/me/app/requests/{waits}")).status == 499
    reply = await desk.ask("PUT", f"/me/app/requests/{waits}/cancel")
    assert (reply.status, reply.body) == (400, b'{"status":"ALREADY_COMPLETED"}')
    runs = await desk.submit()
    await desk.begin()
    assert (await desk.ask("PUT", f"/me/app/requests/{runs}/cancel")).status == 202
    request = desk.queue.find(runs)
    assert request is not None and request.cancel_asked and (await desk.status(runs))["status"] == "IN_PROGRESS"


# logs


async def test_logs_are_those_that_the_requests_own_code_printed(desk: Desk) -> None:
    request_id, other = await desk.submit(), await desk.submit()
    before = desk.prints("", "setup")
    request = (await desk.begin(log_from=before)).request
    desk.prints(request_id, "one")
    desk.prints(other, "not mine")
    desk.prints(request_id, "two")
    assert [line["message"] for line in (await desk.status(request_id, "?logs=1"))["logs"]] == ["one", "two"]
    end = desk.prints(request_id, "three")
    await desk.answer(request, log_to=end)
    desk.prints(request_id, "after its end")
    for query in ("?logs=1", "?logs=true", "?x=1&logs=True"):
        assert [line["message"] for line in (await desk.status(request_id, query))["logs"]] == ["one", "two", "three"]
    for query in ("", "?logs=0", "?logs=false"):
        assert (await desk.status(request_id, query))["logs"] is None


async def test_logs_of_all_attempts_come_in_their_order(desk: Desk) -> None:
    request_id = await desk.submit()
    first = (await desk.begin("runner-1")).request
    end = desk.prints(request_id, "first try", runner_id="runner-1")
    await desk.queue.requeue(request_id, first.attempt, Again(None, "server_error", "503", log_to=end))
    await desk.begin("runner-2")
    desk.prints(request_id, "second try", runner_id="runner-2")
    assert [line["message"] for line in (await desk.status(request_id, "?logs=1"))["logs"]] == ["first try", "second try"]


async def test_private_logs_are_shown_to_the_apps_owner_only(desk: Desk) -> None:
    await desk.store.apps.delete("me", "app", 0, reason="", actor="")
    await desk.app("secret", private_logs=True)
    reply = await desk.ask("POST", "/me/secret", body=b"{}")
    request = desk.queue.next("me/secret", desk.clock.now_ms())
    assert request is not None
    await desk.queue.claim(request, Claim("a1", "runner-1", desk.clock.now_ms() + 10_000))
    desk.prints(reply.json["request_id"], "hush")
    path = f"/me/secret/requests/{reply.json['request_id']}/status?logs=1"
    assert (await desk.ask("GET", path)).json["logs"] == []
    assert [line["message"] for line in (await desk.ask("GET", path, key="me")).json["logs"]] == ["hush"]


# stream


async def test_a_stream_tells_the_state_at_once_at_changes_every_second_and_ends(desk: Desk) -> None:
    request_id = await desk.submit()
    stream = desk.ask("GET", f"/me/app/requests/{request_id}/status/stream")
    await asyncio.sleep(0.01)
    assert [event["status"] for event in events(stream)] == ["IN_QUEUE"]
    await asyncio.sleep(1)
    begun = await desk.begin()
    await asyncio.sleep(0.001)
    assert [event["status"] for event in events(stream)] == ["IN_QUEUE", "IN_QUEUE", "IN_PROGRESS"]
    await desk.answer(begun.request)
    reply = await stream
    assert (reply.status, reply.headers["content-type"], reply.complete) == (200, "text/event-stream", True)
    assert events(stream)[-1] == await desk.status(request_id)


async def test_a_stream_brings_each_line_once(desk: Desk) -> None:
    request_id = await desk.submit()
    begun = await desk.begin()
    desk.prints(request_id, "one")
    stream = desk.ask("GET", f"/me/app/requests/{request_id}/status/stream?logs=1")
    await asyncio.sleep(0.1)
    desk.prints(request_id, "two", "three")
    await asyncio.sleep(0.3)
    end = desk.prints(request_id, "four")
    await desk.answer(begun.request, log_to=end)
    await stream
    told = [[line["message"] for line in event["logs"]] for event in events(stream)]
    assert told == [["one"], ["two", "three"], ["four"]]


async def test_a_stream_ends_at_once_when_its_caller_leaves(desk: Desk) -> None:
    stream = desk.ask("GET", f"/me/app/requests/{await desk.submit()}/status/stream")
    await asyncio.sleep(0.5)
    left_ms = desk.clock.now_ms()
    stream.hang_up()
    await stream
    assert desk.clock.now_ms() - left_ms < 5 and stream.reply.heads == 1


async def test_a_stream_ends_when_the_server_goes_so_that_its_caller_comes_back(desk: Desk) -> None:
    stream = desk.ask("GET", f"/me/app/requests/{await desk.submit()}/status/stream")
    await asyncio.sleep(0.5)
    desk.queued.end_streams()
    reply = await stream
    assert reply.complete and [event["status"] for event in events(stream)] == ["IN_QUEUE"]


async def test_a_stream_of_a_finished_request_is_one_event(desk: Desk) -> None:
    request_id = await desk.submit()
    await desk.answer((await desk.begin()).request)
    stream = desk.ask("GET", f"/me/app/requests/{request_id}/status/stream")
    await stream
    assert [event["status"] for event in events(stream)] == ["COMPLETED"]


# polls on the short way


def asking(request_id: str, query: str = "", authorization: str = "Key ada:s") -> bytes:
    fields: Headers = [(b"host", HOST.encode())] + ([(b"authorization", authorization.encode())] if authorization else [])
    return request_bytes("GET", f"/me/app/requests/{request_id}/status{query}", fields, b"")


def poll(desk: Desk, http: HttpServer, request_id: str, query: str = "", authorization: str = "Key ada:s") -> Dialling:
    return Dialling(http.newcomer(), [asking(request_id, query, authorization)], desk.clock.now_ms, method="GET")


async def test_a_poll_is_answered_with_the_same_bytes_on_the_short_way(desk: Desk) -> None:
    waits, runs, done = [await desk.submit() for _ in range(3)]
    first = (await desk.begin()).request
    assert first.id == waits
    await desk.queue.requeue(waits, first.attempt, Again(None, "server_error", "503"))
    await desk.queue.cancel(done)
    ordinary, short = HttpServer(desk.gateway), HttpServer(desk.gateway, StatusShortcut(desk.queued, desk.keys))
    for request_id in (waits, runs, done):
        both = [poll(desk, http, request_id) for http in (ordinary, short)]
        assert [(await polled).status for polled in both] == [200 if request_id == done else 202] * 2
        assert both[0].received == both[1].received


async def test_polls_on_one_connection_follow_a_request_to_its_end(desk: Desk) -> None:
    request_id = await desk.submit()
    http = HttpServer(desk.gateway, StatusShortcut(desk.queued, desk.keys))
    polling = poll(desk, http, request_id)
    seen = [(await polling).json["status"]]
    request = (await desk.begin()).request
    polling.ask([asking(request_id)])
    seen.append((await polling).json["status"])
    await desk.answer(request)
    for _ in range(2):
        polling.ask([asking(request_id)])
        seen.append((await polling).json["status"])
    assert seen == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "COMPLETED"] and http.busy == 0


async def test_what_is_no_usual_poll_is_answered_as_ever(desk: Desk) -> None:
    http = HttpServer(desk.gateway, StatusShortcut(desk.queued, desk.keys))
    request_id = await desk.submit()
    replies = [
        await poll(desk, http, request_id, query="?logs=1"),
        await poll(desk, http, UNKNOWN),
        await poll(desk, http, request_id, authorization=""),
        await poll(desk, http, request_id, authorization="Key bob:s"),
        await poll(desk, http, request_id, authorization="Key no:key"),
    ]
    assert [reply.status for reply in replies] == [202, 404, 404, 404, 401]


async def test_a_key_that_was_revoked_polls_no_more(desk: Desk) -> None:
    http = HttpServer(desk.gateway, StatusShortcut(desk.queued, desk.keys))
    request_id = await desk.submit()
    polling = poll(desk, http, request_id)
    await polling
    desk.keys.replace([])
    polling.ask([asking(request_id)])
    assert (await polling).status == 401


# browsers


async def test_browsers_may_ask(desk: Desk) -> None:
    fields = {"origin": "https://x.test", "access-control-request-method": "POST"}
    reply = await desk.ask("OPTIONS", "/me/app", key=None, headers=fields)
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (204, "*")
    assert desk.queue.queued("me/app") == 0
