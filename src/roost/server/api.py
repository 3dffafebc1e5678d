"""The control plane put together: what the API is given of the server."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from roost.api.app import build_api
from roost.api.parts import About, ApiParts, Reached
from roost.builders.surroundings import search_path
from roost.engines.build import Pruned
from roost.kit.spawn import Enforcement
from roost.server.wiring import Server
from roost.web.addresses import base_url
from roost.web.answers import Asgi, Scope
from roost.web.auth import hash_secret
from roost.wire import ids

_SUPPORTED = range(10, 14)


class _Builds:
    """See `api.parts.Builds`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def log_path(self, key: str) -> Path:
        return self._server.paths.builds / f"{key}.log"

    async def prune(self, all: bool) -> Pruned:
        return await self._server.builds.prune(all, await self._server.store.environments.in_use())


def build(server: Server, restart: Callable[[], Awaitable[None]], asked: Callable[[], Awaitable[Enforcement]]) -> Asgi:
    """The control plane's ASGI app over this server's parts."""
    addresses = server.addresses
    return build_api(
        ApiParts(
            store=server.store,
            clock=server.clock,
            hints=server.hints,
            keys=server.keys,
            reload_keys=server.reload_keys,
            hash_secret=lambda secret: hash_secret(server.pepper, secret),
            directory=server.directory,
            board=server.board,
            queue=server.queue,
            payloads=server.payloads,
            signer=server.signer,
            logs=server.logs,
            blobs=server.blobs,
            builds=_Builds(server),
            kill_runner=server.backend.kill,
            health=server.health.last,
            assemble=server.assemble,
            recipe_of=server.recipe_of,
            has_runtime=server.has_runtime,
            simulate=server.simulations.ask,
            restart=restart,
            base_url=lambda scope: _base_url(scope, server),
            reached=Reached(addresses.http or addresses.public, addresses.public, addresses.https, addresses.connect, server.tls),
            closing=server.closing,
            about=About(
                version=importlib.metadata.version("roost"),
                instance=ids.runner_id(),
                started_ms=server.clock.now_ms(),
                state=server.paths.state,
                node=server.node,
                machine_types=server.machine_types,
                pythons=_pythons(),
                defaults=server.defaults,
                overcommit=server.overcommit,
                webhook_ms=int(server.settings.webhook_hours * 3_600_000),
                webhook_ip_ranges=server.settings.webhook_ip_ranges,
                gpus=server.gpus,
                free_memory_floor_mb=server.settings.free_memory_floor_mb,
            ),
            enforcement=lambda: _enforcement(server, asked),
            unplaced=server.fleet.unplaced,
            available_mb=server.available_mb,
            held=server.fleet.held,
        )
    )


async def _enforcement(server: Server, asked: Callable[[], Awaitable[Enforcement]]) -> Enforcement:
    how = await asked()
    return how if server.settings.memory_limits != "off" else replace(how, memory="not kept: the setting memory_limits is off")


def _base_url(scope: Scope, server: Server) -> str:
    """The address that the caller dialled, unless the operator says which one callers use."""
    if server.settings.public_url:
        return server.settings.public_url.rstrip("/")
    return base_url(scope["scheme"], scope["headers"], scope.get("root_path", ""), "", "") or server.addresses.public


def _pythons() -> tuple[str, ...]:
    """The interpreters that this machine has, our own included."""
    path = search_path(os.environ.get("PATH", os.defpath), Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"))
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return tuple(
        version for minor in _SUPPORTED if (version := f"3.{minor}") == own or shutil.which(f"python{version}", path=path) is not None
    )
