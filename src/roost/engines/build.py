"""Environments from a recipe to READY: the store remembers how far each is, the builder has it on disk, and this keeps the two in step.

Not a loop: a build is wanted by somebody who waits for it (a deploy, a run, a runner's start), so they call `ensure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from dataclasses import dataclass

from roost.builders.base import Builder, BuildError, Built, OnLine
from roost.core.model import Env, EnvState, Recipe
from roost.core.recipe import conflicts
from roost.kit import log
from roost.kit.clock import Clock
from roost.store import StoreClosed
from roost.store.environments import Environments


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed, and what the disk got back (less than the environments' sizes: they share files with the downloads)."""

    removed: tuple[str, ...]
    freed_bytes: int


class BuildEngine:
    """Makes environments that are asked for, each once, and removes those that nobody needs."""

    def __init__(self, environments: Environments, builder: Builder, clock: Clock) -> None:
        self._environments = environments
        self._builder = builder
        self._clock = clock
        self._asking: Counter[str] = Counter()
        # Held while one environment is removed and while one is asked for, so that nobody is handed a folder that is going.
        self._pruning = asyncio.Lock()

    async def reset(self) -> None:
        """At start, before the first `ensure`: forget the builds that ended with the server before this one."""
        await self._builder.sweep()
        if interrupted := await self._environments.reset_building(self._clock.now_ms()):
            log.info("build.interrupted", keys=",".join(interrupted))

    async def ensure(self, recipe: Recipe, key: str, on_line: OnLine, *, force: bool = False) -> Env:
        """The environment, READY on disk: at once if it is there, else after its build, which all who ask at the same time share.

        `on_line` gets the build's output, from its first line also for those who come late. `force` builds anew even if it is
        there; the old one stays until the new one is complete. The build ends when the last asker is cancelled. Raises BuildError.
        """
        if conflict := conflicts(recipe.layers, recipe.pins):
            raise BuildError(conflict.detail, conflict.hint)
        async with self._pruning:
            self._asking[key] += 1
        try:
            env = await self._environments.put_pending(key, recipe, self._clock.now_ms())
            if not force and env.state is EnvState.READY and self._builder.exists(key):
                await self._environments.touch(key, self._clock.now_ms())
                return env
            built = await self._build(recipe, key, on_line, force=force)
            return dataclasses.replace(
                env,
                state=EnvState.READY,
                reason="",
                packages=built.packages,
                size_bytes=built.size_bytes,
                build_ms=built.build_ms,
                used_ms=self._clock.now_ms(),
            )
        finally:
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key]

    async def _build(self, recipe: Recipe, key: str, on_line: OnLine, *, force: bool) -> Built:
        # None is fine: another asker claimed it and the builder lets us join; or it is READY and stays so while it is built anew.
        await self._environments.claim_build(key, self._clock.now_ms())
        try:
            built = await self._builder.build(key, recipe, on_line, force=force)
        except BuildError as error:
            log.warning("build.failed", key=key, reason=error.detail.partition("\n")[0])
            await self._failed(key, error.detail)
            raise
        except asyncio.CancelledError:
            if self._asking[key] == 1:
                # Shielded: a second cancellation would leave a row that says BUILDING while nothing is built.
                await asyncio.shield(self._failed(key, "nobody waited for it any more"))
            raise
        if await self._environments.finish(key, True, "", built.packages, built.size_bytes, built.build_ms, self._clock.now_ms()):
            log.info("build.ready", key=key, packages=len(built.packages), ms=built.build_ms)
        return built

    async def _failed(self, key: str, reason: str) -> None:
        # Closed: the server is going down, and the next one resets what was being built.
        with contextlib.suppress(StoreClosed):
            await self._environments.finish(key, False, reason, (), 0, 0, self._clock.now_ms())

    async def prune(self, all: bool, in_use: set[str] | frozenset[str]) -> Pruned:
        """Remove the environments that are not `in_use`, and folders that the store knows nothing of.

        Environments without requirements of an author's own are kept, since the next app will need one; with `all` they go
        too, and with them the packages that were downloaded for later builds.
        """
        known = {env.key: env for env in await self._environments.list()}
        freed = 0
        removed: list[str] = []
        for key in sorted(known.keys() | self._builder.keys()):
            is_base = key in known and not known[key].recipe.layers
            if key in in_use or (is_base and not all):
                continue
            async with self._pruning:
                if self._asking[key] or not (
                    key not in known or await self._environments.delete(key, self._clock.now_ms(), reason="pruned")
                ):
                    continue
                freed += await self._builder.remove(key)
            removed.append(key)
        if all:
            freed += await self._builder.trim()
        log.info("build.pruned", removed=len(removed), freed_bytes=freed)
        return Pruned(tuple(removed), freed)

    def log(self, key: str) -> str:
        """The output of the last build of this environment."""
        return self._builder.log(key)

    async def stop(self) -> None:
        """End the builds under way; those who wait for them get BuildInterrupted."""
        await self._builder.stop()
