"""How far a revision is, and the `step` events that tell of it. Pure: what is seen goes in, events come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final

from roost.core.model import Revision, RevisionState, Runner, RunnerState

PROGRESS_MS: Final = 1_000


class Stage(IntEnum):
    ENVIRONMENT = 0
    START = 1
    SETUP = 2
    SWITCH = 3
    OVER = 4
    """The alias was switched, or the revision failed: nothing comes after it."""

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Progress:
    """The stage that was last told, since when it lasts, and when it was last mentioned."""

    stage: Stage
    since_ms: int
    said_ms: int


@dataclass(frozen=True, slots=True)
class Advance:
    progress: Progress
    events: tuple[dict[str, Any], ...]


def stage_of(revision: Revision, runners: Sequence[Runner]) -> Stage:
    """`runners` are the revision's own."""
    match revision.state:
        case RevisionState.BUILDING:
            return Stage.ENVIRONMENT
        case RevisionState.DEPLOYED | RevisionState.FAILED:
            return Stage.OVER
        case RevisionState.STARTING:
            if revision.plan.strategy == "recreate" or any(runner.ready_ms is not None for runner in runners):
                return Stage.SWITCH
            return Stage.SETUP if any(runner.state is RunnerState.SETUP for runner in runners) else Stage.START


def advance(before: Progress | None, stage: Stage, now_ms: int, *, with_runner: bool, detail: str = "") -> Advance:
    """What to tell when `stage` is seen. `with_runner`: this deploy starts one before it switches; `detail` says what a stage waits for."""
    if before is None:
        events = (_step(stage, "begin"),) if stage is not Stage.OVER else ()
        return Advance(Progress(stage, now_ms, now_ms), events)
    if stage <= before.stage:
        # Not further, or back: a runner that was in setup() was lost and another one begins.
        if before.stage is Stage.OVER or now_ms - before.said_ms < PROGRESS_MS:
            return Advance(before, ())
        told = _step(before.stage, "progress", detail, ms=now_ms - before.since_ms)
        return Advance(replace(before, said_ms=now_ms), (told,))
    told = [_step(before.stage, "end", ms=now_ms - before.since_ms)]
    for missed in Stage:
        # It was over before anybody looked.
        if before.stage < missed < stage and (with_runner or missed not in (Stage.START, Stage.SETUP)):
            told += [_step(missed, "begin"), _step(missed, "end", ms=0)]
    if stage is not Stage.OVER:
        told.append(_step(stage, "begin"))
    return Advance(Progress(stage, now_ms, now_ms), tuple(told))


def _step(stage: Stage, state: str, detail: str = "", *, ms: int | None = None) -> dict[str, Any]:
    event: dict[str, Any] = {"event": "step", "step": stage.word, "state": state}
    if detail:
        event["detail"] = detail
    if ms is not None:
        event["ms"] = ms
    return event
