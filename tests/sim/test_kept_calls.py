"""A kept call in a whole server: the crash of the server, its end under way, a runner that is told to go, and the slots of all that."""

from __future__ import annotations

import pytest

from roost.link.connection import CallConnection, QueuedExchange
from roost.testkit.script import FOREVER, Answer, Crash, Script, always
from roost.testkit.world import World
from roost.wire import frames
from roost.wire.frames import RequestHead

HEAD = RequestHead("POST", b"/", b"", [])
SLOW = Script(answer=always(Answer(after_ms=3_000, body=b"slow")))


async def begin(world: World) -> QueuedExchange:
    """A kept call on the one runner."""
    await world.settle()
    (entry,) = world.server.directory.all()
    world.server.directory.took(entry)
    now_ms = world.clock.now_ms
    exchange = entry.connection.reserve(released=lambda busy: world.server.directory.gave_back(entry, now_ms()))
    assert (await exchange.next())[0] == frames.ACCEPT
    exchange.keep("q", 1)
    exchange.send(HEAD, b"{}", True)
    await world.settle()
    return exchange


async def next_server(world: World) -> None:
    """That takes up nothing and settles nothing by itself: its queue has never heard of these calls."""
    await world.start_server()
    world.server.listener.on_kept = lambda connection, attempts: None


def connection(world: World) -> CallConnection:
    (entry,) = world.server.directory.all()
    return entry.connection


def counts(world: World) -> tuple[int, int, int]:
    """In flight, held, free."""
    (entry,) = world.server.directory.all()
    return (entry.in_flight, entry.held, entry.free)


async def answer(exchange: QueuedExchange) -> bytes:
    body = b""
    while not exchange.finished or exchange.events:
        kind, _, value = await exchange.next()
        body += value if kind in (frames.BODY, frames.BODY_END) else b""
    return body


@pytest.mark.parametrize("down_s", [1, 5])
async def test_a_kept_call_outlives_the_server_and_its_answer_is_there_for_the_next(world: World, down_s: int) -> None:
    await world.app(SLOW, min_concurrency=1)
    await world.advance(2)
    await begin(world)
    await world.crash()
    await world.advance(down_s)
    await next_server(world)
    await world.advance(1)
    assert counts(world) == ((0, 1, 0) if down_s == 1 else (0, 0, 1))
    exchange = connection(world).resume("q", 1)
    await world.settle()
    assert counts(world) == ((1, 0, 0) if down_s == 1 else (0, 0, 1))
    await world.advance(10)
    assert await answer(exchange) == b"slow"
    assert counts(world) == (0, 0, 1) and len(world.backend.launches) == 1


async def test_a_direct_caller_waits_while_a_resumed_call_holds_the_only_slot(world: World) -> None:
    await world.app(SLOW, min_concurrency=1, max_concurrency=1)
    await world.advance(2)
    await begin(world)
    await world.crash()
    await next_server(world)
    await world.advance(1)
    exchange = connection(world).resume("q", 1)
    call = world.call()
    await world.advance(4)
    assert not call.done
    await world.advance(20)
    assert (await call).status == 200 and await answer(exchange) == b"slow"


async def test_a_runner_that_goes_waits_for_its_kept_result_to_be_taken(world: World) -> None:
    await world.app(SLOW, min_concurrency=1)
    await world.advance(2)
    exchange = await begin(world)
    (runner,) = world.running()
    runner.terminate()
    await world.advance(4)
    assert await answer(exchange) == b"slow" and not runner.ended.is_set()
    exchange.connection.taken([("q", 1)])
    await world.advance(0.1)
    assert runner.ended.is_set()


async def test_a_crash_in_a_kept_call_ends_it_everywhere(world: World) -> None:
    await world.app(Script(answer=always(Crash(after_ms=1_000))), min_concurrency=1)
    await world.advance(2)
    exchange = await begin(world)
    await world.advance(2)
    assert exchange.finished and not exchange.events


async def test_a_call_that_never_ends_ends_when_it_is_dropped(world: World) -> None:
    await world.app(Script(answer=always(Answer(after_ms=FOREVER, minds_caller=True))), min_concurrency=1)
    await world.advance(2)
    exchange = await begin(world)
    exchange.connection.drop([("q", 1)])
    await world.advance(0.1)
    assert exchange.finished and counts(world) == (0, 0, 1)
