"""Who may dial in, and what a control connection brings."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from roost.link.directory import Directory
from roost.link.listener import Admitted, Listener
from roost.testkit import pipe
from roost.testkit.pipe import PipeEnd
from roost.wire import frames
from roost.wire.launch import LINK_VERSIONS, Hello


class Dialler(asyncio.Protocol):
    """A runner's end: keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self.lost = False
        self._reader = frames.Reader()

    def data_received(self, data: bytes) -> None:
        self.heard += [(kind, payload) for kind, _, payload in self._reader.feed(data)]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Front:
    """A listener that knows the runner "r" with the token "t"."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.listener = Listener(self.directory, self._admit, lambda runner, body: self.reports.append((runner, body)), lambda: 0)

    async def _admit(self, hello: Hello) -> Admitted | str:
        if hello.runner_id == "down":
            raise RuntimeError("the store does not answer")
        return Admitted("r", "rev", hello.slots) if hello.token == "t" else "the launch token is wrong"

    async def dial(self, kind: str = "control", *, token: str = "t", versions: tuple[int, ...] = LINK_VERSIONS, runner: str = "r"):
        hello = Hello(kind, runner, token, versions, 1, "test", "READY", 4, health="declared")
        dialler = Dialler()
        end = pipe.connect(dialler, self.listener.newcomer())
        end.write(frames.frame(frames.HELLO, 0, json.dumps(hello.to_json()).encode()))
        await turn()
        return dialler, end


async def turn() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def say(end: PipeEnd, body: dict[str, Any]) -> None:
    end.write(frames.frame(frames.CONTROL, 0, json.dumps(body).encode()))


async def test_a_runner_with_its_token_is_welcome_and_its_state_is_reported() -> None:
    front = Front()
    dialler, _ = await front.dial()
    assert dialler.heard == [(frames.WELCOME, b"")]
    assert front.reports == [("r", {"op": "state", "state": "READY", "health": "declared"})]


async def test_a_call_connection_enters_the_directory_with_its_slots() -> None:
    front = Front()
    await front.dial("calls")
    (entry,) = front.directory.of_revision("rev")
    assert (entry.runner_id, entry.slots, entry.free) == ("r", 4, 4)


async def test_a_wrong_token_is_refused_with_a_sentence() -> None:
    front = Front()
    dialler, _ = await front.dial(token="stolen")
    assert dialler.heard == [(frames.REFUSED, b"the launch token is wrong")] and dialler.lost


async def test_versions_that_this_server_does_not_speak_are_refused() -> None:
    front = Front()
    dialler, _ = await front.dial(versions=(99,))
    assert dialler.heard[0][0] == frames.REFUSED and b"versions" in dialler.heard[0][1]


async def test_without_an_answer_of_the_store_nobody_is_refused_for_good() -> None:
    front = Front()
    dialler, _ = await front.dial(runner="down")
    assert dialler.heard == [] and dialler.lost


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", frames.frame(frames.CONTROL, 0, b"{}"), frames.frame(frames.HELLO, 0, b"[1]")]
)
async def test_whoever_does_not_say_hello_is_hung_up_on(first: bytes) -> None:
    front = Front()
    dialler = Dialler()
    pipe.connect(dialler, front.listener.newcomer()).write(first)
    await turn()
    assert dialler.lost and front.reports == []


async def test_what_a_runner_says_early_is_not_lost() -> None:
    front = Front()
    dialler = Dialler()
    end = pipe.connect(dialler, front.listener.newcomer())
    hello = Hello("control", "r", "t", LINK_VERSIONS, 1, "test")
    end.write(frames.frame(frames.HELLO, 0, json.dumps(hello.to_json()).encode()))
    await asyncio.sleep(0)
    say(end, {"op": "failed", "error": "early"})
    await turn()
    assert front.reports[-1] == ("r", {"op": "failed", "error": "early"})


async def test_a_control_connection_that_is_lost_is_reported() -> None:
    front = Front()
    _, end = await front.dial()
    end.close()
    await turn()
    assert front.reports[-1] == ("r", {"op": "gone"})
    assert not front.listener.tell("r", {"op": "drain"})


async def test_the_end_of_an_older_control_connection_is_no_news() -> None:
    front = Front()
    _, old = await front.dial()
    await front.dial()
    old.close()
    await turn()
    assert all(body["op"] == "state" for _, body in front.reports)
    assert front.listener.tell("r", {"op": "drain"})


async def test_a_ping_is_answered_by_its_pong_and_by_no_other() -> None:
    front = Front()
    dialler, end = await front.dial()
    asked = asyncio.ensure_future(front.listener.ping("r", 5))
    await turn()
    number = json.loads(dialler.heard[-1][1])["id"]
    say(end, {"op": "pong", "id": number + 1})
    await turn()
    assert not asked.done()
    say(end, {"op": "pong", "id": number})
    assert await asked


async def test_a_runner_without_a_connection_does_not_answer_a_ping() -> None:
    assert not await Front().listener.ping("nobody", 5)


async def test_a_newer_call_connection_takes_the_place_of_the_older_one() -> None:
    front = Front()
    _, old = await front.dial("calls")
    await front.dial("calls")
    old.close()
    await turn()
    assert len(front.directory.of_revision("rev")) == 1


async def test_an_answer_to_a_question_of_the_server_before_is_nobodys() -> None:
    front = Front()
    dialler, end = await front.dial()
    asked = asyncio.ensure_future(front.listener.ask("r", {"op": "health", "path": "/ready"}, 5))
    await turn()
    order = json.loads(dialler.heard[-1][1])
    say(end, {"op": "health", "id": order["id"] - 1, "status": 503})
    await turn()
    assert not asked.done()
    say(end, {"op": "health", "id": order["id"], "status": 200})
    answer = await asked
    assert answer is not None and answer["status"] == 200
    assert [body["op"] for _, body in front.reports] == ["state"]
