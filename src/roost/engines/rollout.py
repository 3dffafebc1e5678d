"""Revisions whose environment is ready: warm up, switch the alias, or give back (core/rollout.py decides).

What must be started or drained for it is the fleet's work: it reads the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from roost.core import rollout
from roost.core.lifecycle import REVISION, RevisionEvent, advance
from roost.core.model import Alias, Revision, RevisionState, Runner, RunnerSeen, Scale
from roost.core.policy import scale_of
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.store import Store

_POLL_S = 2.0
_UNDER_WAY = (RevisionState.BUILDING, RevisionState.STARTING)


class RolloutEngine:
    """STARTING -> DEPLOYED or FAILED, and the alias with it."""

    def __init__(self, store: Store, clock: Clock, hints: Hints, defaults: Scale, no_room: Callable[[str], str]) -> None:
        """`no_room(application)` says why a runner of it cannot be placed now; "" if it can."""
        self._no_room = no_room
        self._store = store
        self._clock = clock
        self._hints = hints
        self._defaults = defaults
        self._begun: dict[str, int] = {}
        self.loop = Loop("rollout", hints, ("rollout", "runners"), self.round)

    async def round(self) -> float:
        starting = await self._store.revisions.in_state(RevisionState.STARTING)
        known = {revision.id for revision in starting}
        self._begun = {revision_id: at for revision_id, at in self._begun.items() if revision_id in known}
        pause_s = _POLL_S
        for revision in starting:
            recheck_ms = await self._step(revision)
            if recheck_ms is not None:
                pause_s = min(pause_s, recheck_ms / 1000)
        return pause_s

    async def _step(self, revision: Revision) -> int | None:
        now_ms = self._clock.now_ms()
        alias = await self._store.apps.get(revision.owner, revision.name)
        runners = await self._store.runners.of_revision(revision.id)
        newer = await self._newer(revision)
        under_way = rollout.Rollout(
            revision.id,
            self._begun.setdefault(revision.id, now_ms),
            revision.spec.startup_timeout_ms or self._defaults.startup_timeout_ms,
            revision.plan.strategy,
        )
        seen = rollout.Seen(
            alias.revision_id if alias else None,
            tuple(_seen(runner) for runner in runners),
            no_room=self._no_room(f"{revision.owner}/{revision.name}"),
            failure=_failure(await self._store.runners.failed_starts(revision.id)),
            superseded_by=newer.id if newer is not None else "",
        )
        match rollout.step(under_way, seen, now_ms):
            case rollout.WarmUp(_, recheck_ms):
                return recheck_ms
            case rollout.Switch(reason):
                await self._switch(revision, alias, reason, now_ms)
            case rollout.GiveBack(reason):
                await self._finish(revision, RevisionEvent.FAIL, reason, now_ms)
            case rollout.DrainOld() | rollout.Done():
                # The alias was pointed by a server that did not live to say so.
                await self._finish(revision, RevisionEvent.SWITCHED, "the alias points to it", now_ms)
        return None

    async def _newer(self, revision: Revision) -> Revision | None:
        for other in await self._store.revisions.list(revision.owner, revision.name):
            # Of two made in the same millisecond, the id decides: both must not go on.
            later = (other.created_ms, other.id) > (revision.created_ms, revision.id)
            if later and (other.state in _UNDER_WAY or other.state is RevisionState.DEPLOYED):
                return other
        return None

    async def _switch(self, revision: Revision, alias: Alias | None, reason: str, now_ms: int) -> None:
        plan = revision.plan
        ephemeral = plan.ephemeral
        await self._store.apps.point(
            Alias(
                owner=revision.owner,
                name=revision.name,
                environment=revision.environment,
                revision_id=revision.id,
                auth=plan.auth or (alias.auth if alias is not None else revision.spec.auth or "private"),
                scale=scale_of(revision.spec, self._defaults, None if alias is None or plan.reset_scale or ephemeral else alias.scale),
                ephemeral=ephemeral,
                lease_until_ms=now_ms + plan.lease_ms if ephemeral else None,
                created_ms=now_ms,
                updated_ms=now_ms,
            ),
            reason=reason,
            actor=revision.created_by,
        )
        self._hints.give("apps")
        await self._finish(revision, RevisionEvent.SWITCHED, reason, now_ms)

    async def _finish(self, revision: Revision, event: RevisionEvent, reason: str, now_ms: int) -> None:
        to = advance(REVISION, revision.state, event)
        if await self._store.revisions.set_state(revision.id, (revision.state,), to, reason, now_ms):
            log.info(
                f"revision.{to.value.lower()}",
                app=f"{revision.owner}/{revision.name}",
                revision=revision.id,
                reason=reason.partition("\n")[0],
            )
        for topic in ("fleet", f"revision:{revision.id}"):
            self._hints.give(topic)


def _seen(runner: Runner) -> RunnerSeen:
    return RunnerSeen(runner.id, runner.revision_id, runner.state, runner.created_ms, runner.created_ms, runner.ready_ms)


def _failure(ended: Sequence[Runner]) -> str:
    """Why a runner of this revision ended before it was ready; "" if none did."""
    return (ended[0].reason or "its runner ended before it was ready") if ended else ""
