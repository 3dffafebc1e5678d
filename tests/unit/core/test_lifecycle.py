from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from roost.core import lifecycle
from roost.core.lifecycle import ENV, REVISION, RUNNER, EnvEvent, IllegalEvent, RevisionEvent, RunnerEvent, advance
from roost.core.model import EnvState, RevisionState, RunnerState

ROOT = Path(__file__).parents[3]
TABLES: list[tuple[Any, type[Enum]]] = [(RUNNER, RunnerState), (REVISION, RevisionState), (ENV, EnvState)]


def walk(table: Any, *events: Enum) -> Any:
    state = table.begins
    for event in events:
        state = advance(table, state, event)
    return state


def test_a_runner_lives_from_pending_to_terminated_as_the_public_states_say() -> None:
    event = RunnerEvent
    assert walk(RUNNER, event.SETUP_BEGAN, event.READY) is RunnerState.IDLE
    assert walk(RUNNER, event.SETUP_BEGAN, event.READY, event.CALLED) is RunnerState.RUNNING
    assert walk(RUNNER, event.SETUP_BEGAN, event.READY, event.CALLED, event.RESTED) is RunnerState.IDLE
    leaving = (event.SETUP_BEGAN, event.READY, event.CALLED, event.DRAIN)
    assert walk(RUNNER, *leaving) is RunnerState.DRAINING
    assert walk(RUNNER, *leaving, event.STOP) is RunnerState.TERMINATING
    assert walk(RUNNER, *leaving, event.STOP, event.ENDED) is RunnerState.TERMINATED


@pytest.mark.parametrize("state", [s for s in RunnerState if s is not RunnerState.TERMINATED])
def test_a_runner_may_be_killed_end_or_be_lost_in_every_state_but_the_last(state: RunnerState) -> None:
    assert advance(RUNNER, state, RunnerEvent.KILL) is RunnerState.TERMINATING
    assert advance(RUNNER, state, RunnerEvent.ENDED) is RunnerState.TERMINATED
    assert advance(RUNNER, state, RunnerEvent.LOST) is RunnerState.TERMINATED


@pytest.mark.parametrize("event", list(RunnerEvent))
def test_nothing_happens_to_a_terminated_runner(event: RunnerEvent) -> None:
    with pytest.raises(IllegalEvent, match="nothing follows it"):
        advance(RUNNER, RunnerState.TERMINATED, event)


def test_a_draining_runner_never_takes_a_call_again() -> None:
    assert not lifecycle.allows(RUNNER, RunnerState.DRAINING, RunnerEvent.READY)
    assert not lifecycle.allows(RUNNER, RunnerState.DRAINING, RunnerEvent.CALLED)


def test_an_illegal_event_names_the_state_the_event_and_what_is_allowed() -> None:
    with pytest.raises(IllegalEvent) as caught:
        advance(REVISION, RevisionState.BUILDING, RevisionEvent.SWITCHED)
    assert str(caught.value) == "a revision in state BUILDING cannot take the event alias switched; it takes environment ready, fail"


def test_a_failed_revision_stays_failed() -> None:
    assert lifecycle.is_final(REVISION, RevisionState.FAILED)


def test_an_interrupted_build_is_tried_again_and_a_failed_one_only_when_asked() -> None:
    assert walk(ENV, EnvEvent.BUILD_BEGAN, EnvEvent.INTERRUPTED) is EnvState.PENDING
    assert walk(ENV, EnvEvent.BUILD_BEGAN, EnvEvent.BUILD_FAILED) is EnvState.FAILED
    assert walk(ENV, EnvEvent.BUILD_BEGAN, EnvEvent.BUILD_FAILED, EnvEvent.ASKED_AGAIN) is EnvState.PENDING


def test_sources_are_the_states_that_a_guard_lists() -> None:
    assert lifecycle.sources(RUNNER, RunnerEvent.DRAIN) == (RunnerState.PENDING, RunnerState.SETUP, RunnerState.IDLE, RunnerState.RUNNING)
    assert RunnerState.TERMINATED not in lifecycle.sources(RUNNER, RunnerEvent.ENDED)


@pytest.mark.parametrize(("table", "states"), TABLES)
def test_every_state_can_be_reached(table: Any, states: type[Enum]) -> None:
    reached = {table.begins}
    while new := {target for (source, _), target in table.rows.items() if source in reached} - reached:
        reached |= new
    assert reached == set(states)


def test_a_diagram_has_each_arrow_once_with_its_events() -> None:
    drawn = lifecycle.render(REVISION).splitlines()
    assert drawn[:3] == ["stateDiagram-v2", "    [*] --> BUILDING", "    BUILDING --> STARTING: environment ready"]
    assert drawn[-1] == "    FAILED --> [*]"
    assert len(drawn) == len(set(drawn))


def test_the_page_of_lifecycles_is_what_the_tables_say() -> None:
    page = ROOT / "docs" / "internals" / "lifecycles.md"
    assert page.read_text(encoding="utf-8") == lifecycle.document(), "the page itself says how to write it anew"
