"""What to do with the runners of one alias: start the missing ones, let the superfluous go gently, end the stuck, bury the lost.

A runner leaves in steps, one a plan: Drain takes it out of routing, Stop (SIGTERM and grace) comes when its calls have ended or
have had request_timeout, Kill when even the grace did not end it. Each plan is made from what is there, so a plan that was lost
is simply made again (spec: app-lifecycle.md §4, §7, §8; GAPS C1, C20).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from roost.core.model import Process, RunnerSeen, RunnerState, Scale
from roost.core.scaling import READY, STARTING, Surplus

BACKOFF_STEP_MS = 30_000
BACKOFF_CAP_MS = 600_000
KILL_AFTER_GRACE_MS = 2_000
"""The supervisor kills at the end of the grace by itself; this is for when it did not."""


# --- what is known ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backoff:
    """Rounds of starts of one revision that failed in a row; a runner that becomes ready ends it, and whoever waits may start at once. Runners started together fail together: that is one round."""

    failures: int = 0
    failed_at_ms: int = 0
    reason: str = ""

    @property
    def next_start_ms(self) -> int:
        """When the next start may be tried; 0 after a success and at the beginning."""
        return self.failed_at_ms + min(BACKOFF_STEP_MS * self.failures, BACKOFF_CAP_MS) if self.failures else 0


def after_failure(backoff: Backoff, runner_created_ms: int, reason: str, now_ms: int) -> Backoff:
    """A runner ended before it was ready, and nobody had told it to."""
    same_round = backoff.failures > 0 and runner_created_ms <= backoff.failed_at_ms
    return replace(backoff, reason=reason) if same_round else Backoff(backoff.failures + 1, now_ms, reason)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be there: from the alias, its scaling decision and its rollout."""

    revision_id: str | None
    """The alias's current revision; None while it has none yet, or was deleted."""
    runners: int = 0
    reason: str = ""
    surplus: tuple[Surplus, ...] = ()
    warm_revision_id: str | None = None
    """A revision that a rollout is starting runners of, before the alias points to it."""
    warm_runners: int = 0
    renew_before_ms: int = 0
    """Runners of the current revision that were made before this are replaced: each goes when a fresh one is ready to take its place."""
    ended: str = ""
    """Why the alias is over, if so: its runners get SIGTERM at once instead of being drained."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take. `max_concurrency` holds for each revision by itself: a rollout's runners come on top."""

    max_concurrency: int
    startup_timeout_ms: int
    request_timeout_ms: int
    launch_ms: int = 30_000
    """From the decision to start a runner until somebody has a pid of it."""
    link_ms: int = 10_000
    """How long a living runner may be without a control connection, or stopped by a signal: its calls wait for nothing."""


def limits_of(scale: Scale) -> Limits:
    return Limits(scale.max_concurrency, scale.startup_timeout_ms, scale.request_timeout_ms)


# --- what to do --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Start this many runners of the revision, at the same time."""

    revision_id: str
    runners: int
    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Take it out of routing; its calls go on."""

    runner_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGTERM, and SIGKILL after the grace."""

    runner_id: str
    reason: str
    grace_ms: int


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to its whole group. `failed_start` = this counts for the back-off."""

    runner_id: str
    reason: str
    failed_start: bool = False


@dataclass(frozen=True, slots=True)
class DeclareLost:
    """There is no such process any more and nobody will say how it ended: close its row."""

    runner_id: str
    reason: str


Action = Start | Drain | Stop | Kill | DeclareLost


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. `held` says why missing runners are not started; `recheck_ms` when that, or somebody's patience, ends."""

    actions: tuple[Action, ...]
    held: str = ""
    recheck_ms: int | None = None


