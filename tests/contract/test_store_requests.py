"""The truth of the durable queue: what each verb changes, when it refuses, and what is kept of a request, whatever the rows are kept in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roost.core.lifecycle import RequestEvent
from roost.core.requests import (
    Again,
    Attempt,
    AttemptState,
    Claim,
    Claimed,
    Content,
    Final,
    Input,
    NewRequest,
    OtherBody,
    Output,
    Priority,
    Request,
    RequestState,
    RetryRules,
    SameKey,
    Submitted,
)
from roost.kit.clock import SystemClock
from roost.store import MEMORY, DamagedContent, Store, Violation, known
from roost.store.driver import Args, Driver, Read, Row, Stats, T, Write
from roost.store.sqlite import SqliteDriver
from roost.testkit import blank

LATER = 10_000_000


@pytest.fixture(params=["sqlite file", "sqlite memory"])
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Driver]:
    driver = await SqliteDriver.open(tmp_path / "roost.db" if request.param == "sqlite file" else MEMORY)
    yield driver
    await driver.close()


@pytest.fixture
async def store(driver: Driver) -> Store:
    return await Store.on(driver, SystemClock(), known())


def a_request(id: str = "r1", **changes: object) -> Request:
    request = blank.REQUEST._replace(
        id=id, owner="ada", name="painter", caller="bob", created_ms=1_000, endpoint="/paint", gateway_request_id=id
    )
    return request._replace(**changes)  # type: ignore[arg-type]


INPUT = Input("POST", b"/paint", b"a=1", ((b"content-type", b"application/json"), (b"x-empty", b"")), Content(7, b'{"a":1}'))
OUTPUT = Output(201, ((b"content-type", b"image/png"),), Content(3, b"\x00\n\xff"))


def done(**changes: object) -> Final:
    final = Final(201, output=OUTPUT, inference_ms=40, expires_ms=LATER, outcome="the app answered 201", log_to=90)
    return replace(final, **changes)  # type: ignore[arg-type]


CANCELLED = Final(499, "Request was cancelled", "client_cancelled", expires_ms=LATER)
AGAIN = Again(5_000, "server_error", "the app answered 503", log_to=70)


async def submit(store: Store, id: str = "r1", now_ms: int = 1_000, **changes: object) -> Request:
    answer = await store.requests.submit(NewRequest(a_request(id, **changes), INPUT), now_ms)
    assert isinstance(answer, Submitted)
    return answer.request


async def claim(store: Store, id: str = "r1", attempt: int = 0, runner: str = "run-1", now_ms: int = 2_000) -> Claimed | None:
    return await store.requests.claim(id, attempt, Claim(f"{id}-{attempt + 1}", runner, now_ms + 10_000, 50), now_ms)


async def under_way(store: Store, id: str = "r1") -> Request:
    await submit(store, id)
    claimed = await claim(store, id)
    assert claimed
    return claimed.request


async def timeline(store: Store, id: str = "r1") -> list[tuple[str, int]]:
    return [(event.kind, event.data["attempt"]) for event in await store.events.list(f"request:{id}")]


# --- submit


async def test_a_submit_keeps_everything_and_gives_a_place(store: Store) -> None:
    asked = a_request(
        priority=Priority.LOW,
        due_ms=7,
        deadline_ms=9_000,
        hint="lora-1",
        rules=RetryRules(True, (("timeout", 0), ("server_error", 3)), ("connection_error",)),
        store_io=False,
        retry_of="r0",
        endpoint="/päint",
    )
    answer = await store.requests.submit(NewRequest(asked, INPUT), 1_500)
    assert answer == Submitted(asked._replace(seq=1))
    assert await store.requests.get("r1") == asked._replace(seq=1)
    assert await store.requests.input("r1") == INPUT
    assert await store.requests.output("r1") is None
    assert await store.requests.attempts("r1") == ()
    (event,) = await store.events.list("request:r1")
    assert (event.kind, event.actor, event.at_ms, event.reason) == ("IN_QUEUE", "bob", 1_500, "a new try of r0")


@pytest.mark.parametrize(
    "changes", [{}, {"priority": Priority.LOW, "deadline_ms": 9_000, "hint": "lora-1", "store_io": False, "retry_of": "r0"}]
)
async def test_submitted_and_claimed_together_is_what_it_is_one_after_the_other(store: Store, changes: dict[str, object]) -> None:
    how = Claim("try-1", "run-1", 12_000, 50)
    await store.requests.submit(NewRequest(a_request("apart", **changes), INPUT), 2_000)
    apart = await store.requests.claim("apart", 0, how, 2_000)
    together = await store.requests.submit_and_claim(NewRequest(a_request("together", **changes), INPUT), how, 2_000)
    assert apart is not None and isinstance(together, Claimed) and together.input == apart.input == await store.requests.input("together")
    assert together.request == apart.request._replace(id="together", seq=2) == await store.requests.get("together")
    assert await timeline(store, "together") == await timeline(store, "apart") == [("IN_QUEUE", 0), ("IN_PROGRESS", 1)]
    reasons = [[event.reason for event in await store.events.list(f"request:{one}")] for one in ("apart", "together")]
    assert reasons[0] == reasons[1]
    for one in ("apart", "together"):
        assert await store.requests.finish(one, 1, done(), 3_000) is not None
    apart_attempts, attempts = [await store.requests.attempts(one) for one in ("apart", "together")]
    assert [replace(attempt, request_id="") for attempt in attempts] == [replace(attempt, request_id="") for attempt in apart_attempts]


async def test_a_key_that_is_known_begins_nothing(store: Store) -> None:
    how = Claim("try-1", "run-1", 12_000)
    keyed = [NewRequest(a_request(one), INPUT, "k", print_) for one, print_ in (("r1", "same"), ("r2", "same"), ("r3", "other"))]
    first = await store.requests.submit_and_claim(keyed[0], how, 2_000)
    assert isinstance(first, Claimed)
    assert await store.requests.submit_and_claim(keyed[1], how, 2_000) == SameKey(first.request)
    assert await store.requests.submit_and_claim(keyed[2], how, 2_000) == OtherBody(first.request, "same")
    assert await store.requests.submit(keyed[1], 2_000) == SameKey(first.request)
    assert [await store.requests.get(one) for one in ("r2", "r3")] == [None, None]


async def test_a_second_request_of_one_id_is_not_begun_either(store: Store) -> None:
    await submit(store)
    with pytest.raises(Violation):
        await store.requests.submit_and_claim(NewRequest(a_request(), INPUT), Claim("try-1", "run-1", 12_000), 2_000)
    assert await timeline(store) == [("IN_QUEUE", 0)]


async def test_places_only_grow_and_are_not_used_again(store: Store) -> None:
    assert [(await submit(store, f"r{n}")).seq for n in range(3)] == [0 + 1, 2, 3]
    await store.requests.end_waiting("r2", replace(CANCELLED, expires_ms=0), 2_000, RequestEvent.CANCELLED)
    await store.requests.delete_expired(LATER, 10)
    assert (await submit(store, "r9")).seq == 4


async def test_a_second_request_of_one_id_is_refused(store: Store) -> None:
    await submit(store)
    with pytest.raises(Violation):
        await submit(store)
    assert await timeline(store) == [("IN_QUEUE", 0)]


@pytest.mark.parametrize(
    "headers", [(), ((b"a", b""),), ((b"", b""),), ((b"a", b"1"), (b"a", b"2")), tuple((b"x-%d" % n, b"v" * n) for n in range(60))]
)
async def test_header_fields_come_back_as_they_were(store: Store, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    await store.requests.submit(NewRequest(a_request(), replace(INPUT, headers=headers)), 1_000)
    kept = await store.requests.input("r1")
    assert kept and kept.headers == headers


async def test_a_line_break_in_a_field_cannot_move_the_others(store: Store) -> None:
    headers = ((b"a", b"1\nset-cookie"), (b"b", b"2"))
    await store.requests.submit(NewRequest(a_request(), replace(INPUT, headers=headers)), 1_000)
    kept = await store.requests.input("r1")
    assert kept and kept.headers == ((b"a", b"1 set-cookie"), (b"b", b"2"))


async def test_a_body_in_a_file_is_known_by_its_name(store: Store) -> None:
    content = Content(100_000, None, "f" * 64)
    await store.requests.submit(NewRequest(a_request(), replace(INPUT, content=content)), 1_000)
    claimed = await claim(store)
    assert claimed and claimed.input.content == content
    assert await store.requests.payload_files() == {"f" * 64}


# --- idempotency keys


async def with_key(
    store: Store, id: str, fingerprint: str = "f1", key: str = "k", caller: str = "bob", owner: str = "ada", name: str = "painter"
) -> object:
    asked = a_request(id, caller=caller, owner=owner, name=name)
    return await store.requests.submit(NewRequest(asked, INPUT, key, fingerprint), 1_000)


async def test_an_idempotency_key_that_comes_again_is_the_same_request(store: Store) -> None:
    first = await with_key(store, "r1")
    assert isinstance(first, Submitted)
    assert await with_key(store, "r2") == SameKey(first.request)
    assert await with_key(store, "r3", "f2") == OtherBody(first.request, "f1")
    assert await store.requests.get("r2") is None
    await claim(store)
    await store.requests.finish("r1", 1, done(), 3_000)
    again = await with_key(store, "r4")
    assert isinstance(again, SameKey) and again.request.state is RequestState.COMPLETED


@pytest.mark.parametrize("other", [{"caller": "eve"}, {"owner": "eve"}, {"name": "writer"}])
async def test_a_key_holds_for_one_caller_and_one_app(store: Store, other: dict[str, str]) -> None:
    await with_key(store, "r1")
    assert isinstance(await with_key(store, "r2", **other), Submitted)


async def test_of_a_hundred_submits_with_one_key_one_is_taken(store: Store) -> None:
    answers = await asyncio.gather(*(with_key(store, f"r{n}") for n in range(100)))
    assert sorted(type(answer).__name__ for answer in answers) == ["SameKey"] * 99 + ["Submitted"]
    assert len(await store.requests.living(1)) == 1


async def test_requests_without_a_key_have_nothing_to_do_with_each_other(store: Store) -> None:
    assert isinstance(await with_key(store, "r1", key=""), Submitted)
    assert isinstance(await with_key(store, "r2", key=""), Submitted)


# --- claim, finish, requeue


async def test_a_claim_begins_an_attempt_and_brings_what_was_sent(store: Store) -> None:
    await submit(store, due_ms=1_500)
    claimed = await claim(store, now_ms=2_000)
    assert claimed and claimed.input == INPUT
    request = claimed.request
    assert (request.state, request.attempt, request.runner_id, request.gateway_request_id) == (RequestState.IN_PROGRESS, 1, "run-1", "r1-1")
    assert (request.lease_until_ms, request.started_ms, request.due_ms) == (12_000, 2_000, None)
    assert await store.requests.get("r1") == request
    assert await store.requests.attempts("r1") == (Attempt("r1", 1, "r1-1", "run-1", AttemptState.RUNNING, 2_000, None, "", "", 50),)
    assert await timeline(store) == [("IN_QUEUE", 0), ("IN_PROGRESS", 1)]


async def test_of_many_who_claim_one_gets_it(store: Store) -> None:
    await submit(store)
    claims = await asyncio.gather(*(claim(store, runner=f"run-{n}") for n in range(20)))
    assert sum(found is not None for found in claims) == 1


@pytest.mark.parametrize("attempt", [1, 2, -1])
async def test_a_claim_with_another_attempts_number_gets_nothing(store: Store, attempt: int) -> None:
    await submit(store)
    assert await claim(store, attempt=attempt) is None
    assert await timeline(store) == [("IN_QUEUE", 0)]


async def test_a_finish_keeps_the_result_and_is_final(store: Store) -> None:
    before = await under_way(store)
    request = await store.requests.finish("r1", 1, done(), 3_000)
    assert request == before._replace(
        state=RequestState.COMPLETED,
        runner_id=None,
        lease_until_ms=None,
        finished_ms=3_000,
        expires_ms=LATER,
        status=201,
        inference_ms=40,
    )
    assert await store.requests.get("r1") == request
    assert await store.requests.output("r1") == OUTPUT
    assert await store.requests.attempts("r1") == (
        Attempt("r1", 1, "r1-1", "run-1", AttemptState.ANSWERED, 2_000, 3_000, "the app answered 201", "", 50, 90),
    )
    assert await timeline(store) == [("IN_QUEUE", 0), ("IN_PROGRESS", 1), ("COMPLETED", 1)]
    assert await store.requests.living(1) == ()

    other = replace(OUTPUT, status=500)
    assert await store.requests.finish("r1", 1, done(status=500, output=other), 4_000) is None
    assert await store.requests.requeue("r1", 1, AGAIN, 4_000) is None
    assert await store.requests.end_waiting("r1", CANCELLED, 4_000, RequestEvent.CANCELLED) is None
    assert await store.requests.ask_cancel("r1", 4_000) is None
    assert await claim(store, attempt=1) is None
    assert await store.requests.renew([("r1", 1)], LATER) == 0
    assert (await store.requests.get("r1"), await store.requests.output("r1")) == (request, OUTPUT)
    assert len(await timeline(store)) == 3


async def test_an_error_of_ours_has_no_response(store: Store) -> None:
    await under_way(store)
    final = Final(504, "too slow", "request_timeout", "user", expires_ms=LATER, attempt_state=AttemptState.FAILED, condition="timeout")
    request = await store.requests.finish("r1", 1, final, 3_000)
    assert request and (request.status, request.error, request.error_type, request.timeout_type) == (
        504,
        "too slow",
        "request_timeout",
        "user",
    )
    assert await store.requests.output("r1") is None
    (attempt,) = await store.requests.attempts("r1")
    assert (attempt.state, attempt.condition) == (AttemptState.FAILED, "timeout")


async def test_a_requeue_goes_back_to_its_place_and_counts(store: Store) -> None:
    before = await under_way(store)
    request = await store.requests.requeue("r1", 1, AGAIN, 3_000)
    assert request and (request.state, request.seq, request.attempt, request.due_ms) == (RequestState.IN_QUEUE, before.seq, 1, 5_000)
    assert (request.used, request.deaths, request.runner_id) == ((("server_error", 1),), 0, None)
    assert await claim(store, attempt=0) is None
    second = await claim(store, attempt=1, runner="run-2", now_ms=6_000)
    assert second and (second.request.attempt, second.request.runner_id, second.request.due_ms) == (2, "run-2", None)
    # The first attempt comes back from the dead: nothing changes.
    assert await store.requests.finish("r1", 1, done(), 6_500) is None
    assert await store.requests.requeue("r1", 1, AGAIN, 6_500) is None
    third = await store.requests.requeue("r1", 2, replace(AGAIN, condition="timeout", death=True), 7_000)
    assert third and (third.used, third.deaths) == ((("server_error", 1), ("timeout", 1)), 1)
    await claim(store, attempt=2)
    fourth = await store.requests.requeue("r1", 3, replace(AGAIN, counted=False, attempt_state=AttemptState.LOST), 8_000)
    assert fourth and (fourth.used, fourth.deaths, fourth.attempt) == (third.used, 1, 3)
    assert [(found.number, found.state) for found in await store.requests.attempts("r1")] == [
        (1, AttemptState.FAILED),
        (2, AttemptState.FAILED),
        (3, AttemptState.LOST),
    ]


async def test_of_two_ends_of_one_attempt_the_first_counts(store: Store) -> None:
    await under_way(store)
    answers = await asyncio.gather(
        store.requests.finish("r1", 1, done(), 3_000),
        store.requests.requeue("r1", 1, AGAIN, 3_000),
        store.requests.finish("r1", 1, done(status=500), 3_000),
    )
    assert [answer is not None for answer in answers] == [True, False, False]
    assert len(await store.requests.attempts("r1")) == 1


async def test_a_lease_is_renewed_for_the_attempt_under_way_only(store: Store) -> None:
    for n in (1, 2, 3):
        await under_way(store, f"r{n}")
    await store.requests.finish("r3", 1, done(), 3_000)
    assert await store.requests.renew([("r1", 1), ("r2", 7), ("r3", 1), ("r9", 1)], 55_000) == 1
    leases = {request.id: request.lease_until_ms for request in await store.requests.living(1)}
    assert leases == {"r1": 55_000, "r2": 12_000}


# --- cancel, expiry, flush


async def test_a_waiting_request_can_be_ended_and_is_never_claimed(store: Store) -> None:
    await submit(store)
    request = await store.requests.end_waiting("r1", CANCELLED, 2_000, RequestEvent.CANCELLED)
    assert request and (request.state, request.status, request.error_type) == (RequestState.COMPLETED, 499, "client_cancelled")
    assert await claim(store) is None
    last = (await store.events.list("request:r1"))[-1]
    assert (last.kind, last.reason) == ("COMPLETED", "cancelled while waiting: Request was cancelled")


async def test_what_is_under_way_is_not_ended_as_if_it_waited(store: Store) -> None:
    request = await under_way(store)
    assert await store.requests.end_waiting("r1", CANCELLED, 3_000, RequestEvent.EXPIRED) is None
    assert await store.requests.get("r1") == request


async def test_a_cancel_that_was_asked_for_lets_no_further_attempt_begin(store: Store) -> None:
    await submit(store)
    assert await store.requests.ask_cancel("r1", 1_500) is None
    await claim(store)
    asked = await store.requests.ask_cancel("r1", 3_000)
    assert asked and asked.cancel_asked and asked.state is RequestState.IN_PROGRESS
    assert await store.requests.ask_cancel("r1", 3_500) == asked
    assert [kind for kind, _ in await timeline(store)] == ["IN_QUEUE", "IN_PROGRESS", "CANCELLATION_REQUESTED"]
    await store.requests.requeue("r1", 1, AGAIN, 4_000)
    assert await claim(store, attempt=1) is None
    ended = await store.requests.end_waiting("r1", CANCELLED, 5_000, RequestEvent.CANCELLED)
    assert ended and ended.state is RequestState.COMPLETED


async def test_a_flush_ends_what_waits_for_one_app(store: Store) -> None:
    for n in range(500):
        await submit(store, f"w{n}", caller="bob" if n % 2 else "eve")
    await submit(store, "other", name="writer")
    await under_way(store, "busy")
    mine = await store.requests.flush("ada", "painter", "bob", CANCELLED, 5_000)
    assert [request.id for request in mine] == [f"w{n}" for n in range(500) if n % 2]
    rest = await store.requests.flush("ada", "painter", None, CANCELLED, 5_000)
    assert len(rest) == 250 and {request.state for request in rest} == {RequestState.COMPLETED}
    assert [request.id for request in await store.requests.living(1)] == ["other", "busy"]
    assert await store.requests.flush("ada", "painter", None, CANCELLED, 6_000) == ()


# --- reading


async def test_the_living_come_in_their_order_and_the_newest_are_listed_first(store: Store) -> None:
    for n in range(6):
        await submit(store, f"r{n}", name="painter" if n % 2 else "writer", caller="bob" if n < 3 else "eve")
    await claim(store, "r1")
    await claim(store, "r2")
    await store.requests.finish("r2", 1, done(), 3_000)
    assert [request.id for request in await store.requests.living(1)] == ["r0", "r1", "r3", "r4", "r5"]

    async def ids(**of: object) -> list[str]:
        return [request.id for request in await store.requests.list(**of)]  # type: ignore[arg-type]

    assert await ids(limit=3) == ["r5", "r4", "r3"]
    assert await ids(limit=10, before_seq=3) == ["r1", "r0"]
    assert await ids(owner="ada", name="painter") == ["r5", "r3", "r1"]
    assert await ids(caller="eve", limit=2) == ["r5", "r4"]
    assert await ids(state=RequestState.COMPLETED) == ["r2"]
    assert await ids(state=RequestState.IN_PROGRESS, owner="ada", name="painter") == ["r1"]
    assert await ids(owner="nobody") == []


async def test_an_unknown_id_has_nothing(store: Store) -> None:
    found = store.requests
    assert (await found.get("x"), await found.input("x"), await found.output("x"), await found.attempts("x")) == (None, None, None, ())
    assert await store.events.list("request:x") == ()


async def test_a_requests_timeline_is_read_as_any_other(store: Store) -> None:
    await under_way(store)
    await store.requests.finish("r1", 1, done(), 3_000)
    kinds = [event.kind for event in await store.events.list("request:r1", since_ms=2_000, limit=1)]
    assert kinds == ["COMPLETED"]


# --- retention


async def test_what_has_expired_is_forgotten_with_all_that_hangs_on_it(store: Store, driver: Driver) -> None:
    for n in range(7):
        await submit(store, f"r{n}")
        await claim(store, f"r{n}")
        output = replace(OUTPUT, content=Content(100_000, None, f"{n}" * 64))
        await store.requests.finish(f"r{n}", 1, done(expires_ms=10_000 + n, output=output), 3_000)
    await under_way(store, "living")

    assert (await store.requests.delete_expired(9_999, 10)).ids == ()
    first = await store.requests.delete_expired(10_005, 4)
    assert (first.ids, first.files) == (("r0", "r1", "r2", "r3"), tuple(f"{n}" * 64 for n in range(4)))
    assert (await store.requests.delete_expired(10_005, 4)).ids == ("r4", "r5")
    assert (await store.requests.delete_expired(10_005, 4)).ids == ()
    assert await store.requests.payload_files() == {"6" * 64}
    assert await store.requests.get("r0") is None
    counts = await driver.read(
        lambda tx: {
            table: tx.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]
            for table in ("requests", "inputs", "outputs", "attempts", "request_events")
        }
    )
    assert counts == {"requests": 2, "inputs": 2, "outputs": 1, "attempts": 1, "request_events": 5}


async def test_large_bodies_make_a_deletion_shorter(store: Store) -> None:
    for n in range(6):
        await submit(store, f"r{n}")
        await claim(store, f"r{n}")
        output = replace(OUTPUT, content=Content(3_000_000, b"x" * 3_000_000))
        await store.requests.finish(f"r{n}", 1, done(expires_ms=10, output=output), 3_000)
    assert [len((await store.requests.delete_expired(LATER, 100)).ids) for _ in range(3)] == [3, 3, 0]


# --- rows damaged by hand (faults.md F-11)


async def harm(driver: Driver, sql: str) -> None:
    await driver.write(lambda tx: tx.run(sql), "test")


DAMAGES = [
    ("UPDATE requests SET state = 'ON FIRE' WHERE id = 'bad'", "'ON FIRE' is no state"),
    ("UPDATE requests SET priority = 9 WHERE id = 'bad'", "9 is no priority"),
    ("UPDATE requests SET rules = '{not json' WHERE id = 'bad'", "rules of retrying cannot be read"),
    ("UPDATE requests SET rules = '[1]' WHERE id = 'bad'", "rules of retrying cannot be read"),
    ("UPDATE requests SET used = '[[1,2,3]]' WHERE id = 'bad'", "count of retries cannot be read"),
]


@pytest.mark.parametrize(("sql", "why"), DAMAGES)
@pytest.mark.parametrize("claimed", [False, True])
async def test_a_damaged_request_ends_with_an_error_at_the_next_start_and_the_others_go_on(
    store: Store, driver: Driver, sql: str, why: str, claimed: bool
) -> None:
    await submit(store, "good")
    await submit(store, "bad")
    if claimed:
        await claim(store, "bad")
    await harm(driver, sql)
    shown = await store.requests.get("bad")
    assert shown and shown.state is RequestState.COMPLETED and why in shown.error

    assert [request.id for request in await store.requests.living(9_000)] == ["good"]
    ended = await store.requests.get("bad")
    assert ended and (ended.state, ended.status, ended.error_type, ended.finished_ms) == (
        RequestState.COMPLETED,
        500,
        "internal_error",
        9_000,
    )
    assert why in ended.error
    last = (await store.events.list("request:bad"))[-1]
    assert last.kind == "COMPLETED" and why in last.reason
    assert [request.id for request in await store.requests.list()] == ["bad", "good"]
    assert await claim(store, "good")


@pytest.mark.parametrize(("sql", "why"), DAMAGES[1:])
async def test_one_that_is_damaged_under_way_ends_when_it_would_go_on(store: Store, driver: Driver, sql: str, why: str) -> None:
    await under_way(store, "bad")
    await harm(driver, sql)
    answer = await store.requests.requeue("bad", 1, AGAIN, 4_000)
    assert answer and answer.state is RequestState.COMPLETED and why in answer.error
    assert await store.requests.get("bad") == answer


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        *DAMAGES[1:],
        ("DELETE FROM inputs", "what its caller sent is missing"),
        ("UPDATE inputs SET headers = x'61'", "header fields cannot be read"),
        ("UPDATE inputs SET body = NULL", "body is missing"),
        ("UPDATE inputs SET body = x'00'", "1 bytes and should have 7"),
    ],
)
async def test_one_that_turns_out_damaged_when_it_is_claimed_ends_unrun(store: Store, driver: Driver, sql: str, why: str) -> None:
    await submit(store, "bad")
    await harm(driver, sql)
    assert await claim(store, "bad") is None
    ended = await store.requests.get("bad")
    assert ended and (ended.state, ended.error_type) == (RequestState.COMPLETED, "internal_error") and why in ended.error
    assert await store.requests.living(1) == ()


async def test_damage_does_not_change_how_a_request_ended(store: Store, driver: Driver) -> None:
    await under_way(store, "bad")
    await store.requests.finish("bad", 1, done(), 3_000)
    before = await store.requests.get("bad")
    await harm(driver, "UPDATE requests SET rules = 'x', used = 'y', priority = 3")
    assert await store.requests.get("bad") == before


@pytest.mark.parametrize("read", [lambda store: store.requests.output("bad"), lambda store: store.requests.input("bad")])
async def test_a_damaged_body_is_a_named_error(store: Store, driver: Driver, read: Callable[[Store], AsyncIterator[object]]) -> None:
    await under_way(store, "bad")
    await store.requests.finish("bad", 1, done(), 3_000)
    for table in ("inputs", "outputs"):
        await harm(driver, f"UPDATE {table} SET body = x'00'")
    with pytest.raises(DamagedContent, match="request bad is damaged") as damaged:
        await read(store)  # type: ignore[misc]
    assert damaged.value.status == 500


# --- what it costs to look something up


class Noting:
    """A driver that notes the statements that pass."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.name = driver.name
        self.statements: dict[str, Args | None] = {}

    async def write(self, work: Write[T], point: str, *, quick: bool = False) -> T:
        return await self._driver.write(lambda tx: work(_Noted(tx, self.statements)), point, quick=quick)

    async def read(self, work: Read[T]) -> T:
        return await self._driver.read(lambda tx: work(_Noted(tx, self.statements)))

    def stats(self) -> Stats:
        return self._driver.stats()

    async def close(self) -> None:
        await self._driver.close()


