"""One server put together: which object gets which. Nothing is decided here."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import platform
import random
import socket
import sysconfig
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from roost.backends.base import Backend
from roost.backends.process import Places, ProcessBackend
from roost.backends.templates import TemplateBackend
from roost.builders.base import BuildSettings
from roost.builders.bundle import assemble, sweep_bundles
from roost.builders.runtime import ensure_runtime, find_runtime, sweep_runtimes
from roost.builders.venv import VenvBuilder
from roost.core import admission, placement, recipe, stages, trial
from roost.core.model import Alias, Recipe, Revision, RunnerState, Scale
from roost.core.requests import NewRequest, OtherBody, SameKey, Submitted
from roost.data.blobs import Blobs
from roost.data.logs import RunnerLogs
from roost.data.payloads import Payloads
from roost.data.request_logs import RequestLogs
from roost.data.signing import Signer
from roost.data.traffic import Traffic
from roost.demand.births import Births
from roost.demand.board import Board
from roost.demand.queue import Queue
from roost.demand.queue import Retention as ResultRetention
from roost.engines.build import BuildEngine
from roost.engines.dispatch.attempt import Ties
from roost.engines.dispatch.engine import DispatchEngine
from roost.engines.dispatch.log_ends import LogEnds
from roost.engines.fleet.engine import FleetEngine, Links
from roost.engines.fleet.starting import Ground
from roost.engines.health import HealthEngine, Line
from roost.engines.prepare import PrepareEngine
from roost.engines.rollout import RolloutEngine
from roost.engines.templates import TemplatesEngine
from roost.engines.traffic import TrafficEngine
from roost.engines.upkeep import Retention, UpkeepEngine
from roost.engines.webhooks.courier import Courier, Fetch
from roost.engines.webhooks.engine import WebhooksEngine
from roost.front.tls import Tls
from roost.gateway.allowance import Allowance
from roost.gateway.app import Gateway
from roost.gateway.forward import Successor
from roost.gateway.queued import Limits as QueueLimits
from roost.gateway.queued import QueueCalls
from roost.gateway.request_status import Statuses
from roost.gateway.resolve import Routes
from roost.gateway.short import Shortcut
from roost.gateway.short_status import StatusShortcut
from roost.gateway.short_submit import SubmitShortcut
from roost.gateway.slots import Slots
from roost.gateway.specs import Specs
from roost.gateway.submit import Submits
from roost.gateway.sync import DirectCalls, Runners
from roost.kit import linux, log, memory
from roost.kit.clock import Clock
from roost.kit.fetch import AllowList, Fetcher, judge_url
from roost.kit.gpus import Inventory
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.kit.spawn import Spawner
from roost.link.directory import Directory
from roost.link.listener import Admitted, Listener
from roost.server.machine import gpus_for_runners, this_node
from roost.server.paths import Paths
from roost.server.runner_environment import Surroundings, own_environment, public_environment
from roost.server.settings import Settings
from roost.server.simulations import Simulations
from roost.store import Store
from roost.web.answers import Asgi
from roost.web.auth import KeyRing, hash_secret
from roost.web.browsers import Own
from roost.web.forwarded import Trusted
from roost.web.http import HttpServer
from roost.web.passed_on import Seal
from roost.web.shortcut import Shortcuts
from roost.wire.errors import RoostError
from roost.wire.launch import Hello
from roost.wire.manifest import Manifest
from roost.wire.spec import AppSpec


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this server is reached."""

    public: str
    """URL that runners' own calls use."""
    link: str
    """Where runners dial home."""
    https: str = ""
    """URL of this server with TLS; "" if it speaks none."""
    connect: str = ""
    """host:port of the CONNECT door; "" if there is none."""
    http: str = ""
    """URL of the port itself, without TLS; "": `public` is that."""
    bundle: str = ""
    """File of the certificates that runners trust; "" if those of the machine do."""


def defaults_of(settings: Settings) -> Scale:
    """What applies to an app that says nothing itself."""
    return Scale(
        keep_alive_ms=int(settings.keep_alive_s * 1000),
        max_concurrency=settings.max_concurrency,
        request_timeout_ms=int(settings.request_timeout_s * 1000),
        startup_timeout_ms=int(settings.startup_timeout_s * 1000),
    )


_IDLE_NOTICED_S = 0.1
"""How soon the fleet hears that a runner fell idle. Not at once: one caller alone would make it read the store with every call."""


