"""Runners as processes of this machine, in the author's environment, started by the supervisor."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from roost.backends.base import Launch
from roost.kit.spawn import Exited, Spawn, Spawner
from roost.wire.launch import Ticket

# What an author's code may expect of any process: nothing of the server's own environment is a secret here, but most is noise.
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
)


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of the state that a runner process needs."""

    envs: Path
    bundles: Path
    runner_logs: Path
    runtime_of: Callable[[str], Path]
    """Runtime folder of an author's roost version."""
    links: tuple[str, ...]
    """Where runners dial home: "unix:/path", "tcp:host:port"."""


class ProcessBackend:
    """See `backends.base.Backend`."""

    def __init__(self, spawner: Spawner, places: Places) -> None:
        self._spawner = spawner
        self._places = places

    async def start(self, launch: Launch) -> int | None:
        return await self._spawner.start(self._spawn(launch))

    async def stop(self, runner_id: str, grace_ms: int) -> None:
        await self._spawner.stop(runner_id, grace_ms)

    async def kill(self, runner_id: str) -> None:
        await self._spawner.kill(runner_id)

    async def living(self) -> dict[str, int]:
        return {child.name: child.pid for child in await self._spawner.living() if child.kind == "runner"}

    async def stopped(self) -> frozenset[str]:
        return frozenset(child.name for child in await self._spawner.living() if child.kind == "runner" and child.state == "stopped")

    def subscribe(self, on_exit: Callable[[Exited], None]) -> None:
        self._spawner.subscribe("runner", on_exit)

    def _spawn(self, launch: Launch) -> Spawn:
        revision = launch.revision
        env = self._places.envs / revision.env_key
        runtime = self._places.runtime_of(revision.runtime)
        bundle = self._places.bundles / revision.bundle
        environ = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environ["PATH"] = f"{env / 'bin'}:{environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
        environ |= {
            "VIRTUAL_ENV": str(env),
            "PYTHONPATH": str(runtime),
            "PYTHONUNBUFFERED": "1",
            "ROOST_RUNNER_ID": launch.runner_id,
        }
        ticket = Ticket(
            runner_id=launch.runner_id,
            token=launch.token,
            addresses=self._places.links,
            bundle=str(bundle),
            spec=dataclasses.replace(revision.spec, max_multiplexing=launch.slots),
            application=launch.application,
            revision_id=revision.id,
            working_dir=revision.working_dir,
            env=launch.env,
        )
        return Spawn(
            name=launch.runner_id,
            kind="runner",
            argv=(str(env / "bin" / "python"), str(runtime / "roost-start.py")),
            env=environ,
            cwd=str(bundle),
            stdin=ticket.to_json(),
            output=str(self._places.runner_logs / f"{launch.runner_id}.log"),
            grace_ms=launch.grace_ms,
            memory_bytes=launch.place.type.memory_mb * 1024 * 1024,
        )
