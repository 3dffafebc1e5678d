"""The reasons are made by the decisions that make them in a server, so that a change of their words is noticed here."""

from __future__ import annotations

import dataclasses

from roost.api.verdict import GIVEN_UP, failure
from roost.core import fate, fleet, rollout
from roost.core.model import Env, EnvState, Process, Recipe, RevisionState, RunnerSeen, RunnerState
from tests.unit.api.world import revision_of

UNDER_WAY = rollout.Rollout("rev", 0, 600_000)


def code(reason: str, *, was_built: bool = True) -> str:
    return failure(failed(reason), None, was_built=was_built).code


def failed(reason: str):
    return dataclasses.replace(revision_of("hello", "ada", "rev"), state=RevisionState.FAILED, reason=reason)


def given_back(seen: rollout.Seen, now_ms: int) -> str:
    step = rollout.step(UNDER_WAY, seen, now_ms)
    assert isinstance(step, rollout.GiveBack)
    return step.reason


def test_a_later_deploy_is_a_conflict():
    assert code(given_back(rollout.Seen(None, superseded_by="rev-2"), 0)) == "conflict"


def test_a_runner_that_never_came_is_a_startup_timeout():
    assert code(given_back(rollout.Seen(None), 10**9)) == "startup_timeout"


def test_a_setup_that_does_not_end_is_a_startup_timeout():
    hanging = RunnerSeen("r", "rev", RunnerState.SETUP, since_ms=0, created_ms=0, process=Process.LIVING)
    plan = fleet.plan(fleet.Wanted("rev", 1), (hanging,), fleet.Backoff(), 700_000, fleet.Limits(10, 600_000, 60_000))
    (kill,) = [action for action in plan.actions if isinstance(action, fleet.Kill)]
    assert code(given_back(rollout.Seen(None, failure=kill.reason), 700_000)) == "startup_timeout"


def test_a_setup_that_raises_has_failed_in_its_own_words():
    error = failure(failed("setup() raised: ValueError: no\nsecond line"), None, was_built=True)
    assert (error.code, error.detail) == ("setup_failed", "setup() raised: ValueError: no\nsecond line")
    assert error.hint


def test_a_process_that_ended_by_itself_is_told_with_when_it_did():
    error = failure(failed(fate.describe_end(3, None)), None, was_built=True)
    assert (error.code, error.detail) == ("setup_failed", "the runner ended before setup() was done: the process exited with code 3")


def test_what_fails_before_it_is_built_is_a_failed_build_whatever_its_words():
    assert code("the index says: startup_timeout", was_built=False) == "build_failed"


def test_a_failed_builds_hint_is_what_the_revision_knows_more_than_the_environment():
    env = Env("k", Recipe("3.11", (), ()), EnvState.FAILED, "no wheel\nfor this", (), 0, 0, 0, 0)
    error = failure(failed("no wheel\nfor this\nTry another version."), env, was_built=False)
    assert (error.detail, error.hint) == ("no wheel\nfor this", "Try another version.")
    # Another deploy may have built it meanwhile.
    ready = dataclasses.replace(env, state=EnvState.READY, reason="")
    assert failure(failed("no wheel\nfor this"), ready, was_built=False).detail == "no wheel\nfor this"


def test_a_deploy_that_was_given_up_was_cancelled():
    assert code(GIVEN_UP, was_built=False) == "client_cancelled"
