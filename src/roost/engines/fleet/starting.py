"""How one runner is started: a place on this machine, a row, a key and a ticket of its own, then its process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from roost.backends.base import Backend, Launch
from roost.core import placement
from roost.core.model import Key, Revision, Runner, RunnerState, Scale
from roost.engines.fleet.roster import Known, Roster
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.spawn import Exited
from roost.store import Store
from roost.wire import ids

NO_ROOM_PAUSE_MS: Final = 20_000
"""Until the next try, unless a runner ends before that (spec: app-lifecycle.md §4)."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What this machine offers and what runners are told of the server."""

    node: placement.Node
    machine_types: Mapping[str, placement.MachineType]
    overcommit: placement.Overcommit
    free_memory: Callable[[], placement.FreeMemory | None]
    defaults: Scale
    grace_ms: int
    hash_secret: Callable[[str], str]
    """What the store keeps of a launch token or key."""
    environment_of: Callable[[Revision, str, str], dict[str, str]]
    """(revision, runner id, key) -> what the app's code may read in os.environ."""


class Starter:
    """Starts runners, each known to the roster from the moment that it has a place."""

    def __init__(self, store: Store, clock: Clock, hints: Hints, backend: Backend, ground: Ground, roster: Roster) -> None:
        self._store = store
        self._clock = clock
        self._hints = hints
        self._backend = backend
        self._ground = ground
        self._roster = roster
        self.no_room: dict[str, placement.Unplaced] = {}
        """By app, what it wants and has no place for."""
        self._tried: dict[str, tuple[int, int]] = {}
        """When that was tried last, and how many runners had ended by then."""

    async def start(self, revision: Revision, reason: str, application: str, scale: Scale, grace_ms: int) -> Exited | None:
        """Start one, if there is room (`no_room` says why not). Answers how it ended, if its process could not even be started."""
        now_ms = self._clock.now_ms()
        place = self._place(revision, application, scale, now_ms)
        if place is None:
            return None
        runner_id, token, key_secret, key_id = ids.runner_id(), ids.secret(), ids.secret(), ids.key_id()
        # Before anything is waited for: the next start must find this place taken.
        known = self._roster.known[runner_id] = Known(RunnerState.PENDING, now_ms, place=place)
        self._roster.starting.add(runner_id)
        runner = Runner(
            id=runner_id,
            owner=revision.owner,
            name=revision.name,
            revision_id=revision.id,
            state=RunnerState.PENDING,
            pid=None,
            machine_type=place.type.name,
            token_hash=self._ground.hash_secret(token),
            served=0,
            created_ms=now_ms,
            ready_ms=None,
            idle_since_ms=None,
            ended_ms=None,
            reason=reason,
            gpus=place.gpus,
        )
        key = Key(
            key_id, revision.owner, "RUNNER", f"runner of {application}", self._ground.hash_secret(key_secret), now_ms, None, runner_id
        )
        try:
            await asyncio.gather(self._store.runners.create(runner), self._store.keys.create(key))
            self._hints.give("keys")
            env = self._ground.environment_of(revision, runner_id, f"{key_id}:{key_secret}")
            try:
                pid = await self._backend.start(
                    Launch(runner_id, token, revision, application, place, scale.max_multiplexing, scale.request_timeout_ms, grace_ms, env)
                )
            except OSError as error:
                known.failure = f"the process could not be started: {error}"
                return Exited(runner_id, "runner", None, None, None, str(error))
            if pid is not None:
                self._roster.processes[runner_id] = pid
                await self._store.runners.update(runner_id, pid=pid)
            log.info("runner.started", runner=runner_id, app=application, pid=pid, reason=reason)
        finally:
            self._roster.starting.discard(runner_id)
        self._hints.give("runners")
        return None

    def _place(self, revision: Revision, application: str, scale: Scale, now_ms: int) -> placement.Place | None:
        ground = self._ground
        before = self.no_room.get(application)
        if before is not None and (before.revision_id, before.machine_types) == (revision.id, scale.machine_types):
            tried_ms, ended = self._tried.get(application, (0, -1))
            if ended == self._roster.ended and now_ms - tried_ms < NO_ROOM_PAUSE_MS:
                return None
        types = placement.resolve(scale.machine_types, ground.machine_types)
        used = placement.used_by(self._roster.places())
        verdict: placement.Place | placement.NoRoom
        if isinstance(types, placement.Unknown):
            verdict = placement.NoRoom(types.detail)
        else:
            verdict = placement.place(types, revision.spec.num_gpus, ground.node, used, ground.overcommit, ground.free_memory())
        if isinstance(verdict, placement.Place):
            self.no_room.pop(application, None)
            return verdict
        if before is None:
            log.warning("runner.no_room", app=application, reason=verdict.reason)
        since_ms = before.since_ms if before is not None else now_ms
        self.no_room[application] = placement.Unplaced(since_ms, verdict.reason, revision.id, scale.machine_types)
        self._tried[application] = (now_ms, self._roster.ended)
        return None
