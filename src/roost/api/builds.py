"""Package environments: which there are, their logs, and removing those that nothing needs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from roost.api.answer import Answer, Json, Text
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import Route
from roost.api.shapes import build_json
from roost.wire.errors import RoostError


class BuildCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._environments = parts.store.environments
        self._builds = parts.builds

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/v1/builds", self.list),
            Route("POST", "/v1/builds/prune", self.prune),
            Route("GET", "/v1/builds/{key}/log", self.log),
        )

    async def list(self, request: Request) -> Answer:
        envs, in_use = await self._environments.list(), await self._environments.in_use()
        return Json({"builds": [build_json(env, env.key in in_use) for env in envs]})

    async def prune(self, request: Request) -> Answer:
        everything = (await request.json()).get("all", False)
        if not isinstance(everything, bool):
            raise RoostError("unprocessable", f"all must be true or false, not {everything!r}")
        pruned = await self._builds.prune(everything)
        return Json({"removed": list(pruned.removed), "freed_bytes": pruned.freed_bytes})

    async def log(self, request: Request) -> Answer:
        key = request.params["key"]
        # Only a key that the store knows becomes a path.
        if await self._environments.get(key) is None:
            raise RoostError("not_found", f"Build {key[:80]!r} not found", hint="`roost builds list` shows what was built.")
        return Text(await asyncio.to_thread(_text, self._builds.log_path(key)))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
