"""Revisions that wait for their environment: each is built (once, however many want it), then may start, or FAILED with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from roost.core.lifecycle import REVISION, RevisionEvent, advance
from roost.core.model import Env, Recipe, Revision, RevisionState
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.store import Store
from roost.wire.errors import RoostError
from roost.wire.spec import AppSpec

_POLL_S = 5.0


class Ensure(Protocol):
    """Makes an environment READY, or raises RoostError with the reason (`engines.build.BuildEngine.ensure`)."""

    async def __call__(self, recipe: Recipe, key: str, on_line: Callable[[str], None], *, force: bool = False) -> Env: ...


class PrepareEngine:
    """BUILDING -> STARTING or FAILED."""

    def __init__(
        self, store: Store, clock: Clock, hints: Hints, ensure: Ensure, recipe_of: Callable[[AppSpec], tuple[Recipe, str]]
    ) -> None:
        self._store = store
        self._clock = clock
        self._hints = hints
        self._ensure = ensure
        self._recipe_of = recipe_of
        self._builds: dict[str, asyncio.Task[None]] = {}
        self.loop = Loop("prepare", hints, ("build",), self.round)

    async def round(self) -> float:
        """Begin what is missing, end what nobody wants any more."""
        wanted = {revision.id: revision for revision in await self._store.revisions.in_state(RevisionState.BUILDING)}
        for revision_id, task in list(self._builds.items()):
            if task.done():
                del self._builds[revision_id]
            elif revision_id not in wanted:
                task.cancel()
        for revision in wanted.values():
            if revision.id not in self._builds:
                self._builds[revision.id] = asyncio.get_running_loop().create_task(self._build(revision), name=f"prepare {revision.id}")
        return _POLL_S

    async def stop(self) -> None:
        await self.loop.stop()
        for task in self._builds.values():
            task.cancel()
        if self._builds:
            await asyncio.wait(list(self._builds.values()))

    async def _build(self, revision: Revision) -> None:
        recipe, key = self._recipe_of(revision.spec)
        try:
            await self._ensure(recipe, key, lambda line: None, force=revision.spec.force)
        except RoostError as error:
            reason = f"{error.detail}\n{error.hint}" if error.hint else error.detail
            await self._move(revision, RevisionEvent.FAIL, reason)
        except Exception as error:
            log.exception("prepare.failed", error, revision=revision.id)
            await self._move(revision, RevisionEvent.FAIL, f"the environment could not be built: {error}")
        else:
            await self._move(revision, RevisionEvent.BUILT, "the environment is ready")

    async def _move(self, revision: Revision, event: RevisionEvent, reason: str) -> None:
        to = advance(REVISION, revision.state, event)
        await self._store.revisions.set_state(revision.id, (revision.state,), to, reason, self._clock.now_ms())
        for topic in ("rollout", "fleet", f"revision:{revision.id}"):
            self._hints.give(topic)
