"""A real runner process and servers that come and go: its kept calls, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.link.directory import Directory, Entry
from roost.link.listener import Admitted, Listener
from roost.wire import frames
from roost.wire.frames import RequestHead
from roost.wire.launch import Hello

RUNNER = Path(__file__).parent.parent / "apps" / "system" / "kept_runner.py"
HEAD = RequestHead("POST", b"/", b"", [(b"content-type", b"application/json")])


class Server:
    """One life of a server: all that a runner sees of it."""

    def __init__(self) -> None:
        self._directory = Directory()
        self._listener = Listener(self._directory, self._admit, lambda runner, body: None, lambda: 0)

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, path: Path) -> AsyncIterator[Server]:
        """Until the block ends, or `crash`."""
        server = cls()
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            sock.listen()
            sock.setblocking(False)
            await server._listener.listen(sock)
        try:
            yield server
        finally:
            await server.crash()

    async def crash(self) -> None:
        self._listener.close()
        await asyncio.sleep(0.05)

    async def runner(self) -> Entry:
        """The runner, as soon as it has dialled home."""
        until = time.monotonic() + 30
        while (entry := self._directory.get("r")) is None:
            assert time.monotonic() < until, "no runner dialled home"
            await asyncio.sleep(0.01)
        return entry

    async def begin(self, number: int) -> None:
        entry = await self.runner()
        exchange = entry.connection.reserve()
        assert (await exchange.next())[0] == frames.ACCEPT
        exchange.keep("q", number)
        exchange.send(HEAD, b"{}", True)

    async def _admit(self, hello: Hello) -> Admitted:
        return Admitted("r", "rev", hello.slots, hello.held)


@contextlib.asynccontextmanager
async def runner_at(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, str(RUNNER), str(path))
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def resumed(entry: Entry, number: int) -> bytes:
    exchange = entry.connection.resume("q", number)
    body = b""
    while not exchange.finished or exchange.events:
        kind, _, value = await exchange.next()
        body += value if kind in (frames.BODY, frames.BODY_END) else b""
    return body


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("k") / "s"


async def test_calls_go_on_while_no_server_is_there_and_the_next_one_has_their_answers(path: Path) -> None:
    async with Server.at(path) as first, runner_at(path):
        await first.begin(1)
        await first.begin(2)
        await asyncio.sleep(0.1)
        await first.crash()
        async with Server.at(path) as second:
            entry = await second.runner()
            assert (entry.in_flight, entry.held, entry.free) == (0, 2, 0)
            assert await asyncio.gather(resumed(entry, 1), resumed(entry, 2)) == [b'"slow"'] * 2
            assert (entry.in_flight, entry.held, entry.free) == (0, 0, 2)


async def test_a_runner_told_to_go_without_a_server_dials_the_next_one_and_ends_when_its_results_are_taken(path: Path) -> None:
    async with Server.at(path) as first, runner_at(path) as process:
        await first.begin(1)
        await asyncio.sleep(0.1)
        await first.crash()
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(1)
        assert process.returncode is None
        async with Server.at(path) as second:
            entry = await second.runner()
            assert await resumed(entry, 1) == b'"slow"' and entry.free == 0
            began = time.monotonic()
            entry.connection.taken([("q", 1)])
            assert await process.wait() == 0 and time.monotonic() - began < 2
