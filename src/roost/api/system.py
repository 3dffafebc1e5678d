"""The server itself: is it there, who am I to it, is it in order, and please restart."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import Any, Final

from roost.api.answer import Answer, Json, Lines, Streamed
from roost.api.checks import Check, certificate_check
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import May, Route
from roost.core.placement import Fit, MachineType, could_ever_fit
from roost.kit.gpus import GONE, Gpu
from roost.store import StoreError

LITTLE_SPACE: Final = 2 * 1024**3


class SystemCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._directory = parts.directory
        self._restart = parts.restart
        self._about = parts.about
        self._reached = parts.reached
        self._enforcement = parts.enforcement
        self._available_mb = parts.available_mb

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/health", self.health, May.ANYBODY),
            Route("GET", "/v1/whoami", self.whoami, May.READ),
            Route("GET", "/v1/doctor", self.doctor),
            Route("POST", "/v1/restart", self.restart),
        )

    async def health(self, request: Request) -> Answer:
        about = self._about
        uptime_s = (self._clock.now_ms() - about.started_ms) / 1000
        return Json({"status": "ok", "version": about.version, "uptime_s": uptime_s, "instance": about.instance})

    async def whoami(self, request: Request) -> Answer:
        principal, about = request.principal, self._about
        return Json(
            {
                "owner": principal.owner,
                "key_id": principal.key_id,
                "scope": principal.scope,
                "version": about.version,
                "python": list(about.pythons),
                "machine_types": {name: self._machine_type(kind) for name, kind in about.machine_types.items()},
            }
        )

    def _machine_type(self, kind: MachineType) -> dict[str, Any]:
        fits = isinstance(could_ever_fit((kind,), None, self._about.node, self._about.overcommit), Fit)
        return {"cpus": kind.cpus, "memory_mb": kind.memory_mb, "gpus": kind.gpus, "gpu_model": kind.gpu_model, "fits": fits}

    async def doctor(self, request: Request) -> Answer:
        checks = [
            self._version(),
            await self._database(),
            self._disk(),
            self._machine(),
            self._gpus(),
            *await self._limits(),
            self._memory(),
            self._pythons(),
            await self._runners(),
            self._certificate(),
        ]
        return Json({"checks": [asdict(check) for check in checks]})

    def _version(self) -> Check:
        return Check("server version", True, f"{self._about.version} (instance {self._about.instance})")

    async def _database(self) -> Check:
        try:
            await self._store.meta.get("owner")
        except StoreError as error:
            return Check("database", False, error.detail, error.hint or "The server's own log says more.")
        stats = self._store.stats()
        return Check("database", True, f"{stats.writes} writes in {stats.commits} commits since the server started")

    def _disk(self) -> Check:
        usage = shutil.disk_usage(self._about.state)
        detail = f"{usage.free / 1024**3:.1f} of {usage.total / 1024**3:.1f} GB free at {self._about.state}"
        return Check(
            "disk", usage.free >= LITTLE_SPACE, detail, "Free some space: `roost builds prune` removes environments that no app needs."
        )

    def _machine(self) -> Check:
        node = self._about.node
        return Check(
            "machine", True, f"{node.cpus:g} CPUs, {node.memory_mb} MB of memory, GPUs: {', '.join(filter(None, node.gpus)) or 'none'}"
        )

    def _gpus(self) -> Check:
        found = self._about.gpus
        gone = any(gpu.index == GONE for gpu in found.gpus)
        hint = "Its driver's log may say why (`dmesg`). It is forgotten when the server starts while no runner has a GPU."
        return Check("gpus", not gone, f"{', '.join(map(_gpu, found.gpus)) or 'none'} (from: {found.source})", hint)

    async def _limits(self) -> list[Check]:
        try:
            how = await self._enforcement()
        except OSError as error:
            return [
                Check("limits", False, f"nobody can say how they are kept: {error}", "Stop `roost up` and start it again: it is older.")
            ]
        why = f" ({how.detail})" if how.detail else ""
        return [Check("memory limits", True, f"{how.memory}{why}"), Check("cpu shares", True, how.cpu)]

    def _memory(self) -> Check:
        left_mb, floor_mb = self._available_mb(), self._about.free_memory_floor_mb
        detail = f"{left_mb} MB left" if left_mb is not None else "nobody can say how much is left"
        hint = "No runner is started until some is free: end what takes it, or lower free_memory_floor_mb."
        return Check("free memory", left_mb is None or left_mb >= floor_mb, f"{detail}; runners are started above {floor_mb} MB", hint)

    def _pythons(self) -> Check:
        found = self._about.pythons
        hint = "Install one, for example with `uv python install 3.12`, or set python_downloads to automatic."
        return Check("python for apps", bool(found), ", ".join(found) or "none found", hint)

    async def _runners(self) -> Check:
        living = await self._store.runners.living()
        connected = sum(1 for runner in living if self._directory.get(runner.id) is not None)
        return Check("runners", True, f"{len(living)} living, {connected} connected")

    def _certificate(self) -> Check:
        return certificate_check(self._reached.tls, self._clock.now_ms())

    async def restart(self, request: Request) -> Answer:
        # Before the stream begins: a supervisor that refuses is an error, not an event.
        await self._restart()
        return Streamed(_restarting)


def _gpu(gpu: Gpu) -> str:
    if gpu.index == GONE:
        return f"{gpu.uuid}: gone"
    return f"{gpu.index}: {gpu.model}" + (f" ({gpu.memory_mb} MB)" if gpu.memory_mb else "")


async def _restarting(lines: Lines) -> None:
    await lines.say({"event": "restarting"})
