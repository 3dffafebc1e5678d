from __future__ import annotations

from dataclasses import replace

from roost.core.model import Process, RunnerSeen, RunnerState
from roost.core.rollout import Done, DrainOld, GiveBack, Rollout, Seen, Switch, WarmUp, step

NOW = 1_000_000
ROLLOUT = Rollout("new", begun_ms=NOW, startup_timeout_ms=600_000)


def runner(name: str, revision: str, state: RunnerState) -> RunnerSeen:
    return RunnerSeen(name, revision, state, since_ms=NOW, created_ms=NOW)


OLD = runner("o", "old", RunnerState.RUNNING)


def test_a_rolling_deploy_warms_up_one_runner_before_anything_else_even_without_traffic() -> None:
    assert step(ROLLOUT, Seen("old", (OLD,)), NOW) == WarmUp(1, 660_000)
    assert step(ROLLOUT, Seen("old", (OLD, runner("n", "new", RunnerState.SETUP))), NOW + 1) == WarmUp(1, 659_999)


def test_the_alias_switches_when_the_new_runner_is_ready() -> None:
    assert isinstance(step(ROLLOUT, Seen("old", (OLD, runner("n", "new", RunnerState.IDLE))), NOW), Switch)


def test_after_the_switch_the_old_runners_are_drained_until_none_is_left() -> None:
    fresh = runner("n", "new", RunnerState.RUNNING)
    leaving = runner("d", "old", RunnerState.DRAINING)
    assert step(ROLLOUT, Seen("new", (OLD, leaving, fresh)), NOW) == DrainOld(("o", "d"))
    assert step(ROLLOUT, Seen("new", (runner("o", "old", RunnerState.TERMINATED), fresh)), NOW) == Done()


def test_a_first_deploy_goes_the_same_way_with_nothing_to_drain() -> None:
    assert isinstance(step(ROLLOUT, Seen(None), NOW), WarmUp)
    assert isinstance(step(ROLLOUT, Seen(None, (runner("n", "new", RunnerState.IDLE),)), NOW), Switch)
    assert step(ROLLOUT, Seen("new", (runner("n", "new", RunnerState.IDLE),)), NOW) == Done()


def test_a_failed_start_gives_back_with_its_reason() -> None:
    failed = Seen("old", (OLD, runner("n", "new", RunnerState.TERMINATED)), failure="setup() raised ValueError: no weights")
    assert step(ROLLOUT, failed, NOW) == GiveBack("setup() raised ValueError: no weights")


def test_a_failure_beside_a_ready_runner_does_not_stop_the_switch() -> None:
    assert isinstance(step(ROLLOUT, Seen("old", (runner("n", "new", RunnerState.IDLE),), failure="an earlier one crashed"), NOW), Switch)


def test_after_the_switch_nothing_is_given_back() -> None:
    assert step(ROLLOUT, Seen("new", (OLD,), failure="late", superseded_by="later"), NOW + 10**9) == DrainOld(("o",))


def test_no_room_for_a_minute_gives_back_and_says_what_was_missing() -> None:
    crowded = Seen("old", (OLD,), no_room="GPU-H100 needs 1 x H100, and 1 of 1 are in use")
    assert step(ROLLOUT, crowded, NOW) == WarmUp(1, 60_000)
    given = step(ROLLOUT, crowded, NOW + 60_000)
    assert given == GiveBack("no runner of the new revision was ready within 60 s: GPU-H100 needs 1 x H100, and 1 of 1 are in use")


def test_a_runner_that_has_a_process_gets_its_startup_timeout_however_full_the_machine_is() -> None:
    starting = runner("n", "new", RunnerState.PENDING)
    assert step(ROLLOUT, Seen("old", (OLD, starting), no_room="full"), NOW) == WarmUp(1, 660_000)
    waiting = replace(starting, process=Process.NOT_STARTED)
    assert step(ROLLOUT, Seen("old", (OLD, waiting), no_room="full"), NOW) == WarmUp(1, 60_000)


def test_a_rollout_that_nobody_reports_on_ends_by_itself() -> None:
    stuck = Seen("old", (OLD, runner("n", "new", RunnerState.SETUP)))
    assert step(ROLLOUT, stuck, NOW + 659_999) == WarmUp(1, 1)
    assert isinstance(step(ROLLOUT, stuck, NOW + 660_000), GiveBack)


def test_the_later_of_two_deploys_wins() -> None:
    given = step(ROLLOUT, Seen("old", (runner("n", "new", RunnerState.IDLE),), superseded_by="rev-3"), NOW)
    assert given == GiveBack("a later deploy (rev-3) took its place")


def test_recreate_switches_at_once() -> None:
    assert isinstance(step(Rollout("new", NOW, 600_000, strategy="recreate"), Seen("old", (OLD,)), NOW), Switch)


def test_more_warm_runners_are_waited_for_when_asked() -> None:
    two = Rollout("new", NOW, 600_000, warm_runners=2)
    one_ready = (runner("a", "new", RunnerState.IDLE), runner("b", "new", RunnerState.SETUP))
    assert isinstance(step(two, Seen("old", one_ready), NOW), WarmUp)
    assert isinstance(step(two, Seen("old", (one_ready[0], runner("b", "new", RunnerState.RUNNING))), NOW), Switch)
