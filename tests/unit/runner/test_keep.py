"""Kept calls by themselves: how long answers stay, and what a runner that ends waits for. Time is virtual."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from roost.runner.heads import request_of
from roost.runner.keep import DETACHED_LIMIT, KEPT_S, Keep, Kept, Listeners
from roost.runner.logs import Output
from roost.runner.retained import Room
from roost.testkit.loop import VirtualLoop
from roost.wire.frames import RequestHead
from roost.wire.session import Slots


class Line:
    """A connection that takes everything, or, when it is full, nothing."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.said: list[Any] = []
        self.body = bytearray()
        self.full = False
        self._holds = True

    def respond(self, stream: int, head: bytes) -> None:
        self.said.append("respond")

    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        self.body += data
        if end:
            self.said.append("end")
        return not self.full

    def consumed(self, stream: int, size: int) -> None:
        pass

    def reset(self, stream: int, code: str, detail: str) -> None:
        self.said.append(code)

    def done(self, stream: int) -> None:
        self.said.append("done")
        if self._holds:
            self._slots.give()

    def writable(self, stream: int) -> bool:
        return not self.full

    def resumed(self, stream: int, kept: Kept, *, takes_slot: bool) -> None:
        self.said.append("resumed")
        self._holds = takes_slot

    def let_go(self, stream: int) -> bool:
        holds, self._holds = self._holds, False
        return holds


class Runner:
    def __init__(self, room: Room | None = None) -> None:
        self.slots = Slots(4)
        loop = asyncio.get_running_loop()
        self.keep = Keep(self.slots, Output(), Listeners(lambda: None, lambda: None, lambda: None), room=room, now_s=loop.time)

    async def call(self, number: int, app: Any, *, lose: bool = False) -> tuple[Kept, Line]:
        assert self.slots.take()
        line = Line(self.slots)
        kept = self.keep.begin(("q", number), request_of(RequestHead("POST", b"/", b"", [])), line, 1, app)
        kept.feed(b"", end=True)
        if lose:
            kept.detach()
        await turns()
        return kept, line


async def turns() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


def on_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(test())
    finally:
        loop.close()


def test_an_answer_that_nobody_takes_is_forgotten_after_ten_minutes() -> None:
    async def scenario() -> None:
        runner = Runner()
        await runner.call(1, answers)
        await asyncio.sleep(KEPT_S / 2)
        await runner.call(2, answers)
        await asyncio.sleep(KEPT_S / 2 + 1)
        line = Line(runner.slots)
        assert not runner.keep.resume(("q", 1), line, 2) and runner.keep.resume(("q", 2), line, 2)
        await asyncio.sleep(KEPT_S / 2)
        assert not runner.keep.holds and runner.slots.in_use == 0

    on_virtual_time(scenario)


def test_a_call_that_runs_for_longer_than_that_is_not_forgotten() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3 * KEPT_S)
        await answers(scope, receive, send)

    async def scenario() -> None:
        runner = Runner()
        await runner.call(1, answers)
        await runner.call(2, slow, lose=True)
        await asyncio.sleep(3 * KEPT_S + 1)
        line = Line(runner.slots)
        assert runner.keep.resume(("q", 2), line, 2)
        assert line.said == ["resumed", "respond", "end", "done"] and line.body == b"answer"

    on_virtual_time(scenario)


def test_a_runner_that_ends_waits_until_its_results_are_taken_and_no_longer() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        runner = Runner()
        await runner.call(1, answers)
        await runner.call(2, answers)
        loop.call_later(1, runner.keep.taken, [("q", 1)])
        loop.call_later(2, runner.keep.taken, [("q", 2)])
        began = loop.time()
        await runner.keep.emptied(5)
        assert loop.time() - began == pytest.approx(2, abs=0.01)
        await runner.keep.emptied(5)
        assert loop.time() - began == pytest.approx(2, abs=0.01)

    on_virtual_time(scenario)


def test_a_runner_that_ends_does_not_wait_for_ever_for_a_server_that_is_gone() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        runner = Runner()
        await runner.call(1, answers)
        began = loop.time()
        await runner.keep.emptied(5)
        assert loop.time() - began == pytest.approx(5, abs=0.01)

    on_virtual_time(scenario)


async def test_a_handler_that_nobody_reads_stops_at_the_limit_and_goes_on_when_somebody_comes() -> None:
    piece = bytes(4 * 1024 * 1024)
    written: list[int] = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(DETACHED_LIMIT // len(piece) + 2):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            written.append(len(piece))
        await send({"type": "http.response.body", "body": b""})

    runner = Runner()
    await runner.call(1, endless, lose=True)
    assert DETACHED_LIMIT - len(piece) <= sum(written) <= DETACHED_LIMIT
    line = Line(runner.slots)
    line.full = True
    runner.keep.resume(("q", 1), line, 2)
    await turns()
    assert sum(written) <= DETACHED_LIMIT and line.body == b""
    line.full = False
    runner.keep.resume(("q", 1), line, 3)
    await turns()
    assert len(line.body) == DETACHED_LIMIT + 2 * len(piece) and line.said[-1] == "done"
    runner.keep.drop_all()


async def test_what_a_full_connection_did_not_take_follows_with_its_credit() -> None:
    runner = Runner()
    go = asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await answers(scope, receive, send)

    kept, line = await runner.call(1, waits)
    line.full = True
    go.set()
    await turns()
    assert line.body == b"" and "done" not in line.said
    line.full = False
    kept.flow()
    assert line.body == b"answer" and line.said == ["respond", "end", "done"]


async def test_an_answer_that_the_disk_does_not_take_is_a_named_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    runner = Runner(Room(0))
    _, line = await runner.call(1, answers)
    assert line.said == ["respond", "runner_incomplete_response", "done"]
    again = Line(runner.slots)
    assert runner.keep.resume(("q", 1), again, 2)
    assert again.said == ["resumed", "respond", "runner_incomplete_response", "done"]


async def test_the_memory_of_results_is_given_back_when_they_are_taken_or_dropped() -> None:
    room = Room(1000)
    runner = Runner(room)
    await runner.call(1, answers)
    await runner.call(2, answers, lose=True)
    assert room.free == 1000 - 2 * len(b"answer")
    runner.keep.taken([("q", 1)])
    runner.keep.drop([("q", 2), ("q", 3)])
    assert room.free == 1000 and not runner.keep.holds and runner.slots.in_use == 0


async def test_an_app_that_fails_before_it_answers_is_told_again_to_whoever_resumes() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no")

    runner = Runner()
    await runner.call(1, fails, lose=True)
    line = Line(runner.slots)
    assert runner.keep.resume(("q", 1), line, 2)
    assert line.said == ["resumed", "runner_server_error", "done"] and runner.slots.in_use == 0