def plan(wanted: Wanted, runners: Sequence[RunnerSeen], backoff: Backoff, now_ms: int, limits: Limits) -> Plan:
    """The plan for one alias. `runners` are all of its runners that have not TERMINATED, of whatever revision; `backoff` is the current revision's."""
    actions: list[Action] = []
    staying: list[RunnerSeen] = []
    deadlines: list[int] = []
    failing: set[str] = set()
    replaced = _replaced(wanted, runners, limits)
    for runner in runners:
        if runner.state is RunnerState.TERMINATED:
            continue
        action = _ending(runner, now_ms, limits) or _leaving(runner, wanted, replaced)
        if action is not None:
            actions.append(action)
            if isinstance(action, Kill) and action.failed_start:
                failing.add(runner.revision_id)
        else:
            deadlines += _deadlines(runner, limits)
            if runner.state in STARTING or runner.state in READY:
                staying.append(runner)
    starts, held, retry_ms = _starts(wanted, staying, backoff, now_ms, limits)
    # `backoff` does not know yet of the starts that fail in this very plan, so nothing of theirs is tried again in it.
    actions += [start for start in starts if start.revision_id not in failing]
    moments = deadlines + retry_ms
    return Plan(tuple(actions), held, max(0, min(moments) - now_ms) if moments else None)


def _ending(runner: RunnerSeen, now_ms: int, limits: Limits) -> Action | None:
    """What must happen to this runner whether it is wanted or not."""
    age_ms = now_ms - runner.since_ms
    if runner.process is Process.GONE:
        return DeclareLost(runner.id, "its process is gone and its exit was not reported")
    if runner.process is Process.NOT_STARTED:
        # Stopped before it had a process: no exit will ever be reported.
        late = runner.state is not RunnerState.PENDING or age_ms > limits.launch_ms
        return DeclareLost(runner.id, "its process was never started") if late else None
    if runner.state is RunnerState.TERMINATING:
        if age_ms > runner.grace_ms + KILL_AFTER_GRACE_MS:
            return Kill(runner.id, f"still there {_seconds(age_ms)} after it was told to stop with a grace of {_seconds(runner.grace_ms)}")
        return None
    if runner.state in STARTING and age_ms > limits.startup_timeout_ms:
        where = "setup() did not end" if runner.state is RunnerState.SETUP else "the class was not loaded"
        within = f"within startup_timeout {_seconds(limits.startup_timeout_ms)}"
        unfit = f"its health check did not answer well {within}; the last time {runner.checked}" if runner.checked else ""
        return Kill(runner.id, unfit or f"{where} {within}", failed_start=True)
    if runner.unlinked_since_ms is not None and now_ms - runner.unlinked_since_ms > limits.link_ms:
        silent_ms = now_ms - runner.unlinked_since_ms
        return Kill(
            runner.id, f"its process lives but has had no connection for {_seconds(silent_ms)}", failed_start=runner.state in STARTING
        )
    if runner.stopped_since_ms is not None and now_ms - runner.stopped_since_ms > limits.link_ms:
        stopped_ms = now_ms - runner.stopped_since_ms
        return Kill(runner.id, f"its process was stopped (SIGSTOP) for {_seconds(stopped_ms)}", failed_start=runner.state in STARTING)
    if runner.state is RunnerState.DRAINING:
        if runner.in_flight == 0:
            return Stop(runner.id, "drained", runner.grace_ms)
        if age_ms > limits.request_timeout_ms:
            return Stop(runner.id, f"{runner.in_flight} calls went on past request_timeout while it drained", runner.grace_ms)
    return None


def _replaced(wanted: Wanted, runners: Sequence[RunnerSeen], limits: Limits) -> frozenset[str]:
    """Runners to be renewed whose place is taken by a fresh one, or that nobody needs. Those with calls are the last to go."""
    fresh, old = _by_age(wanted, [r for r in runners if r.state in STARTING or r.state in READY])
    if not old:
        return frozenset()
    kept = max(0, _fresh_wanted(wanted, limits) - sum(1 for r in fresh if r.state in READY))
    old.sort(key=lambda r: (r.state in READY, r.in_flight, r.created_ms))
    return frozenset(r.id for r in old[: max(0, len(old) - kept)])


def _by_age(wanted: Wanted, staying: Sequence[RunnerSeen]) -> tuple[list[RunnerSeen], list[RunnerSeen]]:
    """The current revision's runners: fresh ones, and those to be renewed."""
    current = [r for r in staying if r.revision_id == wanted.revision_id]
    fresh = [r for r in current if r.created_ms >= wanted.renew_before_ms]
    return fresh, [r for r in current if r.created_ms < wanted.renew_before_ms]


