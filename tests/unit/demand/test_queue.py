"""The queue's verbs and view, where tests/sim/test_queue_model.py does not look: doubt, watching, leaving callers, retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from roost.core.requests import Again, Claim, Claimed, Final, RequestState
from roost.demand.lines import Lines
from roost.demand.queue import AlreadyCompleted, Asked, Cancelled, Queue
from roost.store import DiskTrouble
from tests.unit.demand.queues import APP, BLANK, NOW, Bench, new

DONE = Final(200)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = await Bench.open()
    yield bench
    await bench.queue.close()
    await bench.store.close()


def told(queue: Queue) -> list[str]:
    ready: list[str] = []
    queue.on_ready = ready.append
    return ready


async def left(bench: Bench, verb: Coroutine[Any, Any, object]) -> None:
    """Begin it and leave while its write is under way; then let everything come to rest."""
    leaving = asyncio.ensure_future(verb)
    await asyncio.sleep(0)
    assert not leaving.done()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    await bench.queue.close()


# --- doubt


async def test_a_request_in_doubt_goes_to_nobody_until_its_row_could_be_read(bench: Bench) -> None:
    (request,) = await bench.submit("a")
    claim = Claim("a-1", "run-1", NOW + 10_000)
    assert bench.queue.next(APP, NOW) == request
    bench.driver.fault, bench.driver.cannot_read = "after", True
    with pytest.raises(DiskTrouble):
        await bench.queue.claim(request, claim)
    assert bench.queue.next(APP, NOW) is None
    bench.driver.cannot_read = False
    # It looks again by itself after a moment; this is that moment.
    await bench.queue.reconcile()
    under_way = bench.queue.find("a")
    assert under_way is not None and (under_way.state, under_way.attempt) == (RequestState.IN_PROGRESS, 1)


async def test_a_claim_that_never_reached_the_disk_leaves_the_request_to_the_next(bench: Bench) -> None:
    (request,) = await bench.submit("a")
    assert bench.queue.next(APP, NOW) == request
    ready = told(bench.queue)
    bench.driver.fault = "before"
    with pytest.raises(DiskTrouble):
        await bench.queue.claim(request, Claim("a-1", "run-1", NOW))
    assert ready == [APP]
    assert bench.queue.next(APP, NOW) == request


async def test_a_claim_that_is_refused_makes_it_look_at_the_row(bench: Bench) -> None:
    (request,) = await bench.submit("a")
    await bench.store.requests.claim("a", 0, Claim("other", "run-2", NOW), NOW)
    assert bench.queue.next(APP, NOW) == request
    assert await bench.queue.claim(request, Claim("a-1", "run-1", NOW)) is None
    assert [request.runner_id for request in bench.queue.in_progress()] == ["run-2"]


async def test_a_submit_in_doubt_is_found_again(bench: Bench) -> None:
    bench.driver.fault, bench.driver.cannot_read = "after", True
    with pytest.raises(DiskTrouble):
        await bench.queue.submit(new("a"))
    bench.driver.cannot_read = False
    ready = told(bench.queue)
    found = await bench.queue.get("a")
    assert found is not None and ready == [APP]
    assert bench.queue.next(APP, NOW) == found


async def test_a_newcomer_that_begins_at_once_is_in_nobodys_line(bench: Bench) -> None:
    ready = told(bench.queue)
    claimed = await bench.queue.submit_and_claim(new("a"), Claim("a-1", "run-1", NOW + 10_000))
    assert isinstance(claimed, Claimed) and (claimed.request.state, claimed.request.attempt) == (RequestState.IN_PROGRESS, 1)
    assert bench.queue.find("a") == claimed.request and bench.queue.in_progress() == (claimed.request,)
    assert (bench.queue.next(APP, NOW), bench.queue.queued(APP), ready) == (None, 0, [])


@pytest.mark.parametrize("can_read", [True, False])
async def test_a_newcomer_whose_write_failed_after_it_was_on_disk_has_begun(bench: Bench, can_read: bool) -> None:
    bench.driver.fault, bench.driver.cannot_read = "after", not can_read
    beginning = bench.queue.submit_and_claim(new("a"), Claim("a-1", "run-1", NOW + 10_000))
    if can_read:
        assert (await beginning).request.attempt == 1
    else:
        with pytest.raises(DiskTrouble):
            await beginning
        bench.driver.cannot_read = False
        await bench.queue.reconcile()
    assert [request.gateway_request_id for request in bench.queue.in_progress()] == ["a-1"]


async def test_a_newcomer_that_never_reached_the_disk_is_not_there(bench: Bench) -> None:
    bench.driver.fault = "before"
    with pytest.raises(DiskTrouble):
        await bench.queue.submit_and_claim(new("a"), Claim("a-1", "run-1", NOW + 10_000))
    assert (await bench.queue.get("a"), bench.queue.in_progress()) == (None, ())


async def test_what_was_changed_behind_its_back_is_mended(bench: Bench) -> None:
    await bench.submit("a", "b")
    await bench.store.requests.submit(new("c"), NOW)
    await bench.store.requests.claim("a", 0, Claim("a-1", "run-1", NOW), NOW)
    assert await bench.queue.reconcile() == 2
    assert [request.id for request in bench.queue.in_progress()] == ["a"]
    assert bench.queue.queued(APP) == 2
    assert await bench.queue.reconcile() == 0


async def test_what_is_gone_from_the_store_is_forgotten(bench: Bench) -> None:
    await bench.submit("a")
    await bench.driver.write(lambda tx: tx.run("DELETE FROM inputs") + tx.run("DELETE FROM requests"), "test")
    assert await bench.queue.reconcile() == 1
    assert bench.queue.find("a") is None and bench.queue.next(APP, NOW) is None


# --- who leaves, who fails


async def test_what_a_caller_that_leaves_has_submitted_is_known(bench: Bench) -> None:
    await left(bench, bench.queue.submit(new("a")))
    found = bench.queue.find("a")
    assert found is not None and bench.queue.next(APP, NOW) == found


async def test_what_a_caller_that_leaves_has_cancelled_is_told(bench: Bench) -> None:
    await bench.submit("a")
    await bench.start("a")
    asked: list[str] = []
    bench.queue.on_asked = lambda request: asked.append(request.id)
    await left(bench, bench.queue.cancel("a"))
    assert asked == ["a"]


async def test_a_claim_that_is_given_up_is_found_under_way(bench: Bench) -> None:
    (request,) = await bench.submit("a")
    await left(bench, bench.queue.claim(request, Claim("a-1", "run-1", NOW)))
    assert [request.id for request in bench.queue.in_progress()] == ["a"]


async def test_a_listener_that_fails_does_not_undo_what_is_stored(bench: Bench) -> None:
    def fail(application: str) -> None:
        raise RuntimeError(application)

    bench.queue.on_ready = fail
    assert len(await bench.submit("a")) == 1


# --- cancelling


async def test_a_wish_to_cancel_that_comes_with_a_retry_ends_the_request(bench: Bench) -> None:
    await bench.submit("a")
    claimed = await bench.start("a")
    asked: list[str] = []
    bench.queue.on_asked = lambda request: asked.append(request.id)
    assert isinstance(await bench.queue.cancel("a"), Asked)
    ended = await bench.queue.requeue("a", claimed.request.attempt, Again(None, "server_error", "died"))
    assert asked == ["a"]
    assert ended is not None and (ended.state, ended.status) == (RequestState.COMPLETED, 499)


async def test_a_server_that_ended_between_retry_and_cancel_leaves_a_cancelled_request(bench: Bench) -> None:
    await bench.submit("a")
    await bench.start("a")
    await bench.queue.cancel("a")
    await bench.store.requests.requeue("a", 1, Again(None, "server_error", "died"), NOW)
    after = bench.another()
    await after.load()
    ended = await after.get("a")
    assert ended is not None and ended.error_type == "client_cancelled"


async def test_a_cancelled_request_has_the_error_of_the_protocol(bench: Bench) -> None:
    await bench.submit("a")
    answer = await bench.queue.cancel("a")
    assert isinstance(answer, Cancelled)
    assert (answer.request.status, answer.request.error, answer.request.error_type) == (499, "Request was cancelled", "client_cancelled")
    assert isinstance(await bench.queue.cancel("a"), AlreadyCompleted)


# --- time


async def test_a_back_off_blocks_nobody_and_ends_by_itself(bench: Bench) -> None:
    await bench.submit("a", "b")
    await bench.start("a")
    await bench.queue.requeue("a", 1, Again(NOW + 1_000, "server_error", "503"))
    assert bench.queue.next_moment(NOW) == NOW + 1_000
    assert bench.queue.oldest(APP, 10) == (NOW,), "what waits out a pause asks for no runner"
    (other,) = (request for request in [bench.queue.next(APP, NOW)] if request)
    assert (other.id, bench.queue.position(other)) == ("b", 0)
    ready = told(bench.queue)
    bench.now_ms = NOW + 1_000
    assert bench.queue.due_and_expired(bench.now_ms) == ()
    assert ready == [APP]
    first = bench.queue.next(APP, bench.now_ms)
    assert first is not None and first.id == "a"


async def test_an_expired_request_is_answered_until_it_is_ended(bench: Bench) -> None:
    await bench.queue.submit(new("a", deadline_ms=NOW + 500))
    assert bench.queue.next_moment(NOW) == NOW + 500
    bench.now_ms = NOW + 500
    assert bench.queue.next(APP, bench.now_ms) is None, "its time is over, whether it was ended or not"
    for _ in range(2):
        assert [request.id for request in bench.queue.due_and_expired(bench.now_ms)] == ["a"]
    ended = await bench.queue.expire("a")
    assert ended is not None and (ended.status, ended.error_type, ended.timeout_type) == (504, "request_timeout", "user")
    assert bench.queue.due_and_expired(bench.now_ms) == ()
    assert bench.queue.next_moment(bench.now_ms) is None


async def test_a_request_that_is_being_claimed_when_its_time_ends_is_looked_at_when_it_comes_back(bench: Bench) -> None:
    await bench.queue.submit(new("a", deadline_ms=NOW + 500))
    request = bench.queue.next(APP, NOW)
    assert request is not None
    bench.now_ms = NOW + 500
    assert bench.queue.due_and_expired(bench.now_ms) == ()
    assert bench.queue.next_moment(bench.now_ms) is None, "else whoever asks would ask again and again"
    bench.queue.put_back(request)
    assert bench.queue.due_and_expired(bench.now_ms) == (request,)


async def test_a_sooner_moment_is_hinted(bench: Bench) -> None:
    with bench.hints.listen("queue") as nudge:
        await bench.submit("a")
        assert not nudge.is_set()
        await bench.queue.submit(new("b", deadline_ms=NOW + 500))
        assert nudge.is_set()


async def test_results_are_kept_as_long_as_their_request_wants(bench: Bench) -> None:
    for name, store_io in (("a", True), ("b", False)):
        await bench.queue.submit(new(name, store_io=store_io))
        await bench.start(name)
        await bench.queue.finish(name, 1, DONE)
    kept = {name: request.expires_ms for name in ("a", "b") if (request := bench.queue.find(name))}
    assert kept == {"a": NOW + 1_000_000, "b": NOW + 1_000}
    bench.now_ms = NOW + 1_000
    assert bench.queue.find("b") is None and await bench.queue.get("b") is None
    assert bench.queue.find("a") is not None


# --- who looks


async def test_a_finished_request_is_found_without_a_read(bench: Bench) -> None:
    await bench.submit("a")
    await bench.start("a")
    await bench.queue.finish("a", 1, DONE)
    bench.driver.cannot_read = True
    found = await bench.queue.get("a")
    assert found is not None and found.state is RequestState.COMPLETED


def test_only_so_many_finished_ones_are_remembered() -> None:
    lines = Lines(recent=2)
    for seq in range(3):
        lines.put(BLANK._replace(seq=seq, id=str(seq), state=RequestState.COMPLETED), NOW)
    assert [lines.find(str(seq), NOW) is not None for seq in range(3)] == [False, True, True]


async def test_whoever_watches_hears_of_each_change_of_that_request_only(bench: Bench) -> None:
    await bench.submit("a", "b")
    with bench.queue.watch("a") as watch, bench.queue.watch("b") as other:
        waiting = asyncio.ensure_future(watch.changed(5))
        await bench.start("a")
        assert await waiting
        assert not await watch.changed(0.001)
        await bench.queue.finish("a", 1, DONE)
        assert await watch.changed(0.001), "a change between two questions is not missed"
        assert not await other.changed(0.001)


async def test_who_waits_is_counted_by_caller(bench: Bench) -> None:
    for name, caller in (("a", "me"), ("b", "you"), ("c", "you")):
        await bench.queue.submit(new(name, caller=caller))
    assert bench.queue.queued_by_caller(APP) == {"me": 1, "you": 2}
    ended = await bench.queue.flush("me", "app", "you")
    assert [request.id for request in ended] == ["b", "c"]
    assert bench.queue.queued_by_caller(APP) == {"me": 1}


async def test_demand_is_told_at_once_when_it_rises_from_nothing(bench: Bench) -> None:
    with bench.hints.listen("fleet") as nudge:
        await bench.submit("a")
        assert nudge.is_set()
        nudge.clear()
        await bench.submit("b")
        assert not nudge.is_set(), "more of the same is told a moment later, together"


async def test_a_request_taken_at_once_is_no_demand(bench: Bench) -> None:
    def take(application: str) -> None:
        assert bench.queue.next(application, NOW) is not None

    bench.queue.on_ready = take
    with bench.hints.listen("fleet") as nudge:
        await bench.submit("a")
        assert not nudge.is_set()


async def test_earlier_runners_are_known_until_the_end(bench: Bench) -> None:
    await bench.submit("a")
    for attempt, runner_id in ((1, "run-1"), (2, "run-2")):
        await bench.start("a", runner_id)
        request = await bench.queue.requeue("a", attempt, Again(None, "server_error", "503"))
        assert request is not None
    assert bench.queue.runners_before(request) == ("run-1", "run-2")


async def test_a_longer_lease_is_seen(bench: Bench) -> None:
    await bench.submit("a")
    await bench.start("a")
    assert await bench.queue.renew([("a", 1), ("b", 1)], NOW + 20_000) == 1
    assert [request.lease_until_ms for request in bench.queue.in_progress()] == [NOW + 20_000]


def test_rows_may_come_in_any_order_and_the_newest_stays() -> None:
    life = [
        BLANK,
        BLANK._replace(state=RequestState.IN_PROGRESS, attempt=1, runner_id="run-1"),
        BLANK._replace(state=RequestState.IN_PROGRESS, attempt=1, runner_id="run-1", cancel_asked=True),
        BLANK._replace(state=RequestState.IN_QUEUE, attempt=1, cancel_asked=True),
        BLANK._replace(state=RequestState.COMPLETED, attempt=1, cancel_asked=True),
    ]
    for newest in range(len(life)):
        lines = Lines()
        for row in (*life[: newest + 1], *reversed(life[:newest])):
            lines.put(row, NOW)
        assert lines.find("", NOW) == life[newest]
        assert (lines.ready(APP), len(lines.under_way())) == (newest == 0, newest in (1, 2))
