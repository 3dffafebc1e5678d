"""The API with a real store in memory and nothing running behind it: tests play the engines by moving rows."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from roost.api.app import build_api
from roost.api.parts import About, ApiParts, Reached
from roost.builders.bundle import assemble
from roost.core import recipe
from roost.core.health import Last
from roost.core.model import Alias, Key, Revision, RevisionState, Runner, RunnerState, Scale
from roost.core.placement import DEFAULT_MACHINE_TYPES, Node, Unplaced
from roost.data.blobs import Blobs
from roost.data.logs import RunnerLogs
from roost.data.payloads import Payloads
from roost.data.signing import Signer
from roost.demand.board import Board
from roost.demand.queue import Queue, Retention
from roost.kit.gpus import Gpu, Inventory
from roost.kit.hints import Hints
from roost.kit.spawn import Enforcement
from roost.link.directory import Directory
from roost.store import MEMORY, Store
from roost.web.auth import KeyRing, hash_secret
from roost.wire.manifest import Manifest
from roost.wire.spec import AppSpec, EndpointSpec

PEPPER = b"p" * 32
NOW_MS = 1_700_000_000_000
VERSION = "0.1.0"
PICKLE = b"a pickled class"
URL = "http://roost.test:8700"
SECRET = "s"
ADMIN, READER, RUNNERS_KEY, STRANGER = "admin", "reader", "runners", "stranger"


FIGURES = {"calls": 3, "wait_p95_ms": 7, "runner_ms": 1_500}


class FakeClock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms


@dataclasses.dataclass(frozen=True)
class Pruned:
    removed: tuple[str, ...]
    freed_bytes: int


class NoBuilds:
    """Builds that are files somebody wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pruned: list[bool] = []

    def log_path(self, key: str) -> Path:
        return self.folder / f"{key}.log"

    async def prune(self, all: bool) -> Pruned:
        self.pruned.append(all)
        return Pruned(("k1",), 123)


@dataclasses.dataclass
class ShownCertificates:
    """TLS of a server, as the API sees it."""

    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    until_ms: int = NOW_MS + 90 * 86_400_000
    own: bool = True
    ca: str | None = "-----BEGIN CERTIFICATE-----"
    bundle: Path | None = Path("/var/lib/roost/state/tls/bundle.pem")
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def refusal(self) -> tuple[int, str, str]:
        return self.status, self.json["error_type"], self.json["detail"]


