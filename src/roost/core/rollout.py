"""A deploy or rollback, step by step (spec: scaling-routing.md §4). Asked again after every change, it says the next step from what is there,
so a server that was killed in the middle goes on where it stood.

`rolling`: start a runner of the new revision even without traffic, wait until it is ready, switch the alias, drain the old ones.
If it does not start, the old revision keeps the alias. `recreate`: switch at once; the next call starts a runner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roost.core.model import Process, RunnerSeen, RunnerState
from roost.core.scaling import READY, STARTING

NO_ROOM_MS = 60_000
LIVING = (*STARTING, *READY)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One deploy or rollback under way. `begun_ms`: when its environment was ready, so that builds do not eat the time for starting."""

    revision_id: str
    begun_ms: int
    startup_timeout_ms: int
    strategy: str = "rolling"
    warm_runners: int = 1
    detached: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """`runners` are all of the alias's runners; `failure` says why a runner of the new revision ended before it was ready."""

    alias_revision_id: str | None
    runners: tuple[RunnerSeen, ...] = ()
    failure: str = ""
    no_room: str = ""
    """Why the new runner cannot be placed now."""
    superseded_by: str = ""
    """A later deploy of the same alias: the last one wins."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """There should be this many runners of the new revision; ask again within `recheck_ms`."""

    runners: int
    recheck_ms: int


@dataclass(frozen=True, slots=True)
class Switch:
    """Point the alias to the new revision."""

    reason: str


@dataclass(frozen=True, slots=True)
class DrainOld:
    """The alias is switched; these runners of other revisions finish their calls and go."""

    runner_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The new revision FAILED: stop its runners. The alias keeps what it had."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing of the old is left."""


Step = WarmUp | Switch | DrainOld | GiveBack | Done


def step(rollout: Rollout, seen: Seen, now_ms: int) -> Step:
    """The next step. After Switch was done it never gives back: callers already use the new revision."""
    if seen.alias_revision_id == rollout.revision_id:
        old = _old(rollout, seen.runners)
        return DrainOld(old) if old else Done()
    if seen.superseded_by:
        return GiveBack(f"a later deploy ({seen.superseded_by}) took its place")
    if rollout.strategy == "recreate":
        return Switch("recreate switches first; the next call starts a runner")
    if rollout.detached and seen.alias_revision_id is not None:
        return Switch("detached: the alias moves first, runners come up afterwards")
    ready = sum(1 for r in seen.runners if r.revision_id == rollout.revision_id and r.state in READY)
    if ready >= rollout.warm_runners:
        return Switch(f"{ready} of {rollout.warm_runners} new runners are ready")
    if seen.failure:
        return GiveBack(seen.failure)
    # The fleet ends a runner that overruns startup_timeout and says so in `failure`; this is for one that never got as far.
    give_up_ms = rollout.begun_ms + rollout.startup_timeout_ms + NO_ROOM_MS
    if seen.no_room and _unplaced(rollout, seen.runners):
        give_up_ms = min(give_up_ms, rollout.begun_ms + NO_ROOM_MS)
    if now_ms >= give_up_ms:
        waited = f"no runner of the new revision was ready within {(now_ms - rollout.begun_ms) / 1000:g} s"
        return GiveBack(f"{waited}: {seen.no_room}" if seen.no_room else waited)
    return WarmUp(rollout.warm_runners, give_up_ms - now_ms)


# --- fresh runners of the same revision -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Renewal:
    """Every runner of the revision that was made before `begun_ms` is to be replaced."""

    revision_id: str
    begun_ms: int


@dataclass(frozen=True, slots=True)
class Renewing:
    """Some of the old ones are still there."""

    left: int


def renew(renewal: Renewal, seen: Seen) -> Renewing | Done | GiveBack:
    """How far it is. The fleet starts the fresh ones and drains an old one for each that is ready (`fleet.Wanted.renew_before_ms`)."""
    if seen.alias_revision_id != renewal.revision_id:
        return GiveBack("the alias points to another revision now, whose runners are fresh")
    if seen.superseded_by:
        return GiveBack(f"a later one ({seen.superseded_by}) took its place")
    old = [r for r in seen.runners if r.revision_id == renewal.revision_id and r.created_ms < renewal.begun_ms and r.state in LIVING]
    if not old:
        return Done()
    if seen.failure:
        return GiveBack(f"a fresh runner did not start, and the old ones serve on: {seen.failure}")
    return Renewing(len(old))


def _old(rollout: Rollout, runners: Sequence[RunnerSeen]) -> tuple[str, ...]:
    return tuple(r.id for r in runners if r.revision_id != rollout.revision_id and r.state is not RunnerState.TERMINATED)


def _unplaced(rollout: Rollout, runners: Sequence[RunnerSeen]) -> bool:
    """No runner of the new revision has a process: one that has is judged by startup_timeout, however full the machine is."""
    living = (r for r in runners if r.revision_id == rollout.revision_id and r.state is not RunnerState.TERMINATED)
    return all(r.process is Process.NOT_STARTED for r in living)
