"""Runners as processes of this machine, in the author's environment, started by the supervisor."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.backends.base import Launch
from roost.kit.spawn import Exited, Limits, Spawn, Spawner
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
    "ROOST_DIRECT",
)


CUDA_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


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
    gpus: tuple[str, ...] = ()
    """What CUDA_VISIBLE_DEVICES calls each GPU of this machine, by its index."""
    caps_memory: bool = True
    """Whether the memory of a machine type is a cap, or only what placement counts with."""


class ProcessBackend:
    """See `backends.base.Backend`."""

    def __init__(self, spawner: Spawner, places: Places) -> None:
        self._spawner = spawner
        self.places = places

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

    def ticket_of(self, launch: Launch) -> Ticket:
        """What a runner process is told, however it comes to be."""
        revision = launch.revision
        return Ticket(
            runner_id=launch.runner_id,
            token=launch.token,
            addresses=self.places.links,
            bundle=str(self.places.bundles / revision.bundle),
            spec=dataclasses.replace(revision.spec, max_multiplexing=launch.slots, request_timeout_ms=launch.request_timeout_ms),
            application=launch.application,
            revision_id=revision.id,
            working_dir=revision.working_dir,
            env=launch.env | {CUDA_VISIBLE: ",".join(self.places.gpus[index] for index in launch.place.gpus)},
        )

    def limits_of(self, launch: Launch) -> Limits:
        kind = launch.place.type
        return Limits(kind.memory_mb if self.places.caps_memory else 0, kind.cpus)

    def output_of(self, name: str) -> str:
        """The file that a runner's or template's output goes to."""
        return str(self.places.runner_logs / f"{name}.log")

    def template_spawn(self, template_id: str, env_key: str, runtime: str, ticket: str) -> Spawn:
        """A base template: the same program in the same environment as a runner, with another ticket."""
        return Spawn(
            name=template_id,
            kind="template",
            argv=self._argv(env_key, runtime),
            env=self._environ(template_id, env_key, runtime),
            cwd=str(self.places.envs / env_key),
            stdin=ticket,
            output=self.output_of(template_id),
            grace_ms=0,
        )

    def _spawn(self, launch: Launch) -> Spawn:
        revision = launch.revision
        return Spawn(
            name=launch.runner_id,
            kind="runner",
            argv=self._argv(revision.env_key, revision.runtime),
            env=self._environ(launch.runner_id, revision.env_key, revision.runtime),
            cwd=str(self.places.bundles / revision.bundle),
            stdin=self.ticket_of(launch).to_json(),
            output=self.output_of(launch.runner_id),
            grace_ms=launch.grace_ms,
            limits=self.limits_of(launch),
        )

    def _argv(self, env_key: str, runtime: str) -> tuple[str, ...]:
        return (str(self.places.envs / env_key / "bin" / "python"), str(self.places.runtime_of(runtime) / "roost-start.py"))

    def _environ(self, name: str, env_key: str, runtime: str) -> dict[str, str]:
        """What a process begins with: nothing of it is one app's, or secret."""
        env = self.places.envs / env_key
        environ = {variable: os.environ[variable] for variable in _INHERITED if variable in os.environ}
        environ["PATH"] = f"{env / 'bin'}:{environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
        return environ | {
            "VIRTUAL_ENV": str(env),
            "PYTHONPATH": str(self.places.runtime_of(runtime)),
            "PYTHONUNBUFFERED": "1",
            "ROOST_RUNNER_ID": name,
            # None, until a ticket says which: a template must not wake CUDA, which no fork survives, and a runner without GPUs must not take
            # another's by accident.
            CUDA_VISIBLE: "",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }
