"""What is under way with an alias: a new revision, a move to an older one, fresh runners. Warm up, switch, or give back (core/rollout.py decides).

What must be started or drained for it is the fleet's work: it reads the same rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from roost.core import rollout, trial
from roost.core.lifecycle import REVISION, ReleaseEvent, RevisionEvent, advance
from roost.core.model import Alias, Release, ReleaseKind, ReleaseState, Revision, RevisionState, Runner, RunnerSeen, Scale
from roost.core.policy import scale_of
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.store import Store
from roost.store.events import SERVER
from roost.wire import ids

_POLL_S = 2.0
_TRIAL_LOOK_MS = 1_000
"""Nobody says when a count has changed."""


class RolloutEngine:
    """Revisions from STARTING to DEPLOYED or FAILED and releases from UNDER_WAY to DONE or FAILED, and the alias with them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        hints: Hints,
        defaults: Scale,
        no_room: Callable[[str], str],
        tally: Callable[[str], trial.Tally],
        budget: trial.Budget,
    ) -> None:
        """`no_room(application)` says why a runner of it cannot be placed now, "" if it can; `tally(revision)` how it has done so far."""
        self._tally = tally
        self._budget = budget
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
        for release in await self._store.releases.under_way():
            step = {ReleaseKind.MOVE: self._move, ReleaseKind.RENEW: self._renew, ReleaseKind.TRIAL: self._try}[release.kind]
            recheck_ms = await step(release)
            if recheck_ms is not None:
                pause_s = min(pause_s, recheck_ms / 1000)
        return pause_s

    async def _step(self, revision: Revision) -> int | None:
        now_ms = self._clock.now_ms()
        alias = await self._store.apps.get(revision.owner, revision.name)
        runners = await self._store.runners.of_revision(revision.id)
        under_way = rollout.Rollout(
            revision.id,
            self._begun.setdefault(revision.id, now_ms),
            revision.spec.startup_timeout_ms or self._defaults.startup_timeout_ms,
            revision.plan.strategy,
            detached=revision.plan.detached,
        )
        seen = rollout.Seen(
            alias.revision_id if alias else None,
            tuple(_seen(runner) for runner in runners),
            no_room=self._no_room(f"{revision.owner}/{revision.name}"),
            failure=_failure(await self._store.runners.failed_starts(revision.id)),
            superseded_by=await self._newer(revision.owner, revision.name, revision.created_ms, revision.id),
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

    async def _move(self, release: Release) -> int | None:
        """One step of pointing the alias to a revision that was deployed before."""
        now_ms = self._clock.now_ms()
        revision = await self._store.revisions.get(release.revision_id)
        alias = await self._store.apps.get(release.owner, release.name)
        if revision is None or alias is None:
            await self._end(release, ReleaseEvent.FAIL, "its revision is gone" if revision is None else "its app is gone", now_ms)
            return None
        under_way = rollout.Rollout(
            revision.id, release.begun_ms, revision.spec.startup_timeout_ms or self._defaults.startup_timeout_ms, release.strategy
        )
        match rollout.step(under_way, await self._seen(release, alias), now_ms):
            case rollout.WarmUp(_, recheck_ms):
                return recheck_ms
            case rollout.Switch(reason):
                pointed = dataclasses.replace(
                    alias,
                    revision_id=revision.id,
                    auth=release.auth or alias.auth,
                    scale=scale_of(revision.spec, self._defaults, alias.scale),
                    updated_ms=now_ms,
                )
                await self._store.apps.point(pointed, reason=release.reason or reason, actor=release.actor)
                self._hints.give("apps")
                await self._end(release, ReleaseEvent.DONE, reason, now_ms)
            case rollout.GiveBack(reason):
                await self._end(release, ReleaseEvent.FAIL, reason, now_ms)
            case rollout.DrainOld() | rollout.Done():
                await self._end(release, ReleaseEvent.DONE, "the alias points to it", now_ms)
        return None

    async def _renew(self, release: Release) -> int | None:
        """One look at how far the renewal of an alias's runners is."""
        now_ms = self._clock.now_ms()
        alias = await self._store.apps.get(release.owner, release.name)
        seen = dataclasses.replace(await self._seen(release, alias), superseded_by=await self._newer_release(release))
        match rollout.renew(rollout.Renewal(release.revision_id, release.begun_ms), seen):
            case rollout.Done():
                await self._end(release, ReleaseEvent.DONE, "every runner is a fresh one", now_ms)
            case rollout.GiveBack(reason):
                await self._end(release, ReleaseEvent.FAIL, reason, now_ms)
            case rollout.Renewing():
                pass
        return None

    async def _try(self, release: Release) -> int | None:
        """One look at a revision that took the alias lately. What it breaks gives the alias back to the one before."""
        now_ms = self._clock.now_ms()
        alias = await self._store.apps.get(release.owner, release.name)
        if alias is None or alias.revision_id != release.revision_id:
            await self._end(release, ReleaseEvent.DONE, "the alias points to another revision now", now_ms)
            return None
        match trial.judge(release.begun_ms, self._tally(release.revision_id), self._tally(release.previous), self._budget, now_ms):
            case trial.Watching(left_ms):
                return min(left_ms, _TRIAL_LOOK_MS)
            case trial.Passed():
                await self._end(release, ReleaseEvent.DONE, f"it did well for {self._budget.window_ms / 1000:g} s", now_ms)
            case trial.GiveBack(reason):
                await self._give_back(release, reason, now_ms)
        return None

    async def _give_back(self, release: Release, reason: str, now_ms: int) -> None:
        if await self._store.revisions.get(release.previous) is None:
            await self._end(release, ReleaseEvent.FAIL, f"{reason}; the revision before it is gone, so it keeps the alias", now_ms)
            return
        log.warning("release.gives_back", app=release.application, revision=release.revision_id, to=release.previous, reason=reason)
        back = dataclasses.replace(
            release,
            id=ids.revision_id(),
            kind=ReleaseKind.MOVE,
            revision_id=release.previous,
            previous="",
            reason=f"given back by {release.revision_id}: {reason}",
            begun_ms=now_ms,
        )
        # The wish first: a server that ends between the two finds the trial again, and an alias that has moved ends it.
        await self._store.releases.create(back)
        await self._end(release, ReleaseEvent.FAIL, reason, now_ms)
        self._hints.give("rollout")

    async def _seen(self, release: Release, alias: Alias | None) -> rollout.Seen:
        failed = [r for r in await self._store.runners.failed_starts(release.revision_id) if r.created_ms >= release.begun_ms]
        return rollout.Seen(
            alias.revision_id if alias is not None else None,
            tuple(_seen(runner) for runner in await self._store.runners.of_revision(release.revision_id)),
            no_room=self._no_room(release.application),
            failure=_failure(failed),
            superseded_by=await self._newer(release.owner, release.name, release.begun_ms, release.id),
        )

    async def _newer(self, owner: str, name: str, since_ms: int, id: str) -> str:
        """The id of what was asked of this alias after that, and has not failed: the last wish wins. "" for none."""
        # Of two in the same millisecond the id decides: both must not go on.
        for revision in await self._store.revisions.list(owner, name):
            if (revision.created_ms, revision.id) > (since_ms, id) and revision.state is not RevisionState.FAILED:
                return revision.id
        for release in await self._store.releases.list(owner, name):
            # A renewal leaves the alias where it is.
            if (
                (release.begun_ms, release.id) > (since_ms, id)
                and release.state is not ReleaseState.FAILED
                and release.kind is ReleaseKind.MOVE
            ):
                return release.id
        return ""

    async def _newer_release(self, renewal: Release) -> str:
        """The id of a renewal that was asked for after this one; "" for none. A deploy that is still being built takes nothing from it."""
        for other in await self._store.releases.list(renewal.owner, renewal.name):
            later = (other.begun_ms, other.id) > (renewal.begun_ms, renewal.id)
            if later and other.kind is ReleaseKind.RENEW and other.state is ReleaseState.UNDER_WAY:
                return other.id
        return ""

    async def _end(self, release: Release, event: ReleaseEvent, reason: str, now_ms: int) -> None:
        if await self._store.releases.end(release.id, event, reason, now_ms):
            log.info(
                f"release.{event.name.lower()}",
                app=release.application,
                kind=release.kind.value,
                revision=release.revision_id,
                reason=reason.partition("\n")[0],
            )
        for topic in ("fleet", f"release:{release.id}"):
            self._hints.give(topic)

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
        # First: whoever is told in a moment that the new one serves must not be answered by the old one.
        self._hints.give("apps")
        before = alias.revision_id if alias is not None else None
        if before not in (None, revision.id) and not plan.detached and not ephemeral and self._budget.window_ms:
            await self._store.releases.create(self._trial_of(revision, before or "", now_ms))
        await self._finish(revision, RevisionEvent.SWITCHED, reason, now_ms)

    def _trial_of(self, revision: Revision, previous: str, now_ms: int) -> Release:
        return Release(
            id=ids.revision_id(),
            owner=revision.owner,
            name=revision.name,
            environment=revision.environment,
            kind=ReleaseKind.TRIAL,
            revision_id=revision.id,
            strategy="rolling",
            auth=None,
            state=ReleaseState.UNDER_WAY,
            reason="its first minutes",
            actor=SERVER,
            begun_ms=now_ms,
            previous=previous,
        )

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
