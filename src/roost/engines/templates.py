"""Templates: made for what is used, measured, ended when others save more; and their refusals, stored where operators look.

core/templates.py decides; backends/templates.py makes and forks. One is made at a time, beside the runners that serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from roost.backends.templates import BaseOf, TemplateBackend, Unfit
from roost.core import templates
from roost.core.model import Alias, Revision
from roost.core.scaling import STARTING
from roost.core.stages import Birth
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.store import Store

_POLL_S = 10.0
_MEASURE_EVERY_MS = 30_000
KIND = "template"
"""Of the decisions under which refusals and the like are stored."""


class TemplatesEngine:
    """Brings the living templates to what `core.templates.plan` says."""

    def __init__(
        self, store: Store, clock: Clock, hints: Hints, backend: TemplateBackend, budget_mb: float, pss_mb: Callable[[int], float | None]
    ) -> None:
        """`pss_mb(pid)`: a process's share of the memory, None if it is gone."""
        self._store = store
        self._clock = clock
        self._hints = hints
        self._backend = backend
        self._budget_mb = budget_mb
        self._pss_mb = pss_mb
        self._uses: dict[str, templates.Use] = {}
        self._took_ms: dict[tuple[str, str], float] = {}
        self._memory_mb: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._revisions: dict[str, Revision] = {}
        self._failed_ms: dict[str, int] = {}
        self._measured_ms = 0
        backend.on_start = self._started
        backend.on_loss = self._lost
        self.loop = Loop("templates", hints, ("templates", "runners", "apps"), self.round)

    async def stop(self) -> None:
        """Make nothing any more. Forks under way are waited for: one that nobody adopted would be nobody's."""
        await self.loop.stop()
        await self._backend.settle()

    def born(self, revision_id: str, birth: Birth) -> None:
        """A runner of this revision is ready: what its start took."""
        assert birth.ready_s is not None
        self._took_ms[revision_id, birth.how] = (birth.ready_s - birth.asked_s) * 1000

    async def round(self) -> float:
        now_ms = self._clock.now_ms()
        aliases = {alias.revision_id: alias for alias in await self._store.apps.list() if alias.revision_id is not None}
        await self._learn(aliases)
        living = self._backend.pids()
        if living and now_ms - self._measured_ms > _MEASURE_EVERY_MS:
            self._measured_ms = now_ms
            await self._measure(living)
        starting = {runner.revision_id for runner in await self._store.runners.living() if runner.state in STARTING}
        known = [revision_id for revision_id in self._revisions if revision_id in aliases or revision_id in living]
        candidates = [
            templates.Candidate(
                revision_id,
                _base_of(self._revisions[revision_id]).name,
                current=revision_id in aliases,
                use=self._uses.get(revision_id, templates.Use()),
                saved_ms=self._saved_ms(revision_id),
                living=revision_id in living,
                memory_mb=self._memory_mb.get(revision_id),
                refused=self._refused.get(revision_id, ""),
                starting=revision_id in starting or now_ms < self._failed_ms.get(revision_id, 0),
            )
            for revision_id in known
        ]
        names = {candidate.base for candidate in candidates} | {name for name in living if name not in self._revisions}
        bases = [templates.Base(name, name in living, self._memory_mb.get(name), self._refused.get(name, "")) for name in names]
        made = False
        for action in templates.plan(candidates, bases, self._budget_mb, now_ms):
            if isinstance(action, templates.End):
                log.info("template.ended", template=action.name, reason=action.reason)
                await self._backend.end(action.name)
                await self._tell(aliases.get(action.name), action.name, "ended", action.reason)
            elif not made:
                # One at a time: the next round begins at once, and sees what this one has cost.
                made = True
                await self._make(action, aliases)
        for gone in self._revisions.keys() - aliases.keys() - living.keys():
            self._forget(gone)
        return 0.0 if made else _POLL_S

    # making

    async def _make(self, action: templates.MakeBase | templates.MakeTemplate, aliases: dict[str, Alias]) -> None:
        name = action.base if isinstance(action, templates.MakeBase) else action.revision_id
        began = asyncio.get_running_loop().time()
        try:
            if isinstance(action, templates.MakeBase):
                await self._backend.make_base(_base_named(name))
            else:
                revision = self._revisions[name]
                await self._backend.make_template(revision, _base_of(revision))
        except Unfit as reason:
            self._refused[name] = str(reason)
            log.warning("template.refused", template=name, reason=str(reason))
            for revision_id, alias in aliases.items():
                revision = self._revisions.get(revision_id)
                if revision_id == name or (revision is not None and _base_of(revision).name == name):
                    await self._tell(alias, revision_id, "refused", str(reason))
            return
        except OSError as error:
            # Nothing that the app has done: no process could be had, or the base died. Tried again after a while.
            log.warning("template.failed", template=name, reason=str(error))
            self._failed_ms[name] = self._clock.now_ms() + int(_POLL_S * 1000)
            return
        ms = round((asyncio.get_running_loop().time() - began) * 1000)
        await self._measure({name: self._backend.pids().get(name, ())})
        log.info("template.made", template=name, ms=ms, memory_mb=round(self._memory_mb.get(name, 0)))
        await self._tell(aliases.get(name), name, "living", f"made in {ms / 1000:.1f} s; runners are forked from it")

    async def _measure(self, pids: dict[str, tuple[int, ...]]) -> None:
        for name, processes in pids.items():
            measured = [await asyncio.to_thread(self._pss_mb, pid) for pid in processes]
            if any(measured):
                self._memory_mb[name] = sum(mb for mb in measured if mb is not None)

    # what is known

    async def _learn(self, aliases: dict[str, Alias]) -> None:
        """Look up revisions that are new here, and what became of their templates under the servers before this one."""
        for revision_id, alias in aliases.items():
            if revision_id in self._revisions:
                continue
            revision = await self._store.revisions.get(revision_id)
            if revision is None:
                continue
            self._revisions[revision_id] = revision
            record = await self._store.decisions.latest(alias.application, kind=KIND)
            if record is None or record.memory.get("revision_id") != revision_id:
                continue
            if record.memory.get("state") == "refused":
                self._refused[revision_id] = record.reason
            elif record.memory.get("state") == "living" and revision_id not in self._uses:
                # It had a template under the server before this one, and went with that.
                self._uses[revision_id] = templates.Use(1, record.last_ms)

    def _saved_ms(self, revision_id: str) -> int:
        fresh, forked = self._took_ms.get((revision_id, "spawn")), self._took_ms.get((revision_id, "fork"))
        return templates.FIRST_GUESS_SAVED_MS if fresh is None else max(0, round(fresh - (forked or 0)))

    def _started(self, revision_id: str, how: str) -> None:
        self._uses[revision_id] = templates.started(self._uses.get(revision_id, templates.Use()), self._clock.now_ms())
        self._hints.give("templates")

    def _lost(self, name: str, reason: str) -> None:
        # A template that died of itself may do so again: not at once.
        self._failed_ms[name] = self._clock.now_ms() + int(_POLL_S * 1000)
        self._hints.give("templates")

    async def _tell(self, alias: Alias | None, revision_id: str, state: str, reason: str) -> None:
        if alias is None:
            return
        memory = {"revision_id": revision_id, "state": state, "memory_mb": round(self._memory_mb.get(revision_id, 0))}
        await self._store.decisions.record(alias.application, int(state == "living"), reason, memory, self._clock.now_ms(), kind=KIND)

    def _forget(self, revision_id: str) -> None:
        del self._revisions[revision_id]
        for facts in (self._uses, self._memory_mb, self._refused, self._failed_ms):
            facts.pop(revision_id, None)
        for how in ("fork", "spawn"):
            self._took_ms.pop((revision_id, how), None)


def _base_of(revision: Revision) -> BaseOf:
    return BaseOf(revision.env_key, revision.runtime)


def _base_named(name: str) -> BaseOf:
    return BaseOf(*name.split(":", 1))
