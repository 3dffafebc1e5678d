"""A server without a product: keeps the supervisor channel's contract, and does what one JSON line a connection tells it.

Files in ROOST_HOME change how it starts: `die_while_loading` (holds an exit code), `never_load`, `never_hand_over`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roost.kit.spawn import Exited, Spawn
from roost.server.supervised import SupervisedSpawner

HOME = Path(os.environ["ROOST_HOME"])


class FakeServer:
    def __init__(self, spawner: SupervisedSpawner) -> None:
        self.spawner = spawner
        self.exits: list[Exited] = []
        self.calls: set[asyncio.Task[None]] = set()

    def on_connection(self, listener: socket.socket) -> None:
        # By hand: asyncio.Server drops connections that it has accepted but not yet attached when it is closed.
        with contextlib.suppress(BlockingIOError):
            task = asyncio.get_running_loop().create_task(self.serve_call(listener.accept()[0]))
            self.calls.add(task)
            task.add_done_callback(self.calls.discard)

    async def serve_call(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            request = json.loads(await reader.readline())
            try:
                answer = await self.answer(**request)
            except OSError as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        finally:
            writer.close()

    async def answer(self, op: str, **fields: Any) -> Any:
        match op:
            case "pid":
                return os.getpid()
            case "start":
                return await self.spawner.start(Spawn(**{**fields, "argv": tuple(fields["argv"])}))
            case "stop":
                await self.spawner.stop(fields["name"], fields["grace_ms"])
            case "kill":
                await self.spawner.kill(fields["name"])
            case "living":
                return [dataclasses.asdict(living) for living in await self.spawner.living()]
            case "exits":
                return [dataclasses.asdict(exited) for exited in self.exits]
            case "acknowledge":
                await self.spawner.acknowledge(fields["names"])
            case "restart":
                await self.spawner.request_restart()
            case "wait_for":
                while not Path(fields["path"]).exists():  # noqa: ASYNC110 - a test in another process makes the file
                    await asyncio.sleep(0.005)
                return os.getpid()
            case _:
                raise OSError(f"no operation {op}")
        return None


async def serve() -> None:
    spawner = await SupervisedSpawner.from_environ()
    server = FakeServer(spawner)
    for kind in ("runner", "build"):
        spawner.subscribe(kind, server.exits.append, acknowledge=False)
    if (HOME / "never_load").exists():
        await asyncio.Event().wait()
    with contextlib.suppress(FileNotFoundError):
        sys.exit(int((HOME / "die_while_loading").read_text()))
    await spawner.loaded()
    await spawner.go.wait()
    loop = asyncio.get_running_loop()
    listeners = [socket.socket(fileno=int(fd)) for fd in os.environ["ROOST_LISTEN_FDS"].split(",")]
    for listener in listeners:
        loop.add_reader(listener, server.on_connection, listener)
    await spawner.serving()
    await first(spawner.handover.wait, spawner.shutdown.wait)
    if (HOME / "never_hand_over").exists():
        await asyncio.Event().wait()
    for listener in listeners:
        loop.remove_reader(listener)
        listener.close()
    if spawner.handover.is_set():
        await spawner.handed_over()
    while server.calls:
        await asyncio.wait(set(server.calls))
    (HOME / f"finished-{os.getpid()}").touch()
    await spawner.close()


async def first(*waits: Callable[[], Any]) -> None:
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(serve())
