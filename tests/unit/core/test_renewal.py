"""Fresh runners of the same revision: core.fleet says who starts and who goes, core.rollout how far it is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from roost.core.fleet import Backoff, Drain, Limits, Plan, Start, Stop, Wanted, plan
from roost.core.model import RunnerSeen, RunnerState
from roost.core.rollout import Done, GiveBack, Renewal, Renewing, Seen, renew
from roost.core.scaling import READY, STARTING

NOW = 10_000_000
BEGUN = NOW - 1_000
LIMITS = Limits(max_concurrency=4, startup_timeout_ms=60_000, request_timeout_ms=30_000)


def runner(
    name: str, state: RunnerState = RunnerState.IDLE, *, fresh: bool = False, in_flight: int = 0, revision: str = "rev"
) -> RunnerSeen:
    made_ms = BEGUN + 10 if fresh else BEGUN - 50_000
    return RunnerSeen(name, revision, state, since_ms=NOW, created_ms=made_ms, ready_ms=made_ms, in_flight=in_flight)


def look(runners: int, *seen: RunnerSeen, backoff: Backoff | None = None) -> Plan:
    return plan(Wanted("rev", runners, "demand", renew_before_ms=BEGUN), seen, backoff or Backoff(), NOW, LIMITS)


def going(made: Plan) -> list[str]:
    return [action.runner_id for action in made.actions if isinstance(action, (Drain, Stop))]


def test_fresh_runners_start_on_top_of_those_whose_place_they_take() -> None:
    made = look(4, *(runner(f"o{n}", RunnerState.RUNNING, in_flight=1) for n in range(4)))
    assert made.actions == (Start("rev", 4, "renews the runners of this revision"),)


def test_an_old_runner_goes_for_each_fresh_one_that_is_ready_and_idle_ones_first() -> None:
    old = [runner("busy", RunnerState.RUNNING, in_flight=1), runner("idle"), runner("starting", RunnerState.SETUP)]
    assert going(look(3, *old, runner("f1", fresh=True), runner("f2", RunnerState.SETUP, fresh=True))) == ["starting"]
    assert going(look(3, *old, runner("f1", fresh=True), runner("f2", fresh=True))) == ["idle", "starting"]


def test_idle_runners_that_nobody_needs_go_at_once_but_for_one() -> None:
    made = look(0, runner("o1"), runner("o2"), runner("o3"))
    assert going(made) == ["o1", "o2"]
    assert Start("rev", 1, "renews the runners of this revision") in made.actions


def test_when_all_are_fresh_scaling_is_as_ever() -> None:
    assert look(1, runner("f1", fresh=True)).actions == ()
    assert look(2, runner("f1", fresh=True)).actions == (Start("rev", 1, "demand"),)


def test_starts_that_fail_hold_up_the_renewal_and_take_nobody_away() -> None:
    made = look(2, runner("o1"), runner("o2"), backoff=Backoff(1, NOW - 1_000, "setup() raised"))
    assert made.actions == () and "1 failed starts" in made.held


STATES = st.sampled_from((*STARTING, *READY, RunnerState.DRAINING))


@given(
    st.lists(st.tuples(STATES, st.booleans(), st.integers(0, 2)), max_size=8),
    st.integers(0, 6),
)
def test_a_renewal_never_leaves_fewer_ready_runners_than_are_needed(made: list[tuple[RunnerState, bool, int]], wanted: int) -> None:
    seen = [runner(f"r{n}", state, fresh=fresh, in_flight=calls) for n, (state, fresh, calls) in enumerate(made)]
    gone = set(going(look(wanted, *seen)))
    ready = [r for r in seen if r.state in READY]
    left = [r for r in ready if r.id not in gone]
    assert len(left) >= min(len(ready), max(1, min(wanted, LIMITS.max_concurrency))) - sum(
        1 for r in seen if r.id not in gone and r.state in STARTING and r.created_ms < BEGUN
    )
    assert all(r.created_ms < BEGUN for r in ready if r.id in gone)


def test_how_far_a_renewal_is() -> None:
    renewal = Renewal("rev", BEGUN)
    old, fresh = runner("o"), runner("f", fresh=True)
    assert renew(renewal, Seen("rev", (old, fresh))) == Renewing(1)
    assert renew(renewal, Seen("rev", (replace(old, state=RunnerState.DRAINING), fresh))) == Done()
    assert renew(renewal, Seen("rev", ())) == Done()
    assert isinstance(renew(renewal, Seen("other", (old,))), GiveBack)
    assert renew(renewal, Seen("rev", (old,), superseded_by="later")) == GiveBack("a later one (later) took its place")
    failed = renew(renewal, Seen("rev", (old,), failure="setup() raised"))
    assert isinstance(failed, GiveBack) and "the old ones serve on: setup() raised" in failed.reason