class Stream:
    """An NDJSON answer that is open. Reading waits for the server; `hang_up` is the caller's end."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self.status = 0
        self._rest: list[dict[str, Any]] = []
        self._over = False

    async def next(self) -> dict[str, Any] | None:
        """The next object; None at the end."""
        while not self._rest and not self._over:
            message = await asyncio.wait_for(self.outbox.get(), 5)
            if message["type"] == "http.response.start":
                self.status = message["status"]
                continue
            self._rest += [json.loads(line) for line in message["body"].split(b"\n") if line]
            self._over = not message.get("more_body", False)
        return self._rest.pop(0) if self._rest else None

    async def until(self, event: str, **values: Any) -> list[dict[str, Any]]:
        """The objects up to the first one like this, which is the last of them."""
        seen: list[dict[str, Any]] = []
        while (one := await self.next()) is not None:
            seen.append(one)
            if one.get("event") == event and all(one.get(name) == value for name, value in values.items()):
                return seen
        raise AssertionError(f"the stream ended without {event} {values}: {seen}")

    async def rest(self) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        while (one := await self.next()) is not None:
            seen.append(one)
        return seen

    async def hang_up(self) -> None:
        """Returns when the server has noticed and is done."""
        await self.inbox.put({"type": "http.disconnect"})
        assert self.task is not None
        await asyncio.wait_for(self.task, 5)


class World:
    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.clock = FakeClock()
        self.hints = Hints()
        self.board = Board()
        self.queue = Queue(store.requests, self.hints, self.clock.now_ms, Retention())
        self.directory = Directory()
        self.logs_folder = folder / "logs"
        self.logs_folder.mkdir()
        self.builds = NoBuilds(folder)
        self.blobs = Blobs(folder / "blobs")
        self.killed: list[str] = []
        self.health: dict[str, Last] = {}
        self.restarts = 0
        self.asked_to_simulate: tuple[Any, ...] = ()
        self.simulated: dict[str, Any] = {"since_ms": 0, "starts_known": 1, "recorded": FIGURES, "took_ms": 1}
        self.enforcement: Enforcement | None = Enforcement("by control groups (version 2)", "by control groups (version 2)")
        self.unplaced: dict[str, Unplaced] = {}
        self.available_mb = 4_000
        self.closing = asyncio.Event()
        self.ring = KeyRing(PEPPER)
        self.streams: list[Stream] = []
        self.certificates = ShownCertificates()
        self.asgi = build_api(
            ApiParts(
                store=store,
                clock=self.clock,
                hints=self.hints,
                keys=self.ring,
                reload_keys=self.reload_keys,
                hash_secret=lambda secret: hash_secret(PEPPER, secret),
                directory=self.directory,
                board=self.board,
                queue=self.queue,
                payloads=Payloads(folder / "payloads"),
                signer=Signer(folder / "webhook-keys", lambda: self.clock.ms / 1000),
                logs=RunnerLogs(self.logs_folder),
                blobs=self.blobs,
                builds=self.builds,
                kill_runner=self._kill,
                health=self.health.get,
                assemble=lambda manifest: assemble(folder / "bundles", manifest, self.blobs.path),
                recipe_of=recipe_of,
                has_runtime=lambda version: version == VERSION,
                simulate=self._simulate,
                restart=self._restart,
                reached=Reached(URL, URL, tls=self.certificates),
                base_url=lambda scope: URL,
                closing=self.closing,
                about=About(
                    version=VERSION,
                    instance="i-1",
                    started_ms=NOW_MS - 5_000,
                    state=folder,
                    node=Node(2, 8192),
                    machine_types=DEFAULT_MACHINE_TYPES,
                    pythons=("3.11",),
                    defaults=Scale(),
                    gpus=Inventory((Gpu(0, "NVIDIA L40", "GPU-1", 46_068),), "NVML"),
                    free_memory_floor_mb=256,
                    # Tests hint; this is how soon a stream looks when only a file has changed.
                    poll_s=0.002,
                    webhook_ip_ranges=("203.0.113.7/32",),
                ),
                enforcement=self._enforcement,
                unplaced=lambda: self.unplaced,
                available_mb=lambda: self.available_mb,
            )
        )

    async def _enforcement(self) -> Enforcement:
        if self.enforcement is None:
            raise OSError("the supervisor does not know 'enforcement'")
        return self.enforcement

    async def _kill(self, runner_id: str) -> None:
        self.killed.append(runner_id)

    async def _simulate(self, *asked: Any) -> dict[str, Any]:
        self.asked_to_simulate = asked
        return self.simulated | {"replayed": [FIGURES | {"wait_p95_ms": number} for number in range(len(asked[-1]))]}

    async def _restart(self) -> None:
        self.restarts += 1

    async def reload_keys(self) -> None:
        self.ring.replace(await self.store.keys.valid())

    async def make_keys(self) -> None:
        for name, owner, scope in (
            (ADMIN, "ada", "ADMIN"),
            (READER, "ada", "API"),
            (RUNNERS_KEY, "ada", "RUNNER"),
            (STRANGER, "bob", "ADMIN"),
        ):
            runner_id = "r0" if scope == "RUNNER" else None
            await self.store.keys.create(Key(name, owner, scope, name, hash_secret(PEPPER, SECRET), NOW_MS, None, runner_id))
        await self.reload_keys()

    # calling

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = ADMIN,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        given = {"authorization": f"Key {key}:{SECRET}"} if key is not None else {}
        transport = httpx.ASGITransport(app=self.asgi)  # type: ignore[arg-type]  # our narrower ASGI types
        async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
            response = await http.request(method, path, json=body, content=content, headers=given | (headers or {}))
        return Answer(response.status_code, dict(response.headers), response.content)

    async def lines(self, path: str) -> list[dict[str, Any]]:
        """A stream that ends by itself."""
        answer = await self.call("GET", path)
        assert answer.status == 200, answer.body
        return [json.loads(line) for line in answer.body.splitlines()]

    def stream(self, method: str, path: str, body: Any = None, *, key: str = ADMIN) -> Stream:
        """A stream that the test reads while it is open."""
        stream = Stream()
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"authorization", f"Key {key}:{SECRET}".encode()), (b"host", b"roost.test:8700")],
        }
        stream.inbox.put_nowait({"type": "http.request", "body": b"" if body is None else json.dumps(body).encode(), "more_body": False})
        stream.task = asyncio.get_running_loop().create_task(self.asgi(scope, stream.inbox.get, stream.outbox.put))  # type: ignore[arg-type]
        self.streams.append(stream)
        return stream

    async def close(self) -> None:
        for stream in self.streams:
            if stream.task is not None and not stream.task.done():
                stream.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await stream.task
        await self.store.close()

    # what authors send

    async def upload(self, content: bytes = PICKLE) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        answer = await self.call("PUT", f"/v1/blobs/{sha256}", content=content)
        assert answer.status == 204, answer.body
        return sha256

    async def manifest(self, *, runtime: str = VERSION, pickle: bytes = PICKLE, **spec: Any) -> dict[str, Any]:
        sha256 = await self.upload(pickle)
        return Manifest(spec_of(**spec), sha256, runtime, {"openapi": "3.1.0"}).to_json()

    # playing the engines

    async def revision(self, id: str) -> Revision:
        found = await self.store.revisions.get(id)
        assert found is not None
        return found

    async def built(self, revision_id: str) -> None:
        assert await self.store.revisions.set_state(
            revision_id, {RevisionState.BUILDING}, RevisionState.STARTING, "the environment is ready", self.clock.ms
        )
        self.hints.give(f"revision:{revision_id}")

    async def failed(self, revision_id: str, reason: str) -> None:
        states = {RevisionState.BUILDING, RevisionState.STARTING}
        assert await self.store.revisions.set_state(revision_id, states, RevisionState.FAILED, reason, self.clock.ms)
        self.hints.give(f"revision:{revision_id}")

    async def started(self, revision_id: str, runner_id: str, state: RunnerState = RunnerState.PENDING) -> None:
        revision = await self.revision(revision_id)
        await self.store.runners.create(runner_of(revision, runner_id, state, self.clock.ms))
        self.hints.give("runners")

    async def moved(self, runner_id: str, state: RunnerState, *, ready_ms: int | None = None) -> None:
        changes = {"ready_ms": ready_ms} if ready_ms is not None else {}
        assert await self.store.runners.move(runner_id, RunnerState, state, "", self.clock.ms, actor="tests", **changes)
        self.hints.give("runners")

    async def switched(self, revision_id: str) -> None:
        """The alias is pointed and the revision DEPLOYED, as the rollout does it."""
        revision, now_ms = await self.revision(revision_id), self.clock.ms
        lease_ms = now_ms + revision.plan.lease_ms if revision.plan.ephemeral else None
        await self.store.apps.point(alias_of(revision, now_ms, lease_ms, revision.plan.auth or "private"))
        await self.store.revisions.set_state(revision_id, {RevisionState.STARTING}, RevisionState.DEPLOYED, "ready", now_ms)
        for topic in ("apps", f"revision:{revision_id}"):
            self.hints.give(topic)

    async def app(
        self, name: str = "hello", owner: str = "ada", *, revision_id: str = "rev-1", ephemeral: bool = False, **spec: Any
    ) -> Alias:
        """An app that is deployed already."""
        revision = revision_of(name, owner, revision_id, **spec)
        await self.store.revisions.create(revision)
        return await self.store.apps.point(alias_of(revision, NOW_MS, NOW_MS + 10_000 if ephemeral else None, "private"))

    async def runner(self, runner_id: str, state: RunnerState = RunnerState.IDLE, revision_id: str = "rev-1") -> Runner:
        runner = runner_of(await self.revision(revision_id), runner_id, state, self.clock.ms)
        await self.store.runners.create(runner)
        return runner

    def prints(self, runner_id: str, *messages: str, at_ms: int = NOW_MS, stream: str = "out") -> None:
        with (self.logs_folder / f"{runner_id}.log").open("ab") as file:
            for message in messages:
                file.write(b"\x1e" + json.dumps({"t": at_ms, "s": stream, "l": message}).encode() + b"\n")
        self.hints.give("logs")


@contextlib.asynccontextmanager
async def world_in(folder: Path) -> AsyncIterator[World]:
    store = await Store.open(MEMORY, FakeClock())
    world = World(store, folder)
    await world.make_keys()
    try:
        yield world
    finally:
        await world.close()


def recipe_of(spec: AppSpec) -> tuple[Any, str]:
    made = recipe.recipe(spec)
    return made, recipe.key(made, "linux", recipe.Index())


def spec_of(name: str = "hello", **fields: Any) -> AppSpec:
    endpoints = (EndpointSpec("/", "run"), EndpointSpec("/other", "other"))
    return AppSpec(**{"name": name, "class_name": "Hello", "python_version": "3.11", "endpoints": endpoints} | fields)


def revision_of(name: str, owner: str, id: str, **spec: Any) -> Revision:
    return Revision(
        id=id,
        owner=owner,
        name=name,
        environment="main",
        state=RevisionState.DEPLOYED,
        reason="ready",
        spec=spec_of(name, **spec),
        bundle="b",
        working_dir="",
        runtime=VERSION,
        env_key="e" * 32,
        openapi={"openapi": "3.1.0"},
        message="",
        annotations=(),
        created_by="key:admin",
        created_ms=NOW_MS,
    )


def alias_of(revision: Revision, now_ms: int, lease_until_ms: int | None, auth: str) -> Alias:
    return Alias(
        revision.owner, revision.name, "main", revision.id, auth, Scale(), lease_until_ms is not None, lease_until_ms, now_ms, now_ms
    )


def runner_of(revision: Revision, id: str, state: RunnerState, now_ms: int) -> Runner:
    return Runner(
        id=id,
        owner=revision.owner,
        name=revision.name,
        revision_id=revision.id,
        state=state,
        pid=4711,
        machine_type="S",
        token_hash="",
        served=0,
        created_ms=now_ms,
        ready_ms=None,
        idle_since_ms=None,
        ended_ms=None,
        reason="",
    )
