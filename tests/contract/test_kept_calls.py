"""Kept calls over both real ends of the link: what a broken connection, another server and a late one mean for a queued call."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from roost.link.connection import CallConnection, Exchange, QueuedExchange
from roost.link.directory import Directory, Entry
from roost.link.listener import Admitted, Listener
from roost.runner.calls import CallConnection as RunnerEnd
from roost.runner.calls import Watch
from roost.runner.keep import Keep, Listeners
from roost.runner.logs import Output
from roost.testkit import pipe
from roost.wire import frames
from roost.wire.frames import RequestHead
from roost.wire.launch import LINK_VERSIONS, Hello
from roost.wire.session import MOVED, WINDOW, Slots

HEAD = RequestHead("POST", b"/", b"", [])
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class Work:
    """The app: each call waits for `go`, then answers `pieces`, and ends when `end` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.end = asyncio.Event()
        self.end.set()
        self.pieces: list[bytes] = [b"answer"]
        self.last = b""
        self.started = 0
        self.disconnects = 0

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        self.started += 1
        message = await receive()
        while message["type"] == "http.request" and message["more_body"]:
            message = await receive()
        gone = asyncio.ensure_future(receive())
        gone.add_done_callback(lambda task: None if task.cancelled() else self._disconnected())
        waits = asyncio.create_task(self.go.wait())
        await asyncio.wait([gone, waits], return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        gone.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": self.last})
        await self.end.wait()

    def _disconnected(self) -> None:
        self.disconnects += 1


class Server:
    """One server process: its listener and what it knows of the runner."""

    def __init__(self, versions: tuple[int, ...] = LINK_VERSIONS) -> None:
        self.versions = versions
        self.directory = Directory()
        self.listener = Listener(self.directory, self._admit, lambda runner, body: None, lambda: 0)
        self.listener.on_calls = self._calls
        self.at_once: Callable[[CallConnection], object] = lambda connection: None

    def _calls(self, runner_id: str, connection: CallConnection) -> None:
        self.at_once(connection)

    async def _admit(self, hello: Hello) -> Admitted:
        return Admitted("r", "rev", hello.slots, hello.held)

    @property
    def entry(self) -> Entry:
        found = self.directory.get("r")
        assert found is not None
        return found

    @property
    def connection(self) -> CallConnection:
        return self.entry.connection

    def counts(self) -> tuple[int, int, int]:
        """In flight, held, free."""
        return (self.entry.in_flight, self.entry.held, self.entry.free)

    async def begin(self, number: int = 1, body: bytes = b"{}", *, ended: bool = True) -> QueuedExchange:
        """A queued call up to its request."""
        entry = self.entry
        self.directory.took(entry)
        exchange = entry.connection.reserve(released=lambda busy: self.directory.gave_back(entry, 0))
        assert (await exchange.next())[0] == frames.ACCEPT
        exchange.keep("q", number)
        exchange.send(HEAD, body, ended)
        await turns()
        return exchange


class Runner:
    """The runner's side: its connections, as the host has them."""

    def __init__(self, slots: int = 2) -> None:
        self.work = Work()
        self.slots = Slots(slots)
        self.ended = 0
        self.keep = Keep(self.slots, Output(), Listeners(self._call_ended, self._tell_held, lambda: None))
        self.newest: RunnerEnd | None = None
        self.ends: dict[RunnerEnd, pipe.PipeEnd] = {}

    async def dial(self, server: Server) -> RunnerEnd:
        hello = Hello("calls", "r", "t", server.versions, 1, "test", "READY", self.slots.limit, self.slots.in_use)
        watch = Watch(self._welcomed, lambda end, refusal: None, self._call_ended, lambda: None)
        end = RunnerEnd(self.work, self.slots, Output(), hello, watch, self.keep)
        self.ends[end] = pipe.connect(end, server.listener.newcomer())
        await turns()
        return end

    async def lose(self, end: RunnerEnd) -> None:
        self.ends.pop(end).abort()
        await turns()

    def _welcomed(self, end: RunnerEnd) -> None:
        self.newest = end
        self._tell_held()

    def _call_ended(self) -> None:
        self.ended += 1
        self._tell_held()

    def _tell_held(self) -> None:
        if self.newest is not None:
            self.newest.tell_held(self.slots.in_use - self.newest.session.slots_taken)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def read(exchange: Exchange) -> tuple[list[int], bytes]:
    """All that comes on an exchange, to its end."""
    kinds: list[int] = []
    body = b""
    while not exchange.finished or exchange.events:
        kind, _, value = await exchange.next()
        kinds.append(kind)
        if kind in (frames.BODY, frames.BODY_END):
            body += value
            exchange.consumed(len(value))
    return kinds, body


async def test_a_kept_call_that_nothing_disturbs_is_answered_like_any_other_and_forgotten_when_taken() -> None:
    server, runner = Server(), Runner()
    await runner.dial(server)
    exchange = await server.begin()
    assert exchange.kept
    runner.work.go.set()
    kinds, body = await read(exchange)
    assert kinds == [frames.RESPONSE, frames.BODY, frames.BODY_END, frames.DONE] and body == b"answer"
    assert runner.slots.in_use == 0 and server.counts() == (0, 0, 2) and runner.keep.holds
    server.connection.taken([("q", 1)])
    await turns()
    assert not runner.keep.holds


async def test_the_handler_of_a_kept_call_is_not_told_that_the_connection_broke() -> None:
    server, runner = Server(), Runner()
    end = await runner.dial(server)
    await server.begin()
    await runner.lose(end)
    assert runner.work.disconnects == 0 and runner.slots.in_use == 1


async def test_a_running_call_goes_on_at_the_next_server_with_the_slot_that_it_held() -> None:
    first, second, runner = Server(), Server(), Runner()
    lost = await runner.dial(first)
    await first.begin()
    await runner.lose(lost)
    resumed: list[QueuedExchange] = []
    second.at_once = lambda connection: resumed.append(connection.resume("q", 1))
    await runner.dial(second)
    assert (await resumed[0].next())[0] == frames.ACCEPT
    assert second.counts() == (1, 0, 1) and runner.slots.in_use == 1
    runner.work.go.set()
    assert (await read(resumed[0]))[1] == b"answer"
    assert second.counts() == (0, 0, 2) and runner.slots.in_use == 0 and runner.work.started == 1


async def test_a_call_that_ended_meanwhile_is_played_without_a_slot() -> None:
    first, second, runner = Server(), Server(), Runner(slots=1)
    lost = await runner.dial(first)
    await first.begin()
    await runner.lose(lost)
    runner.work.go.set()
    await turns()
    assert runner.slots.in_use == 0
    await runner.dial(second)
    other = second.connection.reserve()
    exchange = second.connection.resume("q", 1)
    assert (await other.next())[0] == frames.ACCEPT and (await exchange.next())[0] == frames.ACCEPT
    assert second.counts()[0] == 0
    assert (await read(exchange))[1] == b"answer"
    other.release_unused()
    await turns()
    assert runner.slots.in_use == 0


async def test_an_answer_is_played_from_its_first_byte_as_often_as_it_is_asked_for() -> None:
    first, second, runner = Server(), Server(), Runner()
    runner.work.pieces = [bytes([n]) * 100_000 for n in range(9)]
    lost = await runner.dial(first)
    exchange = await first.begin()
    runner.work.go.set()
    for _ in range(3):
        await exchange.next()
    await runner.lose(lost)
    await runner.dial(second)
    for _ in range(2):
        assert (await read(second.connection.resume("q", 1)))[1] == b"".join(runner.work.pieces)
    assert runner.slots.in_use == 0


async def test_a_call_that_ended_on_a_resumed_connection_holds_no_slot_when_it_is_asked_for_again() -> None:
    first, second, runner = Server(), Server(), Runner()
    lost = await runner.dial(first)
    await first.begin()
    await runner.lose(lost)
    await runner.dial(second)
    once = second.connection.resume("q", 1)
    runner.work.go.set()
    await read(once)
    assert (await read(second.connection.resume("q", 1)))[1] == b"answer"
    await turns()
    assert runner.slots.in_use == 0 and second.counts() == (0, 0, 2)


async def test_code_that_has_ended_gives_its_slot_back_when_the_connection_breaks_before_all_was_read() -> None:
    server, runner = Server(), Runner()
    end = await runner.dial(server)
    runner.work.last = bytes(2 * WINDOW)
    exchange = await server.begin()
    runner.work.go.set()
    await turns()
    assert runner.slots.in_use == 1 and not exchange.finished
    await runner.lose(end)
    await turns()
    assert runner.slots.in_use == 0 and runner.keep.holds


async def test_a_call_resumed_while_an_older_connection_lives_leaves_it_quietly() -> None:
    old, new, runner = Server(), Server(), Runner()
    await runner.dial(old)
    before = await old.begin()
    await runner.dial(new)
    assert new.counts() == (0, 1, 1)
    after = new.connection.resume("q", 1)
    await turns()
    kinds = [event[0] for event in before.events]
    assert kinds == [frames.RESET, frames.DONE] and before.events[0][2]["code"] == MOVED
    assert old.counts() == (0, 0, 2) and new.counts() == (1, 0, 1) and runner.slots.in_use == 1
    runner.work.go.set()
    assert (await read(after))[1] == b"answer"
    assert runner.work.disconnects == 0 and runner.slots.in_use == 0


async def test_resuming_twice_on_one_connection_moves_the_call_and_counts_it_once() -> None:
    old, new, runner = Server(), Server(), Runner(slots=4)
    await runner.dial(old)
    await old.begin(1)
    await old.begin(2)
    await runner.dial(new)
    once = new.connection.resume("q", 1)
    await turns()
    again = new.connection.resume("q", 1)
    await turns()
    assert new.counts() == (1, 1, 2) and once.finished and runner.slots.in_use == 2
    runner.work.go.set()
    assert (await read(again))[1] == b"answer"
    await turns()
    assert new.counts() == (0, 0, 4) and runner.slots.in_use == 0


async def test_an_attempt_that_the_runner_never_had_is_busy() -> None:
    server, runner = Server(), Runner()
    await runner.dial(server)
    released: list[bool] = []
    exchange = server.connection.resume("q", 7, released=released.append)
    assert (await exchange.next())[0] == frames.BUSY
    assert released == [True] and server.counts() == (0, 0, 2)


async def test_a_draining_runner_lets_its_calls_be_resumed() -> None:
    first, second, runner = Server(), Server(), Runner()
    lost = await runner.dial(first)
    await first.begin()
    await runner.lose(lost)
    runner.slots.draining = True
    end = await runner.dial(second)
    end.go_away()
    runner.work.go.set()
    assert (await read(second.connection.resume("q", 1)))[1] == b"answer"


async def test_a_call_whose_request_was_cut_off_is_not_kept() -> None:
    first, second, runner = Server(), Server(), Runner()
    lost = await runner.dial(first)
    await first.begin(body=b"half", ended=False)
    await runner.lose(lost)
    await turns()
    assert runner.slots.in_use == 0 and not runner.keep.holds
    await runner.dial(second)
    assert (await second.connection.resume("q", 1).next())[0] == frames.BUSY


async def test_dropping_a_call_tells_its_handler_and_forgets_it() -> None:
    server, runner = Server(), Runner()
    await runner.dial(server)
    exchange = await server.begin()
    server.connection.drop([("q", 1)])
    await turns()
    assert runner.work.disconnects == 1 and exchange.finished
    assert not runner.keep.holds and server.counts() == (0, 0, 2)


async def test_dropping_a_call_that_nobody_is_connected_to_frees_its_slot() -> None:
    first, second, runner = Server(), Server(), Runner()
    await runner.lose(await runner.dial(first))
    lost = await runner.dial(first)
    await first.begin()
    await runner.lose(lost)
    await runner.dial(second)
    assert second.counts() == (0, 1, 1)
    second.connection.drop([("q", 1)])
    await turns()
    assert runner.work.disconnects == 1 and second.counts() == (0, 0, 2) and not runner.keep.holds


async def test_a_resumed_call_can_be_cancelled() -> None:
    first, second, runner = Server(), Server(), Runner()
    lost = await runner.dial(first)
    await first.begin()
    await runner.lose(lost)
    await runner.dial(second)
    exchange = second.connection.resume("q", 1)
    exchange.cancel()
    await turns()
    assert runner.work.disconnects == 1 and exchange.finished


async def test_a_result_taken_on_another_connection_needs_no_resume() -> None:
    first, second, runner = Server(), Server(), Runner()
    lost = await runner.dial(first)
    exchange = await first.begin()
    runner.work.go.set()
    await read(exchange)
    await runner.lose(lost)
    await runner.dial(second)
    second.connection.taken([("q", 1)])
    await turns()
    assert not runner.keep.holds


async def test_a_call_keeps_its_slot_until_its_code_has_ended_though_its_result_was_taken() -> None:
    server, runner = Server(), Runner()
    end = await runner.dial(server)
    runner.work.end.clear()
    runner.work.go.set()
    await server.begin()
    server.connection.taken([("q", 1)])
    await turns()
    assert server.counts() == (1, 0, 1) and not runner.keep.holds
    await runner.lose(end)
    assert runner.slots.in_use == 1
    runner.work.end.set()
    await turns()
    assert runner.slots.in_use == 0


async def test_a_slow_reader_of_a_kept_answer_holds_up_its_handler() -> None:
    server, runner = Server(), Runner()
    await runner.dial(server)
    runner.work.pieces = [bytes(WINDOW)] * 3
    exchange = await server.begin()
    runner.work.go.set()
    await turns()
    assert sum(len(event[2]) for event in exchange.events if event[0] == frames.BODY) == WINDOW
    assert len((await read(exchange))[1]) == 3 * WINDOW


async def test_with_nobody_connected_a_handler_writes_on() -> None:
    first, second, runner = Server(), Server(), Runner()
    lost = await runner.dial(first)
    runner.work.pieces = [bytes(WINDOW)] * 3
    await first.begin()
    await runner.lose(lost)
    runner.work.go.set()
    await turns()
    assert runner.slots.in_use == 0
    await runner.dial(second)
    assert len((await read(second.connection.resume("q", 1)))[1]) == 3 * WINDOW


async def test_a_direct_call_beside_a_kept_one_ends_with_its_connection() -> None:
    server, runner = Server(), Runner()
    end = await runner.dial(server)
    await server.begin()
    server.connection.open(HEAD, b"{}", body_ended=True)
    await turns()
    await runner.lose(end)
    assert runner.work.disconnects == 1 and runner.slots.in_use == 1


async def test_a_runner_of_the_first_link_version_is_sent_nothing_that_it_does_not_know() -> None:
    server, runner = Server(versions=(1,)), Runner()
    end = await runner.dial(server)
    exchange = await server.begin()
    assert not exchange.kept and (await server.connection.resume("q", 1).next())[0] == frames.BUSY
    server.connection.taken([("q", 1)])
    await runner.lose(end)
    await turns()
    assert runner.work.disconnects == 1 and runner.slots.in_use == 0


async def test_a_reservation_that_is_given_back_ends_without_a_trace() -> None:
    server, runner = Server(), Runner()
    await runner.dial(server)
    released: list[bool] = []
    exchange = server.connection.reserve(released=released.append)
    await exchange.next()
    exchange.keep("q", 1)
    exchange.release_unused()
    await turns()
    assert released == [False] and runner.slots.in_use == 0 and runner.ended == 1 and not runner.keep.holds


async def test_a_head_that_cannot_be_carried_is_refused_before_anything_is_sent() -> None:
    server, runner = Server(), Runner()
    await runner.dial(server)
    exchange = server.connection.reserve()
    await exchange.next()
    exchange.keep("q", 1)
    with pytest.raises(ValueError, match="line feed"):
        exchange.send(dataclasses.replace(HEAD, path=b"/\n"), b"", True)
    exchange.release_unused()
    await turns()
    assert exchange.finished and runner.work.started == 0


async def test_a_slot_that_a_resumed_call_holds_is_offered_to_nobody_before_it_ends() -> None:
    first, second, runner = Server(), Server(), Runner(slots=1)
    lost = await runner.dial(first)
    await first.begin()
    await runner.lose(lost)
    offers: list[int] = []
    second.directory.on_free = lambda revision: offers.append(second.entry.free)
    await runner.dial(second)
    exchange = second.connection.resume("q", 1)
    await turns()
    runner.work.go.set()
    await read(exchange)
    assert offers[-1] == 1 and set(offers[:-1]) <= {0}
