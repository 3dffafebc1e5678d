"""The gateway's end of a call connection, against the runner's session: what a broken connection means for the calls on it."""

from __future__ import annotations

import asyncio

import pytest

from roost.link.connection import CallConnection, Exchange
from roost.testkit import pipe
from roost.wire import frames
from roost.wire.frames import RequestHead, ResponseHead
from roost.wire.session import WINDOW, Event, RunnerSession, Slots

HEAD = RequestHead("POST", b"/", b"", [])


class Runner(asyncio.Protocol):
    """A runner's end that does nothing by itself."""

    def __init__(self, slots: int) -> None:
        self.session = RunnerSession(Slots(slots))
        self.events: list[Event] = []
        self.transport: pipe.PipeEnd | None = None

    def data_received(self, data: bytes) -> None:
        self.events += self.session.receive(data)
        self.flush()

    def flush(self) -> None:
        assert self.transport is not None
        self.transport.write(self.session.take())

    def body(self) -> bytes:
        return b"".join(value for kind, _, value in self.events if kind in (frames.BODY, frames.BODY_END))


class Line:
    """Both ends, connected, and what the gateway was told."""

    def __init__(self, slots: int = 1) -> None:
        self.lost: list[CallConnection] = []
        self.leaving: list[CallConnection] = []
        self.held: list[int] = []
        self.released: list[bool] = []
        self.gateway = CallConnection("r", self.leaving.append, self.lost.append, lambda connection, calls: self.held.append(calls))
        self.runner = Runner(slots)
        self.runner.transport = pipe.connect(self.runner, self.gateway)

    def call(self, body: bytes = b"", *, ended: bool = True) -> Exchange:
        return self.gateway.open(HEAD, body, body_ended=ended, released=self.released.append)


async def turn() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_a_call_and_its_answer_cross_and_the_slot_is_released_at_done() -> None:
    line = Line()
    exchange = line.call(b"question")
    await turn()
    assert exchange.accepted and line.runner.body() == b"question"
    line.runner.session.respond(exchange.stream, ResponseHead(200, []))
    line.runner.session.send_body(exchange.stream, b"answer", end=True)
    line.runner.flush()
    await turn()
    assert [event[0] for event in exchange.events] == [frames.RESPONSE, frames.BODY_END] and line.released == []
    line.runner.session.done(exchange.stream)
    line.runner.flush()
    await turn()
    assert exchange.finished and line.released == [False]


async def test_a_busy_runner_releases_with_the_word_that_it_was_busy() -> None:
    line = Line(slots=1)
    line.call()
    second = line.call(b"question")
    await turn()
    assert [event[0] for event in second.events] == [frames.BUSY]
    assert line.released == [True]


async def test_a_lost_connection_is_told_before_its_slots_are_released() -> None:
    line = Line(slots=2)
    seen: list[int] = []
    for _ in range(2):
        line.gateway.open(HEAD, b"", body_ended=True, released=lambda busy: seen.append(len(line.lost)))
    await turn()
    assert line.runner.transport is not None
    line.runner.transport.close()
    await turn()
    assert seen == [1, 1]


async def test_who_waits_for_an_event_of_a_lost_connection_is_woken() -> None:
    line = Line()
    exchange = line.call()
    waiting = asyncio.ensure_future(exchange.next())
    await turn()
    line.gateway.connection_lost(None)
    assert (await waiting) == (0, exchange.stream, None)


async def test_a_call_on_a_connection_that_is_lost_already_was_never_sent_and_may_go_elsewhere() -> None:
    line = Line()
    line.gateway.connection_lost(None)
    exchange = line.call(b"question")
    assert (await exchange.next())[0] == frames.BUSY
    assert exchange.finished and line.released == [True]
    exchange.cancel()


async def test_a_runner_that_breaks_the_rules_loses_its_connection_and_its_calls_end() -> None:
    line = Line()
    exchange = line.call()
    await turn()
    assert line.runner.transport is not None
    line.runner.transport.write(frames.frame(frames.BODY, exchange.stream, b"before any head"))
    await turn()
    assert line.gateway.lost and exchange.finished and line.released == [False]


async def test_a_runner_that_goes_away_is_told_once_and_its_calls_go_on() -> None:
    line = Line()
    exchange = line.call()
    await turn()
    line.runner.session.go_away()
    line.runner.flush()
    await turn()
    assert line.leaving == [line.gateway] and line.gateway.going_away
    assert not exchange.finished


async def test_a_body_larger_than_the_window_waits_for_the_runner() -> None:
    line = Line()
    exchange = line.call(b"a" * WINDOW, ended=False)
    assert not exchange.send_body(b"b" * WINDOW, end=True)
    await turn()
    assert len(line.runner.body()) == WINDOW
    line.runner.session.consumed(exchange.stream, WINDOW)
    line.runner.flush()
    await turn()
    assert len(line.runner.body()) == 2 * WINDOW
    assert (await exchange.next())[0] == frames.CREDIT


async def test_a_head_that_cannot_be_carried_takes_no_stream() -> None:
    line = Line()
    with pytest.raises(ValueError, match="line feed"):
        line.gateway.open(RequestHead("POST", b"/a\nb", b"", []), b"", body_ended=True)
    await turn()
    assert line.runner.events == []


async def test_what_earlier_servers_calls_hold_is_passed_on() -> None:
    line = Line()
    line.runner.session.control({"op": "held", "calls": 3})
    line.runner.flush()
    await turn()
    assert line.held == [3]
