"""The outbox: whatever ends a request that has a webhook owes it in the same write, and each try is written down once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from roost.core.lifecycle import RequestEvent
from roost.core.requests import Claim, Content, Final, Input, NewRequest, Output, Request, SameKey
from roost.core.webhooks import Try, Webhook, WebhookState
from roost.kit.clock import SystemClock
from roost.store import MEMORY, Store, known
from roost.store import webhooks as module
from roost.store.driver import Driver
from roost.store.sqlite import SqliteDriver
from roost.testkit import blank
from roost.testkit.flaky import FlakyDriver
from roost.wire.errors import RoostError

LATER = 10_000_000
URL = "https://x.test/hook"
INPUT = Input("POST", b"/", b"", (), Content(2, b"{}"))
ANSWER = Final(200, output=Output(200, (), Content(7, b'{"a":1}')), expires_ms=LATER, webhook_until_ms=9_000)
CANCELLED = Final(499, "Request was cancelled", "client_cancelled", expires_ms=LATER, webhook_until_ms=9_000)


@pytest.fixture(params=["sqlite file", "sqlite memory"])
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FlakyDriver]:
    driver = FlakyDriver(await SqliteDriver.open(tmp_path / "roost.db" if request.param == "sqlite file" else MEMORY))
    yield driver
    await driver.close()


@pytest.fixture
async def store(driver: Driver) -> Store:
    return await Store.on(driver, SystemClock(), known())


def a_request(id: str, url: str = URL, **changes: object) -> Request:
    asked = blank.REQUEST._replace(id=id, owner="ada", name="painter", caller="bob", created_ms=1_000, gateway_request_id=id, webhook=url)
    return asked._replace(**changes)  # type: ignore[arg-type]


async def under_way(store: Store, id: str = "r1", url: str = URL, **changes: object) -> None:
    await store.requests.submit_and_claim(NewRequest(a_request(id, url, **changes), INPUT), Claim(f"{id}-1", "run-1", 12_000), 1_000)


async def owed(store: Store, id: str = "r1", url: str = URL, now_ms: int = 2_000, **changes: object) -> Webhook:
    """One whose request has just ended."""
    await under_way(store, id, url, **changes)
    assert await store.requests.finish(id, 1, ANSWER, now_ms)
    webhook = await store.webhooks.get(id)
    assert webhook is not None
    return webhook


def a_try(webhook: Webhook, status: int | None = 500, at_ms: int = 2_000) -> Try:
    return Try(webhook.request_id, webhook.logged + 1, at_ms, 30, status, f"answered {status}")


async def due(store: Store, now_ms: int = LATER) -> list[str]:
    return [webhook.request_id for webhook in await store.webhooks.due(now_ms, 100, 1_000)]


# --- how it comes to be


async def test_the_end_of_a_request_owes_its_webhook(store: Store) -> None:
    await under_way(store)
    assert await store.webhooks.get("r1") is None and await due(store) == []
    await store.requests.finish("r1", 1, ANSWER, 2_000)
    assert await store.webhooks.get("r1") == Webhook(
        *(1, "r1", "r1-1", "ada", "painter", "main", "bob", URL, WebhookState.PENDING, 0, 2_000, 9_000, 2_000),
        receiver="x.test:443",
        size=7,
    )
    assert await due(store) == ["r1"]


async def test_however_a_request_ends_its_webhook_is_owed_once(store: Store) -> None:
    for name in ("cancelled", "expired", "flushed", "damaged", "without"):
        await store.requests.submit(NewRequest(a_request(name, "" if name == "without" else URL), INPUT), 1_000)
    await store.requests.end_waiting("cancelled", CANCELLED, 2_000, RequestEvent.CANCELLED)
    assert await store.requests.end_waiting("cancelled", CANCELLED, 2_000, RequestEvent.CANCELLED) is None
    await store.requests.end_waiting("expired", CANCELLED, 2_000, RequestEvent.EXPIRED)
    await store._driver.write(lambda tx: tx.run("UPDATE requests SET rules = '{' WHERE id = 'damaged'"), "test")
    await store.requests.living(2_000)
    await store.requests.flush("ada", "painter", None, CANCELLED, 2_000)
    assert sorted(await due(store)) == ["cancelled", "damaged", "expired", "flushed"]


async def test_a_claim_that_finds_damage_owes_it_too(store: Store) -> None:
    await store.requests.submit(NewRequest(a_request("r1"), INPUT), 1_000)
    await store._driver.write(lambda tx: tx.run("UPDATE requests SET rules = '{'"), "test")
    assert await store.requests.claim("r1", 0, Claim("r1-1", "run-1", 12_000), 2_000) is None
    assert await due(store) == ["r1"]


async def test_an_end_that_is_not_taken_owes_nothing(store: Store, driver: FlakyDriver) -> None:
    await under_way(store)
    assert await store.requests.finish("r1", 2, ANSWER, 2_000) is None
    driver.fault = "before"
    with pytest.raises(RoostError):
        await store.requests.finish("r1", 1, ANSWER, 2_000)
    assert await due(store) == []


async def test_a_request_keeps_its_webhook_over_submits_and_reads(store: Store) -> None:
    asked = a_request("r1")
    keyed = NewRequest(asked, INPUT, "key", "print")
    await store.requests.submit(keyed, 1_000)
    found = await store.requests.get("r1")
    assert found is not None and found.webhook == URL
    assert await store.requests.submit(replace(keyed, request=a_request("r2", "https://y.test/")), 1_000) == SameKey(found)
    assert [request.webhook for request in await store.requests.living(1_000)] == [URL]


# --- who is due


async def test_each_receiver_has_its_share_of_what_is_read(store: Store) -> None:
    for n in range(20):
        await owed(store, f"a{n}", "https://a.test/", 2_000)
    await owed(store, "b", "https://b.test/", 5_000)
    found = await store.webhooks.due(6_000, 3, 1_000)
    assert [webhook.request_id for webhook in found] == ["a0", "a1", "a2", "b"]


async def test_many_receivers_are_read_a_portion_at_a_time(store: Store) -> None:
    for n in range(9):
        await owed(store, f"r{n}", f"https://h{n}.test/")
    seen: list[str] = []
    after = ""
    while found := await store.webhooks.due(3_000, 3, 4, after):
        seen += [webhook.request_id for webhook in found]
        after = found[-1].receiver
    assert seen == [f"r{n}" for n in range(9)]


async def test_nobody_is_due_before_its_time(store: Store) -> None:
    first, second = await owed(store, "r1"), await owed(store, "r2", "https://y.test/")
    await store.webhooks.failed(first, a_try(first), 5_000, "answered 500", 2_100)
    await store.webhooks.failed(second, a_try(second), 4_000, "answered 500", 2_100)
    assert await due(store, 3_999) == []
    assert await store.webhooks.next_due(2_100) == 4_000
    assert await due(store, 4_000) == ["r2"]
    assert await store.webhooks.next_due(4_000) == 5_000
    assert await store.webhooks.next_due(5_000) is None


# --- what becomes of it


async def test_a_delivery_ends_it_and_is_in_its_log_and_timeline(store: Store) -> None:
    webhook = await owed(store)
    tried = a_try(webhook, 200)
    assert await store.webhooks.delivered(webhook, tried, 2_030)
    assert await store.webhooks.get("r1") == replace(
        webhook, state=WebhookState.DELIVERED, tries=1, logged=1, ended_ms=2_030, reason="answered 200"
    )
    assert await store.webhooks.tries("r1") == (tried,)
    assert await due(store) == []
    events = await store.events.list("request:r1")
    assert [event.kind for event in events] == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "WEBHOOK_DELIVERED"]


async def test_a_failure_waits_or_ends_it(store: Store) -> None:
    webhook = await owed(store)
    assert await store.webhooks.failed(webhook, a_try(webhook), 4_000, "answered 500", 2_030)
    waiting = await store.webhooks.get("r1")
    assert waiting == replace(webhook, tries=1, logged=1, due_ms=4_000, reason="answered 500")
    assert waiting is not None and await store.webhooks.failed(waiting, a_try(waiting, None), None, "nobody there", 4_030)
    ended = await store.webhooks.get("r1")
    assert ended == replace(waiting, state=WebhookState.FAILED, tries=2, logged=2, ended_ms=4_030, reason="nobody there")
    assert [one.number for one in await store.webhooks.tries("r1")] == [1, 2]


async def test_of_two_servers_that_tried_the_same_one_writes_it_down(store: Store) -> None:
    webhook = await owed(store)
    answers = await asyncio.gather(
        store.webhooks.delivered(webhook, a_try(webhook, 200), 2_030), store.webhooks.failed(webhook, a_try(webhook), 4_000, "x", 2_031)
    )
    assert sorted(answers) == [False, True]
    assert len(await store.webhooks.tries("r1")) == 1
    # Neither does the late one win after it was sent again, when its tries count from nothing.
    if answers[1]:
        await store.webhooks.delivered(replace(webhook, logged=1), a_try(webhook, 200), 2_040)
    await store.webhooks.resend("r1", 3_000, 9_000)
    assert not await store.webhooks.failed(webhook, a_try(webhook), None, "late", 3_001)


async def test_a_write_that_failed_after_it_was_done_changes_nothing_when_it_comes_again(store: Store, driver: FlakyDriver) -> None:
    webhook = await owed(store)
    driver.fault = "after"
    with pytest.raises(RoostError):
        await store.webhooks.delivered(webhook, a_try(webhook, 200), 2_030)
    assert not await store.webhooks.delivered(webhook, a_try(webhook, 200), 2_030)
    assert len(await store.webhooks.tries("r1")) == 1


# --- sent again by hand


async def test_what_has_ended_is_sent_again_with_tries_of_its_own(store: Store) -> None:
    webhook = await owed(store)
    await store.webhooks.failed(webhook, a_try(webhook), None, "answered 410", 2_030)
    again = await store.webhooks.resend("r1", 5_000, 12_000, "ada")
    assert again == replace(webhook, tries=0, logged=1, due_ms=5_000, until_ms=12_000)
    assert await due(store) == ["r1"]
    assert await store.webhooks.delivered(again, a_try(again, 200, 5_000), 5_030)
    assert [one.number for one in await store.webhooks.tries("r1")] == [1, 2]
    events = await store.events.list("request:r1")
    assert [(event.kind, event.actor) for event in events][-3:] == [
        ("WEBHOOK_FAILED", "server"),
        ("WEBHOOK_RESENT", "ada"),
        ("WEBHOOK_DELIVERED", "server"),
    ]


async def test_what_cannot_be_sent_again_is_said(store: Store) -> None:
    await owed(store)
    await under_way(store, "runs")
    await under_way(store, "without", "")
    for name, code, says in (
        ("r1", "conflict", "still being tried"),
        ("runs", "conflict", "IN_PROGRESS"),
        ("without", "not_found", "without fal_webhook"),
        ("nobody", "not_found", "not known"),
    ):
        with pytest.raises(RoostError, match=says) as caught:
            await store.webhooks.resend(name, 3_000, 9_000)
        assert caught.value.code == code


# --- lists, and the end


async def test_lists_are_by_app_caller_and_state_the_newest_first(store: Store) -> None:
    first = await owed(store, "r1")
    await owed(store, "r2", caller="eve")
    third = await owed(store, "r3", name="other")
    await owed(store, "r4", owner="zoe")
    await store.webhooks.failed(first, a_try(first), None, "x", 3_000)
    await store.webhooks.delivered(third, a_try(third, 200), 3_000)

    async def ids(**wanted: object) -> list[str]:
        return [webhook.request_id for webhook in await store.webhooks.list(**wanted)]  # type: ignore[arg-type]

    assert await ids() == ["r4", "r3", "r2", "r1"]
    assert await ids(owner="ada") == ["r3", "r2", "r1"]
    assert await ids(owner="ada", name="painter") == ["r2", "r1"]
    assert await ids(caller="eve") == ["r2"]
    assert await ids(state=WebhookState.FAILED) == ["r1"]
    assert await ids(state=WebhookState.PENDING, owner="zoe") == ["r4"]
    assert await ids(limit=2) == ["r4", "r3"]
    assert await ids(limit=2, before_seq=third.seq) == ["r2", "r1"]


async def test_it_goes_with_its_request(store: Store) -> None:
    webhook = await owed(store)
    await store.webhooks.failed(webhook, a_try(webhook), 4_000, "x", 2_030)
    assert (await store.requests.delete_expired(LATER, 100)).ids == ("r1",)
    assert await store.webhooks.get("r1") is None
    assert await store.webhooks.tries("r1") == ()
    assert await due(store) == [] and await store.webhooks.next_due(0) is None


async def test_what_is_asked_all_the_time_reads_no_more_than_it_answers(store: Store) -> None:
    """Plans: the loop asks at each end, while millions of webhooks may have ended."""
    for n in range(30):
        webhook = await owed(store, f"r{n}", f"https://h{n % 3}.test/")
        if n % 2:
            await store.webhooks.delivered(webhook, a_try(webhook, 200), 2_030)
    steps: list[str] = []
    for sql, args in (
        (f"{module._RECEIVERS} SELECT one FROM receivers WHERE one IS NOT NULL", ("",)),
        (module._DUE, ("h1.test:443", 5_000, 16)),
        (module._NEXT, ("", 5_000)),
    ):
        plan = await store._driver.read(lambda tx, sql=sql, args=args: tx.records(f"EXPLAIN QUERY PLAN {sql}", args))
        steps += [str(row[3]) for row in plan]
    assert not [step for step in steps if step.startswith(("SCAN webhooks", "SCAN requests", "USE TEMP B-TREE"))], steps
