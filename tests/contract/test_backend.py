"""Every Backend keeps the contract of `backends/base.py`: the one of tests, and the one of processes.

In place of an environment's Python stands a small program that does as the app's `host_options` say, and dials home with its token.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from roost.backends.base import Backend, Launch
from roost.backends.process import Places, ProcessBackend
from roost.core.model import Revision, RevisionState
from roost.core.placement import MachineType, Place
from roost.kit.clock import SystemClock
from roost.kit.process import LocalSpawner
from roost.kit.spawn import Exited
from roost.testkit.backend import FakeBackend
from roost.testkit.script import Script
from roost.wire import frames
from roost.wire.launch import Hello
from roost.wire.spec import AppSpec

PROGRAM = """
import json, signal, socket, struct, sys, time
ticket = json.load(sys.stdin)
if ticket["spec"]["host_options"].get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if ticket["spec"]["host_options"].get("dies"):
    sys.exit(82)
hello = {"kind": "calls", "runner_id": ticket["runner_id"], "token": ticket["token"], "versions": [1], "pid": 1, "runtime": "test",
         "state": "READY", "slots": ticket["spec"]["max_multiplexing"]}
payload = json.dumps(hello).encode()
link = socket.socket(socket.AF_UNIX)
link.connect(ticket["addresses"][0].removeprefix("unix:"))
link.sendall(struct.pack(">IBI", len(payload), 1, 0) + payload)
time.sleep(600)
"""


Found = TypeVar("Found")


class Door(asyncio.Protocol):
    """The server's end of a runner's connection: hears who it is, and lets it in."""

    def __init__(self, heard: Callable[[Hello], None]) -> None:
        self._heard = heard
        self._reader = frames.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for kind, _, payload in self._reader.feed(data):
            if kind == frames.HELLO:
                self._transport.write(frames.frame(frames.WELCOME, 0))
                self._heard(Hello.from_json(json.loads(payload)))


@dataclass
class Bench:
    """A backend, and what it and its runners said."""

    backend: Backend
    exits: list[Exited] = field(default_factory=list[Exited])
    hellos: list[Hello] = field(default_factory=list[Hello])
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, hello: Hello) -> None:
        self.hellos.append(hello)
        self._news.set()

    def ended(self, exited: Exited) -> None:
        self.exits.append(exited)
        self._news.set()

    async def exit_of(self, runner_id: str) -> Exited:
        return await self._first(lambda: [exited for exited in self.exits if exited.name == runner_id])

    async def hello_of(self, runner_id: str) -> Hello:
        return await self._first(lambda: [hello for hello in self.hellos if hello.runner_id == runner_id and hello.kind == "calls"])

    async def _first(self, find: Callable[[], list[Found]]) -> Found:
        while not (found := find()):
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 10)
        return found[0]


@contextlib.asynccontextmanager
async def fake(_: Path) -> AsyncIterator[Bench]:
    backend = FakeBackend(SystemClock().now_ms)
    bench = Bench(backend)
    backend.subscribe(bench.ended)
    backend.door = lambda: Door(bench.heard)
    quick = Script(load_ms=0, setup_ms=1)
    backend.plays("plain", quick)
    backend.plays("stubborn", dataclasses.replace(quick, ignores_sigterm=True))
    backend.plays("dies", dataclasses.replace(quick, setup_error="no"))
    backend.plays("impossible", Script(start_error="cannot start it: there is no such program"))
    yield bench
    for runner in backend.running():
        runner.kill()
    await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def processes(folder: Path) -> AsyncIterator[Bench]:
    for name in ("envs/here/bin", "bundles/b", "runtime", "logs"):
        (folder / name).mkdir(parents=True)
    python = folder / "envs/here/bin/python"
    python.write_text(f"#!{sys.executable} -S\n{PROGRAM}")
    python.chmod(0o700)
    spawner = LocalSpawner()
    link = str(folder / "link.sock")
    backend = ProcessBackend(
        spawner, Places(folder / "envs", folder / "bundles", folder / "logs", lambda _: folder / "runtime", (f"unix:{link}",))
    )
    bench = Bench(backend)
    backend.subscribe(bench.ended)
    door = await asyncio.get_running_loop().create_unix_server(lambda: Door(bench.heard), link)
    yield bench
    await spawner.close()
    door.close()
    await door.wait_closed()


@pytest.fixture(params=[fake, processes])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with request.param(tmp_path) as made:
        yield made


def launch(runner_id: str, kind: str = "plain", slots: int = 1) -> Launch:
    spec = AppSpec("app", "App", "3.11", host_options={kind: True})
    env_key = "missing" if kind == "impossible" else "here"
    revision = Revision(
        kind, "me", "app", "main", RevisionState.DEPLOYED, "", spec, "b", "", "0.1", env_key, {}, "", (), "me", 0
    )  # fmt: skip
    return Launch(runner_id, f"token of {runner_id}", revision, "me/app", Place(MachineType("S", 1, 1024)), slots, 60_000, 5_000, {})


async def test_a_started_runner_is_among_the_living(bench: Bench) -> None:
    pid = await bench.backend.start(launch("r1"))
    assert pid is not None and await bench.backend.living() == {"r1": pid}


async def test_a_started_runner_dials_home_with_its_token_and_its_slots(bench: Bench) -> None:
    await bench.backend.start(launch("r1", slots=7))
    hello = await bench.hello_of("r1")
    assert (hello.token, hello.slots, hello.state) == ("token of r1", 7, "READY")


async def test_a_stopped_runner_ends_by_itself_within_its_grace(bench: Bench) -> None:
    await bench.backend.start(launch("r1"))
    await bench.hello_of("r1")
    await bench.backend.stop("r1", 10_000)
    exited = await bench.exit_of("r1")
    assert (exited.kind, exited.code, exited.signal) == ("runner", 0, None)
    assert await bench.backend.living() == {}


async def test_a_runner_that_ignores_sigterm_is_killed_at_the_end_of_the_grace(bench: Bench) -> None:
    await bench.backend.start(launch("r1", "stubborn"))
    await bench.hello_of("r1")
    await bench.backend.stop("r1", 30)
    assert (await bench.exit_of("r1")).signal == signal.SIGKILL


async def test_a_killed_runner_ends_at_once_by_its_signal(bench: Bench) -> None:
    pid = await bench.backend.start(launch("r1"))
    await bench.backend.kill("r1")
    exited = await bench.exit_of("r1")
    assert (exited.pid, exited.code, exited.signal) == (pid, None, signal.SIGKILL)


async def test_a_runner_that_ends_by_itself_is_told_with_its_code(bench: Bench) -> None:
    await bench.backend.start(launch("r1", "dies"))
    assert (await bench.exit_of("r1")).code == 82


async def test_each_end_is_told_once_however_often_it_was_asked_for(bench: Bench) -> None:
    await bench.backend.start(launch("r1"))
    await bench.hello_of("r1")
    await bench.backend.stop("r1", 20)
    await bench.backend.stop("r1", 20)
    await bench.backend.kill("r1")
    await bench.exit_of("r1")
    await bench.backend.kill("r1")
    await bench.backend.start(launch("r2", "dies"))
    await bench.exit_of("r2")
    assert [exited.name for exited in bench.exits] == ["r1", "r2"]


async def test_a_runner_that_a_signal_has_stopped_is_said_to_be(bench: Bench) -> None:
    pid = await bench.backend.start(launch("r1"))
    await bench.backend.start(launch("r2"))
    assert pid is not None
    if isinstance(bench.backend, FakeBackend):
        bench.backend.running()[0].freeze()
    else:
        os.kill(pid, signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    assert await bench.backend.stopped() == {"r1"}
    await bench.backend.kill("r1")
    assert (await bench.exit_of("r1")).signal == signal.SIGKILL


async def test_orders_for_runners_that_are_not_there_are_ignored(bench: Bench) -> None:
    await bench.backend.stop("nobody", 10)
    await bench.backend.kill("nobody")
    assert bench.exits == []


async def test_a_runner_that_cannot_be_started_raises_a_sentence_and_does_not_live(bench: Bench) -> None:
    with pytest.raises(OSError, match="cannot"):
        await bench.backend.start(launch("r1", "impossible"))
    assert await bench.backend.living() == {}


async def test_a_second_runner_of_the_same_id_is_refused(bench: Bench) -> None:
    await bench.backend.start(launch("r1"))
    with pytest.raises(OSError, match="r1"):
        await bench.backend.start(launch("r1"))
    assert len(await bench.backend.living()) == 1
