"""Webhooks over the API: who sees which, how their tries went, sending again, and the keys that receivers check with."""

from __future__ import annotations

from typing import Any

import pytest

from roost.core.requests import Claim, Final, Input, NewRequest
from roost.core.requests import Content as Body
from roost.core.webhooks import Try, Webhook
from roost.testkit import blank
from tests.unit.api.world import NOW_MS, READER, RUNNERS_KEY, STRANGER, World

URL = "https://hooks.example/done?token=s3cret"
HOUR_MS = 3_600_000


async def submitted(world: World, qid: str, *, owner: str = "ada", name: str = "hello", caller: str = "ada", url: str = URL) -> None:
    request = blank.REQUEST._replace(
        id=qid, owner=owner, name=name, caller=caller, created_ms=world.clock.ms, gateway_request_id=qid, webhook=url
    )
    await world.queue.submit(NewRequest(request, Input("POST", b"/", b"", (), Body(2, b"{}"))))


async def owed(world: World, qid: str, **given: Any) -> Webhook:
    """A request that has ended, and whose webhook has not been tried."""
    await submitted(world, qid, **given)
    request = await world.queue.get(qid)
    assert request is not None
    claimed = await world.queue.claim(request, Claim(f"{qid}-1", "r1", NOW_MS + 10_000))
    assert claimed is not None
    final = Final(500, "it broke", "internal_error", webhook_until_ms=world.clock.ms + HOUR_MS, expires_ms=world.clock.ms + HOUR_MS)
    await world.queue.finish(qid, 1, final)
    webhook = await world.store.webhooks.get(qid)
    assert webhook is not None
    return webhook


def tried(webhook: Webhook, status: int | None, outcome: str) -> Try:
    return Try(webhook.request_id, webhook.logged + 1, NOW_MS + 1_000, 250, status, outcome)


async def failed(world: World, qid: str, **given: Any) -> None:
    webhook = await owed(world, qid, **given)
    one = tried(webhook, 410, "answered 410: the receiver wants no more of it")
    assert await world.store.webhooks.failed(webhook, one, None, one.outcome, NOW_MS + 1_250)


async def delivered(world: World, qid: str, **given: Any) -> None:
    webhook = await owed(world, qid, **given)
    assert await world.store.webhooks.delivered(webhook, tried(webhook, 200, "answered 200"), NOW_MS + 1_250)


async def listed(world: World, query: str = "", **asked: Any) -> list[str]:
    answer = await world.call("GET", f"/v1/webhooks{query}", **asked)
    assert answer.status == 200, answer.body
    return [webhook["request_id"] for webhook in answer.json["webhooks"]]


async def test_webhooks_are_listed_newest_first_and_narrowed_down(world: World) -> None:
    await failed(world, "q1")
    await delivered(world, "q2", name="other")
    await owed(world, "q3", caller="bob")
    await submitted(world, "q4")
    assert await listed(world) == ["q3", "q2", "q1"]
    assert await listed(world, "?app=ada/hello") == ["q3", "q1"]
    assert await listed(world, "?state=failed") == ["q1"]
    assert await listed(world, "?caller=bob") == ["q3"]
    assert await listed(world, "?limit=1") == ["q3"]
    assert await listed(world, "?limit=1&before=q3") == ["q2"]


async def test_a_webhook_tells_its_tries_and_when_the_next_is(world: World) -> None:
    webhook = await owed(world, "q1")
    one = tried(webhook, None, "no answer within 15 s")
    assert await world.store.webhooks.failed(webhook, one, NOW_MS + 3_000, one.outcome, NOW_MS + 1_250)
    assert (await world.call("GET", "/v1/webhooks/q1")).json == {
        "request_id": "q1",
        "gateway_request_id": "q1-1",
        "application": "ada/hello",
        "state": "PENDING",
        "url": URL,
        "caller": "ada",
        "tries": 1,
        "created_at": "2023-11-14T22:13:20.000+00:00",
        "reason": "no answer within 15 s",
        "next_try_at": "2023-11-14T22:13:23.000+00:00",
        "tried_until": "2023-11-14T23:13:20.000+00:00",
        "log": [{"number": 1, "at": "2023-11-14T22:13:21.000+00:00", "took": 0.25, "outcome": "no answer within 15 s"}],
    }