class _Noted:
    def __init__(self, tx: Any, statements: dict[str, Args | None]) -> None:
        self._tx = tx
        self._statements = statements

    def rows(self, sql: str, args: Args | None = None) -> list[Row]:
        return self._noted(self._tx.rows, sql, args)

    def row(self, sql: str, args: Args | None = None) -> Row | None:
        return self._noted(self._tx.row, sql, args)

    def records(self, sql: str, args: Args | None = None) -> list[tuple[Any, ...]]:
        return self._noted(self._tx.records, sql, args)

    def record(self, sql: str, args: Args | None = None) -> tuple[Any, ...] | None:
        return self._noted(self._tx.record, sql, args)

    def run(self, sql: str, args: Args | None = None) -> int:
        return self._noted(self._tx.run, sql, args)

    def script(self, sql: str) -> None:
        self._tx.script(sql)

    def _noted(self, call: Callable[..., T], sql: str, args: Args | None) -> T:
        self._statements[sql] = args
        return call(sql, args)


async def test_nothing_on_the_way_of_a_request_reads_all_finished_ones(driver: Driver) -> None:
    noting = Noting(driver)
    store = await Store.on(noting, SystemClock(), known())
    noting.statements.clear()
    await with_key(store, "r1")
    await claim(store)
    await store.requests.requeue("r1", 1, AGAIN, 3_000)
    await claim(store, attempt=1)
    await store.requests.renew([("r1", 2)], 9_000)
    await store.requests.ask_cancel("r1", 3_000)
    await store.requests.ask_cancel("r1", 3_000)
    await store.requests.finish("r1", 2, done(), 4_000)
    await submit(store, "r2")
    await store.requests.end_waiting("r2", CANCELLED, 4_000, RequestEvent.CANCELLED)
    await submit(store, "r3")
    await store.requests.flush("ada", "painter", None, CANCELLED, 4_000)
    await store.requests.living(4_000)
    await store.requests.list(owner="ada", name="painter")
    await store.requests.list(state=RequestState.IN_PROGRESS)
    await store.requests.attempts("r1")
    await store.requests.input("r1")
    await store.requests.output("r1")
    await store.events.list("request:r1")
    await store.requests.payload_files()
    await store.requests.delete_expired(5, 10)
    statements = dict(noting.statements)
    assert len(statements) > 20

    async def plan(sql: str) -> list[str]:
        return await driver.read(lambda tx: [row["detail"] for row in tx.rows(f"EXPLAIN QUERY PLAN {sql}", statements[sql])])

    tables = ("requests", "inputs", "outputs", "attempts", "request_events")
    scans = [
        (detail, " ".join(sql.split()))
        for sql in statements
        for detail in await plan(sql)
        if detail in [f"SCAN {table}" for table in tables]
    ]
    assert scans == []


@pytest.mark.parametrize("of_owner", [True, False])
@pytest.mark.parametrize("of_caller", [True, False])
@pytest.mark.parametrize("state", [None, RequestState.COMPLETED, RequestState.IN_QUEUE])
async def test_a_list_takes_the_newest_as_they_come_and_sorts_nothing(
    driver: Driver, of_owner: bool, of_caller: bool, state: RequestState | None
) -> None:
    """Of five million requests a hundred are shown."""
    noting = Noting(driver)
    store = await Store.on(noting, SystemClock(), known())
    noting.statements.clear()
    await store.requests.list(owner="ada" if of_owner else None, caller="bob" if of_caller else None, state=state, before_seq=7)
    ((sql, args),) = noting.statements.items()
    plan = await driver.read(lambda tx: [row["detail"] for row in tx.rows(f"EXPLAIN QUERY PLAN {sql}", args)])
    assert len(plan) == 1, plan
    assert not of_caller or "requests_by_caller" in plan[0] or "requests_living" in plan[0], plan