def _fresh_wanted(wanted: Wanted, limits: Limits) -> int:
    """How many fresh runners take over: as many as are needed, and one in any case, which shows that they start."""
    return min(max(1, wanted.runners), max(1, limits.max_concurrency))


def _leaving(runner: RunnerSeen, wanted: Wanted, replaced: frozenset[str]) -> Action | None:
    """What must happen to this runner because it is not wanted (any more)."""
    if runner.state in (RunnerState.DRAINING, RunnerState.TERMINATING):
        return Stop(runner.id, wanted.ended, runner.grace_ms) if wanted.ended and runner.state is RunnerState.DRAINING else None
    reason = wanted.ended
    if not reason and runner.revision_id not in (wanted.revision_id, wanted.warm_revision_id):
        reason = f"its revision was replaced by {wanted.revision_id}" if wanted.revision_id else "no alias points to its revision"
    if not reason and runner.id in replaced:
        reason = "renewed: fresh runners take its place"
    if not reason:
        reason = next((item.reason for item in wanted.surplus if item.runner_id == runner.id), "")
    if not reason:
        return None
    if wanted.ended or runner.state in STARTING:
        return Stop(runner.id, reason, runner.grace_ms)
    return Drain(runner.id, reason)


def _starts(
    wanted: Wanted, staying: Sequence[RunnerSeen], backoff: Backoff, now_ms: int, limits: Limits
) -> tuple[list[Start], str, list[int]]:
    """What to start, why not more, and when more may be started."""
    actions: list[Start] = []
    if wanted.ended:
        return actions, "", []
    if wanted.warm_revision_id is not None and wanted.warm_revision_id != wanted.revision_id:
        # A first start that fails ends the rollout, so there is nothing to back off from.
        missing = wanted.warm_runners - sum(1 for r in staying if r.revision_id == wanted.warm_revision_id)
        if missing > 0:
            actions.append(Start(wanted.warm_revision_id, missing, "a rollout warms up its revision"))
    if wanted.revision_id is None:
        return actions, "", []
    current, old = _by_age(wanted, staying)
    # Fresh runners come on top of those whose place they take: max_concurrency holds for each of the two.
    missing = (_fresh_wanted(wanted, limits) if old else min(wanted.runners, limits.max_concurrency)) - len(current)
    if missing <= 0:
        return actions, "", []
    if backoff.failures:
        failed = f"{backoff.failures} failed starts in a row, the last one because {backoff.reason or 'it ended'}"
        if now_ms < backoff.next_start_ms:
            return actions, f"{failed}; the next is tried in {_seconds(backoff.next_start_ms - now_ms)}", [backoff.next_start_ms]
        # One runner finds out whether the cause is gone; the others follow at once when it is ready.
        if any(r.state in STARTING for r in current):
            return actions, f"{failed}; one runner is trying again", []
        missing = 1
    actions.append(Start(wanted.revision_id, missing, "renews the runners of this revision" if old else wanted.reason))
    return actions, "", []


def _deadlines(runner: RunnerSeen, limits: Limits) -> list[int]:
    """When this runner will need the next look, if nothing happens before. One later than the limit: limits are exceeded, not met."""
    moments: list[int] = []
    if runner.process is Process.NOT_STARTED:
        moments.append(runner.since_ms + limits.launch_ms + 1)
    elif runner.state is RunnerState.TERMINATING:
        moments.append(runner.since_ms + runner.grace_ms + KILL_AFTER_GRACE_MS + 1)
    else:
        if runner.state in STARTING:
            moments.append(runner.since_ms + limits.startup_timeout_ms + 1)
        if runner.state is RunnerState.DRAINING:
            moments.append(runner.since_ms + limits.request_timeout_ms + 1)
        for since_ms in (runner.unlinked_since_ms, runner.stopped_since_ms):
            if since_ms is not None:
                moments.append(since_ms + limits.link_ms + 1)
    return moments


def _seconds(ms: int) -> str:
    return f"{ms / 1000:g} s"