async def test_one_that_was_given_up_says_why_and_has_no_next_try(world: World) -> None:
    await failed(world, "q1")
    shown = (await world.call("GET", "/v1/webhooks/q1")).json
    assert (shown["state"], shown["reason"]) == ("FAILED", "answered 410: the receiver wants no more of it")
    assert shown["ended_at"] == "2023-11-14T22:13:21.250+00:00"
    assert shown.keys().isdisjoint({"next_try_at", "tried_until"})
    assert shown["log"][0]["status"] == 410


async def test_an_account_sees_the_webhooks_of_what_its_apps_got_and_what_it_sent(world: World) -> None:
    await failed(world, "own")
    await failed(world, "from-bob", caller="bob")
    await failed(world, "to-bob", owner="bob", name="his")
    await failed(world, "bobs", owner="bob", name="his", caller="bob")
    assert await listed(world) == ["from-bob", "own"]
    assert await listed(world, key=READER) == ["to-bob", "own"]
    assert await listed(world, "?app=bob/his") == ["to-bob"]
    for method, tail, good in (("GET", "", 200), ("POST", "/resend", 202)):
        for key, seen in (
            ("admin", {"own", "from-bob", "to-bob"}),
            (READER, {"own", "to-bob"}),
            (STRANGER, {"from-bob", "to-bob", "bobs"}),
        ):
            statuses = {
                qid: (await world.call(method, f"/v1/webhooks/{qid}{tail}", key=key)).status
                for qid in ("own", "from-bob", "to-bob", "bobs")
            }
            assert {qid for qid, status in statuses.items() if status != 404} == seen
            assert set(statuses.values()) <= {good, 404, 409}


async def test_a_receivers_secret_is_shown_to_nobody_but_who_named_the_receiver(world: World) -> None:
    await failed(world, "q1", caller="bob")
    assert (await world.call("GET", "/v1/webhooks/q1")).json["url"] == "https://hooks.example/done"
    assert (await world.call("GET", "/v1/webhooks")).json["webhooks"][0]["url"] == "https://hooks.example/done"
    assert (await world.call("GET", "/v1/webhooks/q1", key=STRANGER)).json["url"] == URL


async def test_one_that_has_ended_is_sent_again_with_an_hour_of_its_own(world: World) -> None:
    await failed(world, "q1")
    world.clock.ms += 5 * HOUR_MS
    with world.hints.listen("webhooks") as hinted:
        answer = await world.call("POST", "/v1/webhooks/q1/resend")
    assert (answer.status, answer.json["state"], answer.json["tries"]) == (202, "PENDING", 1)
    assert answer.json["tried_until"] == "2023-11-15T04:13:20.000+00:00"
    assert hinted.is_set()
    assert [webhook.request_id for webhook in await world.store.webhooks.due(world.clock.ms, 10, 10)] == ["q1"]


