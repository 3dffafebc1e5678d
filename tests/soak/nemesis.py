"""What strikes a server while callers use it, and how it is seen to come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.system.probing import Connection
from tests.system.roosts import Roost, until


async def kill_server(roost: Roost) -> float:
    """kill -9 of the server; answers the seconds until the next one answers."""
    pid = await server_pid(roost)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    await answers(roost)
    return time.monotonic() - began


async def server_pid(roost: Roost) -> int:
    """Also when the last one has just died: as soon as the next one is there."""
    return await asyncio.to_thread(until, "there is a server", lambda: _newest(roost))


def _newest(roost: Roost) -> int:
    with contextlib.suppress(ValueError):
        return roost.server_pid()
    return 0


async def answers(roost: Roost, patience_s: float = 60) -> None:
    """Back when the server answers. The listening socket outlives servers: a call made while there is none is answered by the next."""
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError):
            connection = await Connection.open(f"{roost.host}:{roost.port}")
            try:
                if (await asyncio.wait_for(connection.ask("GET", "/health", []), 20)).status == 200:
                    return
            finally:
                await connection.close()
        assert time.monotonic() < deadline, f"no answer for {patience_s:g} s"
        await asyncio.sleep(0.01)


async def again_and_again(strike: Callable[[], Coroutine[Any, Any, Any]], every_s: float, work: Awaitable[Any]) -> list[Any]:
    """Strike at this pace while the work goes on; answers what each strike answered."""
    going = asyncio.ensure_future(work)
    seen: list[Any] = []
    next_at = time.monotonic() + every_s
    while not going.done():
        await asyncio.wait([going], timeout=max(0.0, next_at - time.monotonic()))
        if not going.done():
            seen.append(await strike())
            next_at = max(next_at + every_s, time.monotonic())
    await going
    return seen