class Server:
    """All parts of one server process, from the open store to the listening gateway."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        spawner: Spawner,
        backend: Backend | None,
        paths: Paths,
        settings: Settings,
        addresses: Addresses,
        pepper: bytes,
        owner: str,
        node: placement.Node | None = None,
        fetch: Fetch | None = None,
        tls: Tls | None = None,
        gpus: Inventory | None = None,
        available_mb: Callable[[], int | None] = memory.available_mb,
    ) -> None:
        """`fetch`: what goes to URLs that callers gave; None: over the network."""
        self.store = store
        self.clock = clock
        self.paths = paths
        self.settings = settings
        self.addresses = addresses
        self.tls = tls
        self.owner = owner
        self.pepper = pepper
        self.hints = Hints()
        self.closing = asyncio.Event()
        self.keys = KeyRing(pepper)
        self.seal = Seal(pepper)
        self._webhook_allow = AllowList(settings.webhook_allow)
        self.directory = Directory()
        self.board = Board()
        self.blobs = Blobs(paths.blobs)
        self.logs = RunnerLogs(paths.runner_logs)
        self.gpus = gpus or gpus_for_runners(settings.gpus)
        self.node = node or this_node(self.gpus)
        self.available_mb = available_mb
        self.machine_types = {**placement.DEFAULT_MACHINE_TYPES, **settings.machine_types}
        self.overcommit = placement.Overcommit(settings.cpu_overcommit, settings.memory_overcommit)
        self.defaults = defaults_of(settings)
        self.routes = Routes(self._aliases)
        self.slots = Slots(self.directory, self.board, self.routes, _limits(settings), clock.now_ms)
        self.queue = Queue(store.requests, self.hints, clock.now_ms, _result_retention(settings))
        self.payloads = Payloads(paths.payloads)
        self.signer = Signer(paths.webhook_keys, lambda: clock.now_ms() / 1000)
        self.specs = Specs(store.revisions.get)
        self.submits = Submits(self.queue, self.payloads, self.specs.of, clock.now_ms, self._judge_url)
        self.listener = Listener(self.directory, self._admit, self._reported, clock.now_ms)
        self.births = Births(time.monotonic)
        self.templates: TemplatesEngine | None = None
        self.backend = backend or self._processes(spawner)
        self.builder = VenvBuilder(spawner, paths.envs, paths.builds, _build_settings(settings))
        self.builds = BuildEngine(store.environments, self.builder, clock)
        self.prepare = PrepareEngine(store, clock, self.hints, self.builds.ensure, self.recipe_of)
        retention = Retention(logs_ms=int(settings.runner_log_days * 86_400_000))
        courier = Courier(store.requests, self.payloads, fetch or Fetcher(settings.webhook_allow), self.signer.sign, clock.now_ms)
        self.webhooks = WebhooksEngine(store.webhooks, self.hints, courier, settings.webhook_rate)
        self.upkeep = UpkeepEngine(store, clock, self.hints, self.logs, self.payloads, self.queue.reconcile, retention)
        self.listener.on_connect = self.births.connected
        self.listener.on_ready = self._ready
        self.fleet = FleetEngine(
            store,
            clock,
            self.hints,
            self.backend,
            Links(self.listener.tell, self.listener.ping),
            self.directory,
            self.board,
            self._ground(),
        )
        self.health = HealthEngine(
            store, clock, self.hints, self.directory, Line(self.listener.ask, self.listener.tell), self.defaults, random.random
        )
        self.fleet.on_wish, self.fleet.unready, self.health.on_fate = self.health.on_wish, self.health.unready, self.fleet.on_fate
        self.rollout = RolloutEngine(store, clock, self.hints, self.defaults, self.fleet.no_room, self.fleet.tally, _trial_budget(settings))
        self.backend.subscribe(self.fleet.on_exit)
        self.board.on_demand = lambda application: self.hints.give("fleet")
        self.directory.on_change = lambda runner_id: self.hints.give("fleet")
        self.directory.on_idle = lambda runner_id: self.hints.give_within("fleet", _IDLE_NOTICED_S)
        self.calls = DirectCalls(
            self.slots,
            Runners(self.fleet.on_fate, self.fleet.on_timeout, self.fleet.why_gone, self.births.of),
            clock.now_ms,
            max_body=settings.max_body_bytes,
            folder=str(paths.spool),
            allowance=Allowance(settings.max_concurrent_per_key),
        )
        self.dispatch = DispatchEngine(store, self.hints, self.directory, self._ties(), self.fleet.lives)
        self.traffic = Traffic(paths.traffic)
        self.recording = TrafficEngine(self.traffic, clock, self.hints, int(settings.traffic_days * 86_400_000))
        self.slots.on_served = self.traffic.note
        self.simulations = Simulations(spawner, paths.traffic, paths.spool, self.recording.round)
        self.submits.at_once = self._at_once
        self.slots.queue, self.slots.grant = self.queue, self.dispatch.granted
        self.board.queued = self.queue.oldest
        self.queue.on_ready, self.queue.on_asked = self.slots.pump, self.dispatch.on_asked
        self.listener.on_kept = self.dispatch.on_kept
        self.listener.on_calls, self.fleet.on_end = self.dispatch.on_calls, self.dispatch.on_end
        self.fleet.on_death = lambda runner_id, how: self.logs.add(runner_id, how, clock.now_ms())
        self._views = [
            Loop("routes", self.hints, ("apps",), self._refresh_routes),
            Loop("keys", self.hints, ("keys",), self._refresh_keys),
        ]
        if self.tls is not None:
            self._views.append(Loop("certificates", self.hints, (), self._look_at_certificates))

    # life

    async def start(self, api: Asgi, listening: list[socket.socket], links: list[socket.socket]) -> None:
        """Take over from whoever was before: its runners, its half-done work, its sockets."""
        await asyncio.get_running_loop().run_in_executor(None, self._tidy)
        await self.builds.reset()
        await self.reload_keys()
        await self.routes.refresh()
        await self.payloads.sweep(await self.store.requests.payload_files())
        await self.queue.load()
        await self.fleet.adopt()
        self.dispatch.adopt()
        others = {"api": api, "rest": api}
        own = self._own_names(listening)
        self.gateway = Gateway(self.routes, self.keys, self.calls, others, self.addresses.public, self.seal, own)
        others["queue"] = self.queue_calls = self._queue_calls(self.gateway)
        self.shortcut = Shortcut(self.routes, self.keys, self.slots, self.calls, self.gateway.may_call)
        polls = StatusShortcut(self.queue_calls, self.keys)
        submits = SubmitShortcut(self.queue_calls, self.submits, self.routes, self.keys, self.gateway.may_call, self.specs.known)
        self.shortcuts = Shortcuts(self.shortcut, submits, polls)
        context = self.tls.context if self.tls is not None else None
        self.http = HttpServer(
            self.gateway, self.shortcuts, context, Trusted(self.settings.trusted_proxies), self.settings.max_connections_per_address
        )
        for loop in (
            *self._views,
            self.dispatch.loop,
            self.fleet.loop,
            self.prepare.loop,
            self.rollout.loop,
            self.webhooks.loop,
            self.upkeep.leases,
            self.upkeep.log_space,
            self.upkeep.requests,
            self.upkeep.retention,
            self.recording.loop,
        ):
            loop.start()
        if self.templates is not None:
            self.templates.loop.start()
        for sock in links:
            await self.listener.listen(sock)
        await self.http.listen(listening)

    def _own_names(self, listening: list[socket.socket]) -> Own:
        """By which browsers may dial the control plane. On this machine alone nobody has reason to use a name that is not here."""
        urls = (self.addresses.http, self.addresses.https)
        names = (*(urlsplit(url).hostname or "" for url in urls), socket.gethostname(), *self.settings.tls_names)
        local = [sock.family == socket.AF_UNIX or ipaddress.ip_address(sock.getsockname()[0]).is_loopback for sock in listening]
        return Own(names, self.addresses.public, strict=bool(local) and all(local))

    def stop_accepting(self) -> None:
        self.http.stop_accepting()
        self.listener.stop_accepting()
        self.closing.set()

    async def stop_engines(self) -> None:
        """Decide nothing any more, then let go of the store."""
        for part in (self.dispatch, self.health, self.fleet, self.prepare, self.upkeep, self.webhooks):
            await part.stop()
        if self.templates is not None:
            await self.templates.stop()
        for loop in (self.rollout.loop, *self._views):
            await loop.stop()
        await self.builds.stop()
        await self.recording.stop()
        await self.queue.close()
        await self.store.close()

    def hand_over_calls(self, successor: Successor) -> None:
        """What waits here, and what still arrives on open connections, goes to the new server."""
        self.gateway.hand_over(successor)
        self.queue_calls.hand_over(successor)

    def redial(self) -> None:
        """Runners dial the new server too; the connections to this one stay for the calls on them."""
        self.listener.tell_all({"op": "redial"})

    def say_last(self) -> None:
        """No server follows this one: runners need not wait for one to take what they keep."""
        self.listener.tell_all({"op": "shutdown"})

    def refuse_waiting(self) -> None:
        self.calls.closing = True
        self.queue_calls.end_streams()
        self.slots.refuse_all(RoostError("server_stopping", "the server is shutting down", hint="Try again when it is back."))

    async def close(self) -> None:
        await self.http.close()
        self.listener.close()
        # Calls that ended after the engines did, during a planned restart.
        await self.recording.stop()

    # the durable queue

    def _ties(self) -> Ties:
        return Ties(
            queue=self.queue,
            payloads=self.payloads,
            directory=self.directory,
            timeouts=self.calls.timeouts,
            now_ms=self.clock.now_ms,
            give_back=lambda application, entry, busy, times: self.slots.give_back(application, entry, busy=busy, queued=True, times=times),
            fate=self.fleet.on_fate,
            timed_out=self.fleet.on_timeout,
            request_timeout_ms=self._request_timeout_ms,
            log_size=LogEnds(self.directory, self.logs.size).of,
            dice=random.random,
            input=self.store.requests.input,
        )

    def _judge_url(self, url: str) -> str:
        return judge_url(url, self._webhook_allow)

    def _at_once(self, new: NewRequest) -> Awaitable[Submitted | SameKey | OtherBody] | None:
        request = new.request
        if self.dispatch.stopped or (request.deadline_ms is not None and request.deadline_ms <= request.created_ms):
            return None
        entry = self.slots.take_for_newcomer(request.application, request.hint)
        return self.dispatch.at_once(new, entry) if entry is not None else None

    def _request_timeout_ms(self, application: str) -> int:
        route = self.routes.of_application(application)
        return route.request_timeout_ms if route is not None else self.defaults.request_timeout_ms

    def _queue_calls(self, gateway: Gateway) -> QueueCalls:
        async def spec_of_app(application: str) -> AppSpec | None:
            route = self.routes.of_application(application)
            return await self.specs.of(route.revision_id) if route is not None else None

        async def hides_logs(application: str) -> bool:
            spec = await spec_of_app(application)
            # Of an app that was deleted nobody knows any more what it would show.
            return spec is None or bool(spec.private_logs)

        return QueueCalls(
            self.queue,
            self.store.requests,
            self.submits,
            Statuses(self.queue, self.store.requests.attempts, RequestLogs(self.logs), hides_logs),
            self.payloads,
            self.routes,
            self.keys,
            gateway.may_call,
            QueueLimits(self.settings.max_body_bytes, str(self.paths.spool), self.addresses.public),
        )

    # what parts ask of others

    def recipe_of(self, spec: AppSpec) -> tuple[Recipe, str]:
        made = recipe.recipe(spec)
        settings = self.settings
        index = recipe.Index(settings.index_url, settings.extra_index_urls, settings.find_links)
        return made, recipe.key(made, f"{sysconfig.get_platform()}-{platform.libc_ver()[1]}", index)

    def assemble(self, manifest: Manifest) -> str:
        return assemble(self.paths.bundles, manifest, self.blobs.path)

    def has_runtime(self, version: str) -> bool:
        try:
            find_runtime(self.paths.runtimes, version)
        except RoostError:
            return False
        return True

    async def reload_keys(self) -> None:
        self.keys.replace(await self.store.keys.valid())

    def _tidy(self) -> None:
        ensure_runtime(self.paths.runtimes)
        sweep_runtimes(self.paths.runtimes)
        sweep_bundles(self.paths.bundles)
        self.blobs.sweep()

    async def _aliases(self) -> list[Alias]:
        return list(await self.store.apps.list())

    async def _refresh_routes(self) -> float:
        await self.routes.refresh()
        for line in self.board.lines():
            if line.waiting and self.routes.of_application(line.application) is None:
                self.slots.judge(line.application)
            elif line.waiting:
                # Every wake-up is an event; one that was lost must cost seconds, not the caller's patience.
                self.slots.pump(line.application)
        for application in self.queue.applications():
            self.slots.pump(application)
        return 5.0

    async def _refresh_keys(self) -> float:
        await self.reload_keys()
        return 5.0

    async def _look_at_certificates(self) -> float:
        assert self.tls is not None, "there is a loop for it"
        return await asyncio.get_running_loop().run_in_executor(None, self.tls.look)

    async def _admit(self, hello: Hello) -> Admitted | str:
        runner = await self.store.runners.get(hello.runner_id)
        if runner is None or runner.state is RunnerState.TERMINATED:
            return "this server knows no such living runner"
        if not hmac.compare_digest(runner.token_hash, hash_secret(self.pepper, hello.token)):
            return "the launch token is wrong"
        return Admitted(runner.id, runner.revision_id, hello.slots, hello.held)

    def _processes(self, spawner: Spawner) -> Backend:
        """Runners as processes of this machine, forked where there is a template."""
        paths = self.paths
        runtime_of = lambda version: find_runtime(paths.runtimes, version)  # noqa: E731
        places = Places(
            envs=paths.envs,
            bundles=paths.bundles,
            runner_logs=paths.runner_logs,
            runtime_of=runtime_of,
            links=(self.addresses.link,),
            gpus=tuple(str(gpu.index) for gpu in self.gpus.gpus),
            caps_memory=self.settings.memory_limits != "off",
        )
        fresh = ProcessBackend(spawner, places)
        backend = TemplateBackend(spawner, fresh, self.births, self._public_environment_of, self.settings.template_import_limit_s)
        self.listener.admit_template = lambda hello: backend.admit(hello.runner_id, hello.token)
        self.listener.on_template = backend.connected
        self.templates = TemplatesEngine(self.store, self.clock, self.hints, backend, self.settings.template_memory_mb, linux.pss_mb)
        return backend

    def _ready(self, runner_id: str, revision_id: str) -> None:
        birth = self.births.ready(runner_id)
        if birth is not None:
            start = stages.cold_start(birth)
            log.info("runner.stages", runner=runner_id, **dict(start.stages), why_spawned=start.why_spawned)
            self.fleet.on_ready(runner_id, start)
            if self.templates is not None:
                self.templates.born(revision_id, birth)

    def _reported(self, runner_id: str, body: dict[str, Any]) -> None:
        self.fleet.on_report(runner_id, body)
        self.health.on_report(runner_id, body)

    def _ground(self) -> Ground:
        return Ground(
            node=self.node,
            machine_types=self.machine_types,
            overcommit=self.overcommit,
            free_memory=self._free_memory,
            defaults=self.defaults,
            grace_ms=int(self.settings.termination_grace_s * 1000),
            hash_secret=lambda secret: hash_secret(self.pepper, secret),
            environment_of=self._environment_of,
        )

    def _free_memory(self) -> placement.FreeMemory | None:
        available_mb = self.available_mb()
        return placement.FreeMemory(available_mb, self.settings.free_memory_floor_mb) if available_mb is not None else None

    def _environment_of(self, revision: Revision, runner_id: str, key: str) -> dict[str, str]:
        """What one runner's code may read: what is its own, and all that is not."""
        return self._public_environment_of(revision) | own_environment(runner_id, key)

    def _public_environment_of(self, revision: Revision) -> dict[str, str]:
        """What all runners of a revision and their template may read."""
        told = self.addresses
        caches = str(self.paths.data / ".cache" / "huggingface")
        around = Surroundings(told.public, told.https, told.bundle, self.settings.region, caches, os.environ)
        return public_environment(revision, around)


def _limits(settings: Settings) -> admission.Limits:
    return admission.Limits(settings.max_waiting, settings.failed_starts, int(settings.no_room_s * 1000))


def _trial_budget(settings: Settings) -> trial.Budget:
    return trial.Budget(window_ms=int(settings.trial_s * 1000), errors=settings.trial_errors)


def _result_retention(settings: Settings) -> ResultRetention:
    return ResultRetention(
        int(settings.request_days * 86_400_000), int(settings.request_hours_without_io * 3_600_000), int(settings.webhook_hours * 3_600_000)
    )


def _build_settings(settings: Settings) -> BuildSettings:
    return BuildSettings(
        index_url=settings.index_url,
        extra_index_urls=settings.extra_index_urls,
        find_links=settings.find_links,
        python_downloads=settings.python_downloads,
        time_limit_ms=int(settings.build_time_limit_s * 1000),
    )