async def test_all_that_were_given_up_of_one_app_are_sent_again(world: World) -> None:
    for number in range(300):
        await failed(world, f"q{number}")
    await failed(world, "other", name="other")
    await failed(world, "to-bob", owner="bob", name="his")
    await delivered(world, "good")
    assert (await world.call("POST", "/v1/webhooks/resend?app=ada/hello")).json == {"application": "ada/hello", "resent": 300}
    assert await listed(world, "?state=FAILED") == ["other"]
    assert (await world.call("POST", "/v1/webhooks/resend?app=ada/hello")).json["resent"] == 0
    assert (await world.call("POST", "/v1/webhooks/resend?app=bob/his", key=READER)).json["resent"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "refusal"),
    [
        ("GET", "/v1/webhooks?state=lost", None, (422, "unprocessable", "state='lost' is no state of a webhook")),
        ("GET", "/v1/webhooks?app=hello", None, (422, "unprocessable", "app='hello' is not of the form owner/name")),
        ("GET", "/v1/webhooks?limit=-1", None, (422, "unprocessable", "limit='-1' is not a whole number")),
        ("GET", "/v1/webhooks?before=nobody", None, (404, "not_found", "Request 'nobody' not found")),
        ("GET", "/v1/webhooks/nobody", None, (404, "not_found", "Request 'nobody' not found")),
        ("GET", "/v1/webhooks/waiting", None, (404, "not_found", "Request waiting has not ended: it is IN_QUEUE")),
        ("GET", "/v1/webhooks/none", None, (404, "not_found", "Request none was submitted without a webhook")),
        ("POST", "/v1/webhooks/nobody/resend", None, (404, "not_found", "Request 'nobody' not found")),
        ("POST", "/v1/webhooks/pending/resend", None, (409, "conflict", "the webhook of request pending is still being tried")),
        ("POST", "/v1/webhooks/resend", None, (422, "unprocessable", "which app's webhooks are to be sent again is not said")),
        ("POST", "/v1/webhooks/rotate-key", {"at_once": "yes"}, (422, "unprocessable", "at_once must be true or false, not 'yes'")),
    ],
)
async def test_bad_input_is_named(world: World, method: str, path: str, body: Any, refusal: tuple[int, str, str]) -> None:
    await submitted(world, "waiting")
    await submitted(world, "none", url="")
    await owed(world, "pending")
    assert (await world.call(method, path, body)).refusal() == refusal


async def test_the_public_keys_need_no_key_and_may_be_kept_for_an_hour(world: World) -> None:
    answer = await world.call("GET", "/.well-known/jwks.json", key=None)
    assert (answer.status, answer.headers["cache-control"], answer.headers["content-type"]) == (200, "max-age=3600", "application/json")
    (key,) = answer.json["keys"]
    assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
    assert "d" not in key


async def test_where_webhooks_come_from_needs_no_key(world: World) -> None:
    answer = await world.call("GET", "/v1/meta", key=None)
    assert answer.json == {"webhook_ip_ranges": ["203.0.113.7/32"]}
    assert answer.headers["cache-control"] == "no-store"


async def test_a_new_key_is_announced_or_signs_at_once(world: World) -> None:
    (old,) = (await world.call("GET", "/.well-known/jwks.json", key=None)).json["keys"]
    planned = await world.call("POST", "/v1/webhooks/rotate-key")
    assert planned.status == 201
    assert planned.json["signs_from"] == "2023-11-15T23:13:20.000+00:00"
    assert planned.json["keys"] == [old["kid"], planned.json["kid"]]
    again = await world.call("POST", "/v1/webhooks/rotate-key", {})
    assert (again.status, again.json["error_type"]) == (409, "conflict")
    now = (await world.call("POST", "/v1/webhooks/rotate-key", {"at_once": True})).json
    assert (now["signs_from"], now["keys"]) == ("2023-11-14T22:13:20.000+00:00", [now["kid"]])
    shown = (await world.call("GET", "/.well-known/jwks.json", key=None)).json["keys"]
    assert [key["kid"] for key in shown] == [now["kid"]]


@pytest.mark.parametrize("path", ["/v1/webhooks", "/v1/webhooks/q1"])
async def test_webhooks_need_a_key_that_people_hold(world: World, path: str) -> None:
    assert (await world.call("GET", path, key=None)).status == 401
    assert (await world.call("GET", path, key=RUNNERS_KEY)).status == 403


async def test_only_an_admin_changes_the_key(world: World) -> None:
    assert (await world.call("POST", "/v1/webhooks/rotate-key", key=READER)).status == 403
