from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.core.fleet import (
    Action,
    Backoff,
    DeclareLost,
    Drain,
    Kill,
    Limits,
    Plan,
    Start,
    Stop,
    Wanted,
    after_failure,
    plan,
)
from roost.core.lifecycle import RUNNER, RunnerEvent, advance
from roost.core.model import Process, RunnerSeen, RunnerState, Scale
from roost.core.scaling import Memory, Seen, Surplus, decide

NOW = 10_000_000
LIMITS = Limits(max_concurrency=10, startup_timeout_ms=60_000, request_timeout_ms=30_000)
LIVING = [RunnerState.PENDING, RunnerState.SETUP, RunnerState.IDLE, RunnerState.RUNNING, RunnerState.DRAINING, RunnerState.TERMINATING]


def runner(
    name: str = "r", state: RunnerState = RunnerState.IDLE, *, age_ms: int = 0, revision: str = "new", in_flight: int = 0
) -> RunnerSeen:
    return RunnerSeen(name, revision, state, since_ms=NOW - age_ms, created_ms=NOW - age_ms, in_flight=in_flight)


def look(wanted: Wanted, *runners: RunnerSeen, backoff: Backoff | None = None, limits: Limits = LIMITS) -> Plan:
    return plan(wanted, runners, backoff or Backoff(), NOW, limits)


def only(made: Plan) -> Action:
    (action,) = made.actions
    return action


WANTED1 = Wanted("new", 1, "1 waiting")


def test_missing_runners_start_together_without_delay() -> None:
    assert look(Wanted("new", 3, "3 waiting"), runner()).actions == (Start("new", 2, "3 waiting"),)


def test_a_start_that_only_its_health_check_held_up_says_what_that_answered() -> None:
    late = replace(runner(state=RunnerState.SETUP, age_ms=60_001), checked="POST /ready answered 503")
    reason = "its health check did not answer well within startup_timeout 60 s; the last time POST /ready answered 503"
    assert only(look(Wanted("new"), late)) == Kill("r", reason, failed_start=True)


def test_runners_that_are_starting_count_and_those_that_leave_do_not() -> None:
    assert look(WANTED1, runner(state=RunnerState.PENDING)).actions == ()
    assert look(WANTED1, runner(state=RunnerState.DRAINING, in_flight=1)).actions == (Start("new", 1, "1 waiting"),)


def test_never_more_than_max_concurrency_are_started() -> None:
    assert only(look(Wanted("new", 50), limits=replace(LIMITS, max_concurrency=4))) == Start("new", 4, "")


def test_surplus_runners_are_drained_and_surplus_starts_are_stopped() -> None:
    wanted = Wanted("new", 0, surplus=(Surplus("a", "idle for 61 s"), Surplus("b", "too many")))
    assert look(wanted, runner("a"), runner("b", RunnerState.SETUP)).actions == (Drain("a", "idle for 61 s"), Stop("b", "too many", 5_000))


def test_runners_of_an_old_revision_are_drained_even_when_idle_and_started_ones_are_stopped() -> None:
    made = look(Wanted("new"), runner("a", revision="old"), runner("b", RunnerState.SETUP, revision="old"))
    reason = "its revision was replaced by new"
    assert made.actions == (Drain("a", reason), Stop("b", reason, 5_000))


def test_a_rollout_warms_up_on_top_of_max_concurrency_and_leaves_the_current_revision_alone() -> None:
    full = [runner(str(n), RunnerState.RUNNING, revision="old", in_flight=1) for n in range(10)]
    wanted = Wanted("old", 10, warm_revision_id="new", warm_runners=1)
    assert only(look(wanted, *full)) == Start("new", 1, "a rollout warms up its revision")
    assert look(wanted, *full, runner("w", RunnerState.SETUP)).actions == ()


def test_the_first_deploy_warms_up_without_a_current_revision() -> None:
    assert only(look(Wanted(None, warm_revision_id="new", warm_runners=1))) == Start("new", 1, "a rollout warms up its revision")


def test_an_ended_alias_stops_everything_at_once_and_starts_nothing() -> None:
    wanted = Wanted("new", 5, ended="the run was ended by its caller")
    busy, draining = runner("a", RunnerState.RUNNING, in_flight=2), runner("b", RunnerState.DRAINING, in_flight=1)
    made = look(wanted, busy, draining)
    assert made.actions == (Stop("a", wanted.ended, 5_000), Stop("b", wanted.ended, 5_000))


def test_a_draining_runner_is_stopped_when_its_last_call_has_ended() -> None:
    assert look(Wanted("new"), runner(state=RunnerState.DRAINING, in_flight=1)).actions == ()
    assert only(look(Wanted("new"), runner(state=RunnerState.DRAINING))) == Stop("r", "drained", 5_000)


