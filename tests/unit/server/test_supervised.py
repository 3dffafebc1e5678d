"""The server's end of the channel, with the test at the other end. What both ends do together: tests/contract/test_spawner.py."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from roost.kit.spawn import Exited, Spawn
from roost.server.supervised import NoSupervisor, SupervisedSpawner


class Supervisor:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def heard(self) -> dict[str, Any]:
        return json.loads(await asyncio.wait_for(self.reader.readline(), 5))

    def says(self, *messages: dict[str, Any]) -> None:
        self.writer.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))


@pytest.fixture
async def ends() -> AsyncIterator[tuple[SupervisedSpawner, Supervisor]]:
    ours, theirs = socket.socketpair()
    spawner = await SupervisedSpawner.connect(ours)
    supervisor = Supervisor(*await asyncio.open_connection(sock=theirs))
    yield spawner, supervisor
    await spawner.close()
    supervisor.writer.close()
    await supervisor.writer.wait_closed()


Ends = tuple[SupervisedSpawner, Supervisor]


def exit_event(name: str, kind: str = "runner") -> dict[str, Any]:
    return {"event": "exited", "name": name, "kind": kind, "pid": 7, "code": 0, "signal": None, "error": "", "oom_killed": False}


async def test_it_says_how_far_it_is_and_hears_what_to_do(ends: Ends) -> None:
    spawner, supervisor = ends
    await spawner.loaded()
    assert await supervisor.heard() == {"op": "loaded"}
    supervisor.says({"event": "go"})
    await spawner.go.wait()
    await spawner.serving()
    await spawner.request_restart()
    assert [await supervisor.heard(), await supervisor.heard()] == [{"op": "serving"}, {"op": "restart"}]
    supervisor.says({"event": "handover"})
    await spawner.handover.wait()
    await spawner.handed_over()
    assert await supervisor.heard() == {"op": "handed_over"}
    supervisor.says({"event": "shutdown", "grace_ms": 30_000})
    await spawner.shutdown.wait()
    assert spawner.shutdown_grace_ms == 30_000


async def test_answers_find_their_question_in_any_order(ends: Ends) -> None:
    spawner, supervisor = ends
    one = asyncio.ensure_future(spawner.start(Spawn("a", "runner", ("true",))))
    other = asyncio.ensure_future(spawner.start(Spawn("b", "runner", ("true",))))
    first, second = await supervisor.heard(), await supervisor.heard()
    assert (first["name"], first["argv"], second["name"]) == ("a", ["true"], "b")
    supervisor.says({"id": second["id"], "error": "no"}, {"id": first["id"], "pid": 5})
    assert await one == 5
    with pytest.raises(OSError, match="no"):
        await other


async def test_an_exit_is_acknowledged_when_its_subscriber_was_told(ends: Ends) -> None:
    spawner, supervisor = ends
    told: list[Exited] = []
    spawner.subscribe("runner", told.append)
    supervisor.says(exit_event("a"))
    assert await supervisor.heard() == {"op": "ended_ok", "names": ["a"]}
    assert told == [Exited("a", "runner", 7, 0, None)]


async def test_an_exit_waits_for_its_subscriber(ends: Ends) -> None:
    spawner, supervisor = ends
    told: asyncio.Queue[Exited] = asyncio.Queue()
    seen: asyncio.Queue[Exited] = asyncio.Queue()
    spawner.subscribe("build", seen.put_nowait)
    supervisor.says(exit_event("a"), exit_event("b", "build"))
    await asyncio.wait_for(seen.get(), 5)
    spawner.subscribe("runner", told.put_nowait)
    assert (await asyncio.wait_for(told.get(), 5)).name == "a"


async def test_who_acknowledges_later_says_so_when_it_is_stored(ends: Ends) -> None:
    spawner, supervisor = ends
    told: asyncio.Queue[Exited] = asyncio.Queue()
    spawner.subscribe("runner", told.put_nowait, acknowledge=False)
    supervisor.says(exit_event("a"))
    await asyncio.wait_for(told.get(), 5)
    await spawner.acknowledge(["a"])
    assert await supervisor.heard() == {"op": "ended_ok", "names": ["a"]}


async def test_a_restart_that_was_given_up_is_told(ends: Ends) -> None:
    spawner, supervisor = ends
    reasons: asyncio.Queue[str] = asyncio.Queue()
    spawner.restart_failed = reasons.put_nowait
    supervisor.says({"event": "restart_failed", "reason": "it died"})
    assert await asyncio.wait_for(reasons.get(), 5) == "it died"


async def test_a_supervisor_that_is_gone_leaves_nobody_waiting(ends: Ends) -> None:
    spawner, supervisor = ends
    asked = asyncio.ensure_future(spawner.living())
    await supervisor.heard()
    supervisor.writer.close()
    with pytest.raises(NoSupervisor):
        await asyncio.wait_for(asked, 5)
    with pytest.raises(NoSupervisor):
        await spawner.serving()


async def test_a_message_from_a_later_supervisor_is_passed_over(ends: Ends, capsys: pytest.CaptureFixture[str]) -> None:
    spawner, supervisor = ends
    supervisor.says({"event": "weather", "degrees": 20}, {"event": "go"})
    await asyncio.wait_for(spawner.go.wait(), 5)
    assert "supervisor.unknown_message" in capsys.readouterr().err


@pytest.mark.parametrize("value", [None, "", "x", "99999"])
async def test_a_server_without_a_supervisor_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("ROOST_SUPERVISOR_FD", raising=False)
    else:
        monkeypatch.setenv("ROOST_SUPERVISOR_FD", value)
    with pytest.raises(NoSupervisor, match="start the server with `roost up`"):
        await SupervisedSpawner.from_environ()
