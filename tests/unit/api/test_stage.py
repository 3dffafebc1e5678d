from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from roost.api.stage import Progress, Stage, advance, stage_of
from roost.core.model import DeployPlan, RevisionState, RunnerState
from tests.unit.api.world import NOW_MS, revision_of, runner_of


def short(events: tuple[dict[str, Any], ...]) -> list[str]:
    return [f"{event['step']} {event['state']}" + (f" {event['ms']}" if "ms" in event else "") for event in events]


@pytest.mark.parametrize(
    ("state", "runners", "stage"),
    [
        (RevisionState.BUILDING, (), Stage.ENVIRONMENT),
        (RevisionState.STARTING, (), Stage.START),
        (RevisionState.STARTING, ((RunnerState.PENDING, None),), Stage.START),
        (RevisionState.STARTING, ((RunnerState.PENDING, None), (RunnerState.SETUP, None)), Stage.SETUP),
        (RevisionState.STARTING, ((RunnerState.IDLE, NOW_MS),), Stage.SWITCH),
        (RevisionState.DEPLOYED, ((RunnerState.SETUP, None),), Stage.OVER),
    ],
)
def test_a_stage_is_how_far_the_furthest_runner_is(state: RevisionState, runners: tuple[tuple[RunnerState, int | None], ...], stage: Stage):
    revision = dataclasses.replace(revision_of("hello", "ada", "rev"), state=state)
    rows = [dataclasses.replace(runner_of(revision, "r", kind, NOW_MS), ready_ms=ready_ms) for kind, ready_ms in runners]
    assert stage_of(revision, rows) is stage


def test_recreate_switches_without_waiting_for_a_runner():
    revision = dataclasses.replace(revision_of("hello", "ada", "rev"), state=RevisionState.STARTING, plan=DeployPlan(strategy="recreate"))
    assert stage_of(revision, ()) is Stage.SWITCH


def test_the_first_look_begins_a_step():
    assert short(advance(None, Stage.ENVIRONMENT, 5, with_runner=True).events) == ["environment begin"]
    assert short(advance(None, Stage.OVER, 5, with_runner=True).events) == []


def test_what_nobody_saw_is_told_as_begun_and_ended():
    told = advance(Progress(Stage.ENVIRONMENT, 0, 0), Stage.SWITCH, 30, with_runner=True)
    assert short(told.events) == ["environment end 30", "start begin", "start end 0", "setup begin", "setup end 0", "switch begin"]
    assert told.progress == Progress(Stage.SWITCH, 30, 30)


def test_a_deploy_without_a_runner_does_not_speak_of_one():
    told = advance(Progress(Stage.ENVIRONMENT, 0, 0), Stage.OVER, 30, with_runner=False)
    assert short(told.events) == ["environment end 30", "switch begin", "switch end 0"]


def test_a_step_that_lasts_is_mentioned_each_second_with_what_it_waits_for():
    first = advance(Progress(Stage.START, 0, 0), Stage.START, 999, with_runner=True)
    assert first.events == ()
    second = advance(first.progress, Stage.START, 1_000, with_runner=True, detail="no room")
    assert second.events == ({"event": "step", "step": "start", "state": "progress", "detail": "no room", "ms": 1_000},)
    assert advance(second.progress, Stage.START, 1_999, with_runner=True).events == ()


def test_a_deploy_never_goes_back_when_a_runner_is_lost():
    assert advance(Progress(Stage.SETUP, 0, 0), Stage.START, 10, with_runner=True).events == ()
