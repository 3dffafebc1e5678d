"""The queue's HTTP side with a real store and queue, and no runners: tests play what dispatch would do, at the moment that they want."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from roost.core import admission
from roost.core.model import Alias, Key, Revision, RevisionState, Scale
from roost.core.requests import Claim, Claimed, Content, Final, Output, Request
from roost.data.logs import RunnerLogs
from roost.data.payloads import Payloads
from roost.data.request_logs import RequestLogs
from roost.demand.board import Board
from roost.demand.queue import Queue
from roost.gateway.app import Gateway
from roost.gateway.queued import Limits, QueueCalls
from roost.gateway.request_status import Statuses
from roost.gateway.resolve import Routes
from roost.gateway.slots import Slots
from roost.gateway.specs import Specs
from roost.gateway.submit import Submits
from roost.gateway.sync import DirectCalls, Runners
from roost.kit.hints import Hints
from roost.link.directory import Directory
from roost.store import Store
from roost.testkit.calling import Calling
from roost.testkit.clock import VirtualClock
from roost.testkit.disk import Disk
from roost.web.answers import Asgi
from roost.web.auth import KeyRing, hash_secret
from roost.wire.spec import AppSpec

PEPPER = b"p" * 32
HOST = "queue.roost.test"
RUNNER = "runner-1"
LARGEST = 4_000_000
"""Body of a submit."""


class Desk:
    """A gateway that serves the role "queue". Callers: "me" owns every app, "ada" and "bob" call them."""

    def __init__(self, store: Store, folder: Path, clock: VirtualClock, queue: Queue) -> None:
        self.store = store
        self.clock = clock
        self.hints = Hints()
        self.keys = KeyRing(PEPPER)
        self.logs_folder = folder / "logs"
        self.logs_folder.mkdir(exist_ok=True)
        self.payloads_folder = folder / "payloads"
        self.payloads = Payloads(self.payloads_folder)
        self.routes = Routes(self._aliases)
        self.specs = Specs(store.revisions.get)
        self._folder = folder
        self._others: dict[str, Asgi] = {}
        calls = DirectCalls(
            Slots(Directory(), Board(), self.routes, admission.Limits(), clock.now_ms),
            Runners(lambda *_: None, lambda *_: None, self._unknown),
            clock.now_ms,
            max_body=LARGEST,
            folder=str(folder),
        )
        self.gateway = Gateway(self.routes, self.keys, calls, self._others)
        self.serve(queue)

    def serve(self, queue: Queue) -> None:
        self.queue = queue
        requests = self.store.requests
        self.queued = self._others["queue"] = QueueCalls(
            queue,
            requests,
            Submits(queue, self.payloads, self.specs.of, self.clock.now_ms),
            Statuses(queue, requests.attempts, RequestLogs(RunnerLogs(self.logs_folder)), self._private),
            self.payloads,
            self.routes,
            self.keys,
            self.gateway.may_call,
            Limits(max_body=LARGEST, spool=str(self._folder), public_url="http://roost.test"),
        )

    async def reopen(self) -> None:
        """As after a restart: the view knows what lives, and nothing of what has ended."""
        await self.queue.close()
        self.serve(await Queue.open(self.store.requests, self.hints, self.clock.now_ms))

    async def _aliases(self) -> list[Alias]:
        return list(await self.store.apps.list())

    async def _unknown(self, runner_id: str) -> str:
        return ""

    async def _private(self, application: str) -> bool:
        route = self.routes.of_application(application)
        spec = await self.specs.of(route.revision_id) if route is not None else None
        return spec is None or spec.private_logs is True

    async def make_keys(self) -> None:
        for owner in ("me", "ada", "bob"):
            await self.store.keys.create(Key(owner, owner, "API", "", hash_secret(PEPPER, "s"), 0, None))
        self.keys.replace(await self.store.keys.valid())

    async def app(self, name: str = "app", auth: str = "shared", start_timeout_ms: int | None = None, **spec: Any) -> None:
        revision_id = f"revision-of-{name}"
        await self.store.revisions.create(
            Revision(
                id=revision_id,
                owner="me",
                name=name,
                environment="main",
                state=RevisionState.DEPLOYED,
                reason="",
                spec=AppSpec(name=name, class_name="App", python_version="3.11", **spec),
                bundle="",
                working_dir="",
                runtime="",
                env_key="",
                openapi={},
                message="",
                annotations=(),
                created_by="",
                created_ms=0,
            )
        )
        scale = Scale(request_start_timeout_ms=start_timeout_ms)
        await self.store.apps.point(Alias("me", name, "main", revision_id, auth, scale, False, None, 0, 0))
        await self.routes.refresh()

    # callers

    def ask(
        self,
        method: str,
        path: str,
        *,
        key: str | None = "ada",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        host: str = HOST,
        client: str = "192.0.2.1",
    ) -> Calling:
        """Send a request now; await the answer, or leave it with `hang_up`. `key` is whose, or the whole field's value."""
        path, _, query = path.partition("?")
        fields = {"host": host, "content-length": str(len(body))}
        if key is not None:
            fields["authorization"] = key if " " in key else f"Key {key}:s"
        fields |= headers or {}
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
            "client": (client, 40000),
        }
        return Calling(self.gateway, scope, body, self.clock.now_ms)

    async def submit(self, path: str = "/me/app", *, body: bytes = b"{}", **asked: Any) -> str:
        """Submit, and answer the id."""
        reply = await self.ask("POST", path, body=body, **asked)
        assert reply.status == 200, reply.body
        return reply.json["request_id"]

    async def status(self, request_id: str, query: str = "", **asked: Any) -> Any:
        return (await self.ask("GET", f"/me/app/requests/{request_id}/status{query}", **asked)).json

    # dispatch

    async def begin(self, runner_id: str = RUNNER, log_from: int = 0) -> Claimed:
        """The next request starts on a runner."""
        request = self.queue.next("me/app", self.clock.now_ms())
        assert request is not None, "nothing waits"
        claim = Claim(f"attempt-{request.attempt + 1}-{request.id[:8]}", runner_id, self.clock.now_ms() + 10_000, log_from)
        claimed = await self.queue.claim(request, claim)
        assert claimed is not None
        return claimed

    async def answer(
        self, request: Request, status: int = 200, body: bytes = b'{"ok":true}', *headers: tuple[bytes, bytes], **final: Any
    ) -> None:
        """The app answered."""
        output = Output(status, headers or ((b"content-type", b"application/json"),), Content(len(body), body))
        if len(body) > 65536:
            output = Output(status, output.headers, await self.payloads.put(body))
        await self.fail(request, **({"status": status, "output": output, "inference_ms": 250} | final))

    async def fail(self, request: Request, **final: Any) -> None:
        assert await self.queue.finish(request.id, request.attempt, Final(**final)) is not None

    def prints(self, request_id: str, *lines: str, runner_id: str = RUNNER) -> int:
        """A line of the runner's output for each; answers how long the output is now."""
        path = self.logs_folder / f"{runner_id}.log"
        with path.open("ab") as file:
            for line in lines:
                record = {"t": self.clock.now_ms(), "s": "out", "l": line, "r": request_id, "e": "/"}
                file.write(b"\x1e" + json.dumps(record).encode() + b"\n")
        return path.stat().st_size


@asynccontextmanager
async def desk_in(folder: Path, clock: VirtualClock) -> AsyncIterator[Desk]:
    disk = await Disk.open()
    store = await disk.store(clock)
    queue = await Queue.open(store.requests, Hints(), clock.now_ms)
    desk = Desk(store, folder, clock, queue)
    await desk.make_keys()
    yield desk
    await queue.close()
    await store.close()
    await disk.close()