def test_a_draining_runner_is_stopped_anyway_after_request_timeout() -> None:
    late = look(Wanted("new"), runner(state=RunnerState.DRAINING, in_flight=2, age_ms=30_001))
    assert only(late) == Stop("r", "2 calls went on past request_timeout while it drained", 5_000)


def test_a_runner_that_outlives_its_own_grace_is_killed() -> None:
    stubborn = replace(runner(state=RunnerState.TERMINATING, age_ms=9_000), grace_ms=7_000)
    assert look(Wanted("new"), stubborn) == Plan((), recheck_ms=1)
    assert isinstance(only(look(Wanted("new"), replace(stubborn, grace_ms=6_999))), Kill)


@pytest.mark.parametrize(
    ("state", "words"), [(RunnerState.SETUP, "setup() did not end"), (RunnerState.PENDING, "the class was not loaded")]
)
def test_a_start_that_takes_too_long_is_killed_and_counts_as_failed(state: RunnerState, words: str) -> None:
    assert look(WANTED1, runner(state=state, age_ms=60_000)).recheck_ms == 1
    killed = look(WANTED1, runner(state=state, age_ms=60_001)).actions[0]
    assert killed == Kill("r", f"{words} within startup_timeout 60 s", failed_start=True)


@pytest.mark.parametrize("state", LIVING)
def test_a_runner_whose_process_is_gone_is_declared_lost_and_replaced(state: RunnerState) -> None:
    made = look(WANTED1, replace(runner(state=state), process=Process.GONE))
    assert isinstance(made.actions[0], DeclareLost)
    assert made.actions[1:] == (Start("new", 1, "1 waiting"),)


def test_a_runner_without_a_process_gets_time_to_have_one_and_is_lost_after_it() -> None:
    unborn = replace(runner(state=RunnerState.PENDING, age_ms=30_000), process=Process.NOT_STARTED)
    assert look(WANTED1, unborn) == Plan((), recheck_ms=1)
    assert isinstance(look(WANTED1, replace(unborn, since_ms=NOW - 30_001)).actions[0], DeclareLost)


def test_a_runner_that_was_stopped_before_it_had_a_process_is_lost_at_once() -> None:
    assert isinstance(only(look(Wanted("new"), replace(runner(state=RunnerState.TERMINATING), process=Process.NOT_STARTED))), DeclareLost)


def test_a_living_runner_without_a_connection_is_killed_after_ten_seconds() -> None:
    silent = replace(runner(), unlinked_since_ms=NOW - 10_000)
    assert look(WANTED1, silent) == Plan((), recheck_ms=1)
    killed = look(WANTED1, replace(silent, unlinked_since_ms=NOW - 10_001)).actions[0]
    assert isinstance(killed, Kill)
    assert "no connection for" in killed.reason


def test_a_runner_stopped_by_a_signal_is_killed_after_ten_seconds() -> None:
    frozen = replace(runner(state=RunnerState.RUNNING), in_flight=1, stopped_since_ms=NOW - 10_000)
    assert look(WANTED1, frozen) == Plan((), recheck_ms=1)
    killed = look(WANTED1, replace(frozen, stopped_since_ms=NOW - 10_001)).actions[0]
    assert isinstance(killed, Kill)
    assert "was stopped (SIGSTOP) for" in killed.reason


def test_a_terminated_runner_is_nobody() -> None:
    assert look(WANTED1, runner(state=RunnerState.TERMINATED)).actions == (Start("new", 1, "1 waiting"),)


def test_back_off_grows_by_thirty_seconds_a_round_up_to_ten_minutes() -> None:
    backoff, delays = Backoff(), list[int]()
    for n in range(25):
        at = NOW + n * 1_000_000
        backoff = after_failure(backoff, at - 10, "it raised", at)
        delays.append(backoff.next_start_ms - at)
    assert delays[:3] == [30_000, 60_000, 90_000]
    assert delays[19:] == [600_000] * 6
    assert Backoff().next_start_ms == 0


def test_runners_that_were_started_together_fail_as_one_round() -> None:
    first = after_failure(Backoff(), NOW - 50, "a", NOW)
    assert after_failure(first, NOW - 50, "b", NOW + 20) == Backoff(1, NOW, "b")
    assert after_failure(first, NOW, "b", NOW + 20) == Backoff(1, NOW, "b")
    assert after_failure(first, NOW + 30_001, "c", NOW + 31_000).failures == 2


def test_during_the_back_off_nothing_starts_and_the_plan_says_why_and_until_when() -> None:
    made = look(Wanted("new", 3), backoff=Backoff(2, NOW - 20_000, "setup() raised KeyError: 'x'"))
    assert made == Plan(
        (), "2 failed starts in a row, the last one because setup() raised KeyError: 'x'; the next is tried in 40 s", 40_000
    )


