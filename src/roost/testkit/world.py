"""A whole server in a test: the real engines, gateway, link and store, on virtual time, with runners that only pretend.

    async def test_a_call_wakes_a_runner(world: World) -> None:
        await world.app()
        assert (await world.call("/me/app")).status == 200

Runs on a `VirtualLoop`: `await world.advance(3600)` takes milliseconds, and what a test awaits has happened by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from roost.backends.base import Backend
from roost.core.model import Alias, DeployPlan, Event, Release, ReleaseKind, ReleaseState, Revision, RevisionState, Runner
from roost.core.placement import Node
from roost.core.requests import Attempt, Request
from roost.gateway.forward import Successor
from roost.kit.process import LocalSpawner
from roost.server.paths import Paths
from roost.server.settings import Settings
from roost.server.wiring import Addresses, Server
from roost.testkit.backend import FakeBackend
from roost.testkit.calling import Calling, Reply
from roost.testkit.dialling import Dialling, request_bytes
from roost.testkit.disk import Disk
from roost.testkit.loop import VirtualLoop
from roost.testkit.onward import Onward
from roost.testkit.receivers import Receivers
from roost.testkit.runner import FakeRunner
from roost.testkit.script import Received, Script
from roost.web.answers import Receive, Scope, Send
from roost.wire import ids
from roost.wire.spec import AppSpec

OWNER = "me"
ROOMY = Node(cpus=64, memory_mb=256 * 1024)
_UNDER_WAY = (RevisionState.BUILDING, RevisionState.STARTING)


class World:
    """Made by `World.open`. `server` is the one that lives now; `backend` and `disk` outlive it."""

    def __init__(self, home: Path, disk: Disk, settings: Settings, node: Node) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop), "a World needs a VirtualLoop: see tests/sim/conftest.py"
        self.clock = loop.clock
        self.backend = FakeBackend(self.clock.now_ms)
        self.receivers = Receivers(self.clock.now_ms)
        """Whom webhooks go to."""
        self.server: Server
        self._paths = Paths(home)
        self.disk = disk
        self._settings = settings
        self._node = node
        self.available_mb: int | None = None
        """What the machine has left; None: nobody asks."""
        self.over_http = False
        """Calls come as bytes on connections, as real ones do; else they are ASGI requests, which have no short way."""
        self._calls: list[Calling | Dialling] = []
        self._leaving: list[asyncio.Task[None]] = []
        """Servers that have handed over."""

    @classmethod
    async def open(cls, home: Path, settings: Settings | None = None, node: Node = ROOMY) -> World:
        """`home` is a folder for what a server expects on the disk; several worlds may share it one after another."""
        world = cls(home, await Disk.open(), settings or Settings(), node)
        world._paths.make()
        await world.start_server()
        return world

    async def close(self) -> None:
        await self.crash()
        for runner in self.backend.running():
            runner.kill()
        await self.settle()
        for task in self._leaving:
            task.cancel()
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self.disk.close()

    # the server's life

    async def start_server(self) -> None:
        """A new server on what the one before it left."""
        backend: Backend = self.backend
        self.server = Server(
            store=await self.disk.store(self.clock),
            clock=self.clock,
            spawner=LocalSpawner(),
            backend=backend,
            paths=self._paths,
            settings=self._settings,
            addresses=Addresses("http://roost.test", "memory"),
            pepper=b"pepper" * 6,
            owner=OWNER,
            node=self._node,
            fetch=self.receivers,
            available_mb=lambda: self.available_mb,
        )
        await self.server.start(_no_api, [], [])
        self.backend.door = self.server.listener.newcomer

    async def crash(self) -> None:
        """kill -9 of the server: it writes nothing more, its connections break, the runners live on."""
        self.backend.crash_of_server()
        await self.server.store.close()
        for calling in self._calls:
            calling.lose_server()
        await self.server.stop_engines()
        await self.server.close()
        await self.settle()

    async def hand_over(self) -> None:
        """A planned restart, in the steps of `server.main`: what waits here or still arrives here goes to the next server; calls that runners
        have accepted from callers end here, and queued ones are taken up there.
        """
        old, in_flight = self.server, [calling for calling in self._calls if not calling.done]
        old.stop_accepting()
        onward = Onward(self.clock.now_ms)
        successor = Successor("http://roost.test", old.seal, onward)
        old.hand_over_calls(successor)
        self.backend.crash_of_server()
        await old.stop_engines()
        await self.start_server()
        onward.open(self.server.gateway)
        old.redial()
        self._leaving.append(asyncio.get_running_loop().create_task(_leave(old, successor, in_flight)))
        await self.settle()

    # apps

    async def app(self, *scripts: Script, name: str = "app", auth: str = "public", **spec: Any) -> Revision:
        """An app that sleeps: deployed, and nothing started yet. Its runners play the scripts, one after another."""
        return await self.deploy(*scripts, name=name, plan=DeployPlan("recreate", auth), **spec)

    async def deploy(self, *scripts: Script, name: str = "app", plan: DeployPlan | None = None, **spec: Any) -> Revision:
        """Deploy as authors do, and wait for the end: DEPLOYED or FAILED with a reason."""
        revision = await self.begin_deploy(*scripts, name=name, plan=plan, **spec)
        return await self.deployed(revision)

    async def begin_deploy(self, *scripts: Script, name: str = "app", plan: DeployPlan | None = None, **spec: Any) -> Revision:
        """Hand in a deploy. Its environment is there already: builds have tests of their own."""
        options: dict[str, Any] = {"keep_alive_ms": 60_000} | spec
        declared = AppSpec(name=name, class_name="App", python_version="3.11", **options)
        recipe, key = self.server.recipe_of(declared)
        now_ms = self.clock.now_ms()
        (self._paths.envs / key).mkdir(exist_ok=True)
        environments = self.server.store.environments
        await environments.put_pending(key, recipe, now_ms)
        if await environments.claim_build(key, now_ms):
            await environments.finish(key, True, "", (), 0, 0, now_ms)
        revision = Revision(
            id=ids.revision_id(),
            owner=OWNER,
            name=name,
            environment="main",
            state=RevisionState.BUILDING,
            reason="",
            spec=declared,
            bundle="0" * 64,
            working_dir="",
            runtime="0",
            env_key=key,
            openapi={},
            message="",
            annotations=(),
            created_by=OWNER,
            created_ms=now_ms,
            plan=plan or DeployPlan(auth="public"),
        )
        self.backend.plays(revision.id, *scripts)
        await self.server.store.revisions.create(revision)
        self.server.hints.give("build")
        return revision

    async def deployed(self, revision: Revision) -> Revision:
        """The revision once it is DEPLOYED or FAILED."""
        while True:
            now = await self.server.store.revisions.get(revision.id)
            assert now is not None
            if now.state not in _UNDER_WAY:
                await self.settle()
                return now
            await asyncio.sleep(0.01)

    async def move(self, revision: Revision, *, strategy: str = "rolling", auth: str | None = None) -> Release:
        """Ask for the alias to point to a revision that was deployed before, and wait for the end: DONE or FAILED with a reason."""
        return await self.released(await self.ask(ReleaseKind.MOVE, revision, strategy=strategy, auth=auth))

    async def renew(self, revision: Revision) -> Release:
        """Ask for fresh runners, and wait for the end."""
        return await self.released(await self.ask(ReleaseKind.RENEW, revision))

    async def ask(self, kind: ReleaseKind, revision: Revision, *, strategy: str = "rolling", auth: str | None = None) -> Release:
        release = Release(
            id=ids.revision_id(),
            owner=revision.owner,
            name=revision.name,
            environment=revision.environment,
            kind=kind,
            revision_id=revision.id,
            strategy=strategy,
            auth=auth,
            state=ReleaseState.UNDER_WAY,
            reason="asked for in a test",
            actor=OWNER,
            begun_ms=self.clock.now_ms(),
        )
        await self.server.store.releases.create(release)
        for topic in ("rollout", "fleet"):
            self.server.hints.give(topic)
        return release

    async def released(self, release: Release) -> Release:
        """The release once it has ended."""
        while True:
            now = await self.server.store.releases.get(release.id)
            assert now is not None
            if now.state is not ReleaseState.UNDER_WAY:
                await self.settle()
                return now
            await asyncio.sleep(0.01)

    async def delete(self, name: str = "app") -> None:
        await self.server.store.apps.delete(OWNER, name, self.clock.now_ms(), reason="deleted in a test", actor=OWNER)
        for topic in ("apps", "fleet"):
            self.server.hints.give(topic)

    async def alias(self, name: str = "app") -> Alias | None:
        return await self.server.store.apps.get(OWNER, name)

    # callers

    def call(
        self, path: str = f"/{OWNER}/app", *, method: str = "POST", body: bytes = b"{}", headers: dict[str, str] | None = None
    ) -> Calling | Dialling:
        """Send a request now; await the answer, or leave it with `hang_up`."""
        path, _, query = path.partition("?")
        fields = {"host": "roost.test", "content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
            "client": ("192.0.2.1", 40000),
            "server": ("roost.test", 80),
        }
        self._calls = [calling for calling in self._calls if not calling.done]
        calling: Calling | Dialling
        if self.over_http and method != "HEAD":
            target = f"{path}?{query}" if query else path
            calling = Dialling(self.server.http.newcomer(), [request_bytes(method, target, scope["headers"], body)], self.clock.now_ms)
        else:
            calling = Calling(self.server.gateway, scope, body, self.clock.now_ms)
        self._calls.append(calling)
        return calling

    async def calls(self, count: int, path: str = f"/{OWNER}/app") -> list[Calling | Dialling]:
        """So many requests at the same moment."""
        made = [self.call(path) for _ in range(count)]
        await self.settle()
        return made

    # the queue

    async def submit(self, path: str = f"/{OWNER}/app", *, body: bytes = b"{}", **headers: str) -> str:
        """Hand in a request and answer its id; `x_fal_no_retry="1"` is a header field."""
        reply = await self.call(f"/_queue{path}", body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
        assert reply.status == 200, reply.body
        return str(reply.json["request_id"])

    async def submits(self, count: int, path: str = f"/{OWNER}/app") -> list[str]:
        """So many, one after another."""
        return [await self.submit(path) for _ in range(count)]

    async def status(self, request_id: str, path: str = f"/{OWNER}/app") -> dict[str, Any]:
        """What a poll of its status says."""
        reply = await self.call(f"/_queue{path}/requests/{request_id}/status", method="GET", body=b"")
        return reply.json

    async def result(self, request_id: str, path: str = f"/{OWNER}/app") -> Reply:
        """What its result is now."""
        return await self.call(f"/_queue{path}/requests/{request_id}", method="GET", body=b"")

    async def finished(self, request_id: str) -> Reply:
        """Its result, once it is COMPLETED."""
        with self.server.queue.watch(request_id) as watch:
            while (await self.status(request_id))["status"] != "COMPLETED":
                await watch.changed(1.0)
        return await self.result(request_id)

    async def cancel(self, request_id: str, path: str = f"/{OWNER}/app") -> Reply:
        return await self.call(f"/_queue{path}/requests/{request_id}/cancel", method="PUT", body=b"")

    async def request(self, request_id: str) -> Request:
        """As the store has it."""
        found = await self.server.store.requests.get(request_id)
        assert found is not None
        return found

    async def attempts(self, request_id: str) -> Sequence[Attempt]:
        return await self.server.store.requests.attempts(request_id)

    def ran(self, request_id: str) -> list[Received]:
        """Each time that a runner began it."""
        return [call for call in self.backend.received if call.request_id == request_id and not call.bypass]

    # time

    async def advance(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.settle()

    def later(self, seconds: float, do: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(seconds, do)

    async def settle(self) -> None:
        """Until nothing more happens by itself: the clock moves on only then."""
        await asyncio.sleep(0.000_001)

    # what is there

    async def runners(self, name: str = "app") -> Sequence[Runner]:
        """The living ones as the store has them, oldest first."""
        return await self.server.store.runners.of_app(OWNER, name)

    async def states(self, name: str = "app") -> list[str]:
        return [runner.state.value for runner in await self.runners(name)]

    async def ended(self) -> Sequence[Runner]:
        return await self.server.store.runners.ended_since(0)

    def running(self, revision: Revision | None = None) -> list[FakeRunner]:
        return self.backend.running(revision.id if revision is not None else None)

    async def events(self, subject: str) -> Sequence[Event]:
        return await self.server.store.events.list(subject, limit=1000)

    def waiting(self, name: str = "app") -> int:
        line = self.server.board.peek(f"{OWNER}/{name}")
        return len(line.waiting) if line is not None else 0

    def in_flight(self) -> int:
        """Slots that the server believes to be taken, by both of its accounts."""
        board = sum(line.in_flight for line in self.server.board.lines())
        directory = sum(entry.in_flight for entry in self.server.directory.all())
        assert board >= directory, "a slot is taken on a runner for no caller"
        return board


async def _no_api(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(f"a test's call went to the API: {scope['path']}")


async def _leave(server: Server, successor: Successor, in_flight: Sequence[Calling | Dialling]) -> None:
    """The end of a server that has handed over: when the last of its calls has ended."""
    try:
        while not all(calling.done for calling in in_flight):  # noqa: ASYNC110  # a server asks as well, and so often
            await asyncio.sleep(0.1)
    finally:
        await server.close()
        await successor.close()
