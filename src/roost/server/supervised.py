"""The server's end of the supervisor channel: starts and ends processes by asking, and learns when to go, hand over or stop.

Contract: `docs/internals/contracts.md`, "Supervisor channel". Use, in this order:

    spawner = await SupervisedSpawner.from_environ()
    spawner.subscribe("runner", fleet.on_exit)
    await spawner.loaded()            # imports are done
    await spawner.go.wait()           # now open the store and accept
    await spawner.serving()
    ... until spawner.handover or spawner.shutdown is set ...
    await spawner.handed_over()       # after handover only: stopped accepting, engines stopped, store closed
    await spawner.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from roost.kit import log
from roost.kit.spawn import NO_LIMITS, Enforcement, Exited, Limits, Living, Spawn

# A ticket carries an app's whole spec and environment; asyncio's own limit of 64 KB a line would break the channel.
LINE_LIMIT = 16 * 1024 * 1024


class NoSupervisor(OSError):
    """There is no supervisor to ask: it was never there, or the channel to it has ended."""


@dataclasses.dataclass(frozen=True, slots=True)
class Subscription:
    on_exit: Callable[[Exited], None]
    acknowledge: bool


class SupervisedSpawner:
    """A `kit.spawn.Spawner` that asks the supervisor. One a server process; belongs to the loop that opened it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.go = asyncio.Event()
        """Set once this server may open the store and accept."""
        self.handover = asyncio.Event()
        """Set when a new server is loaded and waits for ours to hand over."""
        self.shutdown = asyncio.Event()
        """Set when the whole tree stops: stop accepting, finish calls within `shutdown_grace_ms`, exit."""
        self.shutdown_grace_ms = 0
        self.restart_failed: Callable[[str], None] | None = None
        """Called with the reason when a planned restart was given up; this server then serves on."""
        self._reader = reader
        self._writer = writer
        self._last_id = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._early: dict[str, list[Exited]] = defaultdict(list)
        self._lost = False
        self._listening = asyncio.get_running_loop().create_task(self._listen(), name="supervisor channel")

    @classmethod
    async def connect(cls, channel: socket.socket) -> SupervisedSpawner:
        """Take over the server's end of the channel."""
        # A process that inherited the channel could speak in our name, and would keep it open after our death.
        channel.set_inheritable(False)
        return cls(*await asyncio.open_connection(sock=channel, limit=LINE_LIMIT))

    @classmethod
    async def from_environ(cls) -> SupervisedSpawner:
        """Open the channel that ROOST_SUPERVISOR_FD names. Raises NoSupervisor when the server was started by hand."""
        text = os.environ.get("ROOST_SUPERVISOR_FD", "")
        try:
            return await cls.connect(socket.socket(fileno=int(text)))
        except (ValueError, OSError) as error:
            raise NoSupervisor(f"ROOST_SUPERVISOR_FD={text!r} is no channel to a supervisor; start the server with `roost up`") from error

    # What the server tells about itself

    async def loaded(self) -> None:
        """Imports are done; `go` follows as soon as no other server holds the store."""
        await self._send({"op": "loaded"})

    async def serving(self) -> None:
        await self._send({"op": "serving"})

    async def handed_over(self) -> None:
        """Accepting and engines have stopped, the store is closed: the next server may go. Builds started by us end now."""
        await self._send({"op": "handed_over"})

    async def request_restart(self) -> None:
        """Ask for a planned restart. `handover` follows, or `restart_failed` is called."""
        await self._send({"op": "restart"})

    # Spawner

    async def start(self, spawn: Spawn) -> int:
        answer = await self._ask({"op": "start", **dataclasses.asdict(spawn)})
        return int(answer["pid"])

    async def adopt(self, name: str, kind: str, pid: int, grace_ms: int, limits: Limits = NO_LIMITS) -> None:
        told = {"name": name, "kind": kind, "pid": pid, "grace_ms": grace_ms, "limits": dataclasses.asdict(limits)}
        await self._ask({"op": "adopt", **told})

    async def stop(self, name: str, grace_ms: int) -> None:
        await self._send({"op": "stop", "name": name, "grace_ms": grace_ms})

    async def kill(self, name: str) -> None:
        await self._send({"op": "kill", "name": name})

    async def enforcement(self) -> Enforcement:
        """How limits are kept. Raises OSError where the supervisor is older than limits."""
        answer = await self._ask({"op": "enforcement"})
        return Enforcement(**answer["enforcement"])

    async def living(self) -> list[Living]:
        answer = await self._ask({"op": "living"})
        return [Living(**entry) for entry in answer["living"]]

    def subscribe(self, kind: str, on_exit: Callable[[Exited], None], *, acknowledge: bool = True) -> None:
        """Call `on_exit` for each ended process of this kind, also for those that ended before anybody subscribed.

        With `acknowledge` the supervisor forgets an exit as soon as `on_exit` has returned. Without, it repeats the exit to
        the next server until `acknowledge(names)` says that it is stored.
        """
        self._subscriptions[kind] = Subscription(on_exit, acknowledge)
        for exited in self._early.pop(kind, []):
            self._deliver_soon(exited)

    async def acknowledge(self, names: Iterable[str]) -> None:
        """These exits are stored; the supervisor may forget them."""
        await self._send({"op": "ended_ok", "names": list(names)})

    async def close(self) -> None:
        """Let go of the channel. Whoever still waits for an answer gets NoSupervisor."""
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    # The channel

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self._send({"id": number, **message})
            body = await answer
        finally:
            self._answers.pop(number, None)
        if "error" in body:
            raise OSError(body["error"])
        return body

    async def _send(self, message: dict[str, Any]) -> None:
        if self._lost:
            raise NoSupervisor("the supervisor is gone; this server is about to be ended by the kernel")
        self._post(message)
        await self._writer.drain()

    def _post(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                self._receive(json.loads(line))
        except (OSError, ValueError) as error:
            log.warning("supervisor.channel_broke", error=error)
        finally:
            self._lost = True
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(NoSupervisor("the supervisor ended before it answered"))

    def _receive(self, message: dict[str, Any]) -> None:
        match message:
            case {"id": int(number)}:
                answer = self._answers.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case {"event": "exited", **fields}:
                self._deliver_soon(Exited(**{f.name: fields[f.name] for f in dataclasses.fields(Exited) if f.name in fields}))
            case {"event": "go"}:
                self.go.set()
            case {"event": "handover"}:
                self.handover.set()
            case {"event": "shutdown", "grace_ms": int(grace_ms)}:
                self.shutdown_grace_ms = grace_ms
                self.shutdown.set()
            case {"event": "restart_failed", "reason": str(reason)}:
                if self.restart_failed is not None:
                    self.restart_failed(reason)
            case _:
                log.warning("supervisor.unknown_message", message=message)

    def _deliver_soon(self, exited: Exited) -> None:
        # Not at once: the answer to `start` may have come in the same read, and its caller must know the pid before the exit.
        asyncio.get_running_loop().call_soon(self._deliver, exited)

    def _deliver(self, exited: Exited) -> None:
        subscription = self._subscriptions.get(exited.kind)
        if subscription is None:
            self._early[exited.kind].append(exited)
            return
        subscription.on_exit(exited)
        if subscription.acknowledge and not self._lost:
            self._post({"op": "ended_ok", "names": [exited.name]})