def test_after_the_back_off_one_runner_tries_and_all_follow_when_it_is_ready() -> None:
    tried = Backoff(1, NOW - 30_000, "x")
    assert only(look(Wanted("new", 3), backoff=tried)) == Start("new", 1, "")
    trying = runner("a", RunnerState.SETUP)
    assert look(Wanted("new", 3), trying, backoff=tried).actions == ()
    assert only(look(Wanted("new", 3), runner("a"), backoff=Backoff())) == Start("new", 2, "")


def test_a_start_that_fails_in_this_plan_is_not_tried_again_in_it() -> None:
    late = runner("late", RunnerState.SETUP, age_ms=60_001)
    assert [type(action) for action in look(WANTED1, late).actions] == [Kill]
    warm = replace(late, revision_id="next")
    made = look(replace(WANTED1, warm_revision_id="next", warm_runners=1), runner("a"), warm)
    assert [type(action) for action in made.actions] == [Kill]


@dataclass
class World:
    """The smallest engine: does what the plan says, in a time of its own."""

    now_ms: int = NOW
    backoff: Backoff = field(default_factory=Backoff)
    runners: list[RunnerSeen] = field(default_factory=list[RunnerSeen])
    started: int = 0

    def change(self, at: int, event: RunnerEvent) -> None:
        old = self.runners[at]
        state = advance(RUNNER, old.state, event)
        if event is RunnerEvent.READY:
            self.backoff = Backoff()
        elif event is RunnerEvent.ENDED and old.state in (RunnerState.PENDING, RunnerState.SETUP):
            self.backoff = after_failure(self.backoff, old.created_ms, "it ended", self.now_ms)
        ready = self.now_ms if event is RunnerEvent.READY else old.ready_ms
        idle = self.now_ms if state is RunnerState.IDLE else None
        self.runners[at] = replace(old, state=state, since_ms=self.now_ms, ready_ms=ready, idle_since_ms=idle)

    def do(self, action: Action) -> None:
        match action:
            case Start(revision, count):
                for _ in range(count):
                    self.started += 1
                    self.runners.append(RunnerSeen(str(self.started), revision, RunnerState.PENDING, self.now_ms, self.now_ms))
            case Drain(name):
                self.change(self.index(name), RunnerEvent.DRAIN)
            case Stop(name):
                self.change(self.index(name), RunnerEvent.STOP)
            case Kill(name, reason, failed_start):
                if failed_start:
                    self.backoff = after_failure(self.backoff, self.runners[self.index(name)].created_ms, reason, self.now_ms)
                self.change(self.index(name), RunnerEvent.KILL)
            case DeclareLost(name):
                self.change(self.index(name), RunnerEvent.LOST)

    def index(self, name: str) -> int:
        return next(at for at, r in enumerate(self.runners) if r.id == name)


moves = st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 6), st.sampled_from(list(RunnerEvent)), st.integers(0, 30)), max_size=40)


@settings(max_examples=60)
@given(st.integers(0, 5), st.integers(0, 3), moves)
def test_every_plan_is_legal_done_once_within_the_maximum_and_without_demand_all_go_to_sleep(
    maximum: int, minimum: int, steps: list[tuple[int, int, RunnerEvent, int]]
) -> None:
    world, memory = World(), Memory()
    limits = replace(LIMITS, max_concurrency=maximum)
    policy = Scale(max_concurrency=maximum, min_concurrency=minimum)
    sleep = [(61_000, 9, RunnerEvent.ENDED, 0)] * 8
    for at, (pause_ms, which, event, demand) in enumerate(steps + sleep):
        world.now_ms += pause_ms
        asleep = at >= len(steps)
        policy = replace(policy, min_concurrency=0) if asleep else policy
        for index, seen in enumerate(world.runners):
            legal = (seen.state, event) in RUNNER.rows
            if asleep and seen.state is RunnerState.TERMINATING:
                world.change(index, RunnerEvent.ENDED)
            elif asleep and seen.state is RunnerState.RUNNING:
                world.change(index, RunnerEvent.RESTED)
            elif index % 7 == which and legal and event not in (RunnerEvent.DRAIN, RunnerEvent.STOP):
                world.change(index, event)
        decision = decide(policy, Seen((world.now_ms,) * demand, tuple(world.runners)), memory, world.now_ms)
        memory = decision.memory
        wanted = Wanted("new", decision.runners, decision.reason, decision.surplus)
        for action in plan(wanted, world.runners, world.backoff, world.now_ms, limits).actions:
            world.do(action)  # raises IllegalEvent if the plan asks for what cannot be
        staying = [r for r in world.runners if r.state in LIVING[:4]]
        assert len(staying) <= maximum
        again = plan(wanted, world.runners, world.backoff, world.now_ms, limits).actions
        assert not any(isinstance(a, Start | Drain) for a in again)
    assert all(r.state is RunnerState.TERMINATED for r in world.runners)
