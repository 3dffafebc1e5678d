from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from roost.core.explain import AppNow, AppPast, Explanation, Held, RunnerNow, Waits, of_app, of_request, of_runner
from roost.core.model import (
    Alias,
    DecisionRecord,
    Event,
    Release,
    ReleaseKind,
    ReleaseState,
    Revision,
    RevisionState,
    Runner,
    RunnerState,
    Scale,
)
from roost.core.requests import Attempt, AttemptState, Priority, Request, RequestState, RetryRules
from roost.core.stages import ColdStart
from roost.wire.spec import AppSpec

NOW = 1_000_000_000
ALIAS = Alias("me", "app", "main", "rev-aaaaaaaa", "public", Scale(max_concurrency=2), False, None, 0, 0)
ROW = Runner("r1", "me", "app", "rev-aaaaaaaa", RunnerState.IDLE, 7, "S", "", 0, NOW - 60_000, NOW - 59_000, None, None, "ready")
FREE = RunnerNow(ROW, RunnerState.IDLE, 0, 1, 3, NOW - 12_000)
BUSY = RunnerNow(ROW, RunnerState.RUNNING, 1, 1, 3, NOW - 12_000, NOW - 30_000)
SETUP = RunnerNow(replace(ROW, id="r2", state=RunnerState.SETUP, created_ms=NOW - 4_000, ready_ms=None), RunnerState.SETUP)
WANTS_TWO = DecisionRecord(1, "me/app", "scaling", 2, "2 waiting need 2 runners", {}, NOW - 5_000, NOW, 3)
BACKING_OFF = Held(2, "setup() raised: ValueError: no weights\nTraceback ...", NOW + 12_000)
NO_ROOM = Held(no_room_since_ms=NOW - 40_000, no_room="512 MB are free and M needs 2048")


def an_app(*runners: RunnerNow, alias: Alias | None = ALIAS, **changes: Any) -> AppNow:
    return replace(AppNow("me/app", alias, runners), **changes)


def a_request(**changes: Any) -> Request:
    waiting = Request(
        seq=1,
        id="q1",
        owner="me",
        name="app",
        environment="main",
        caller="me",
        state=RequestState.IN_QUEUE,
        priority=Priority.NORMAL,
        attempt=0,
        deaths=0,
        used=(),
        created_ms=NOW - 60_000,
        due_ms=None,
        deadline_ms=None,
        hint="",
        rules=RetryRules(),
        store_io=True,
        endpoint="/",
        method="POST",
    )
    return waiting._replace(**changes)


def a_revision(state: RevisionState) -> Revision:
    spec = AppSpec(name="app", class_name="App", python_version="3.11")
    return Revision("rev-bbbbbbbb", "me", "app", "main", state, "", spec, "", "", "", "", {}, "", (), "me", NOW - 20_000)


def sentences(explanation: Explanation, title: str = "Now") -> list[str]:
    return [said.text for part in explanation if part.title == title for said in part.said]


def waits_for(app: AppNow, ahead: int = 0, **request: Any) -> list[str]:
    """What is said after the first sentence, which tells for how long it has waited."""
    first, *others = sentences(of_request(a_request(**request), (), (), Waits(ahead, app), NOW))
    assert first == "It has waited for 60 s for a runner of me/app."
    return others


@pytest.mark.parametrize(
    ("app", "said"),
    [
        (an_app(FREE), ["A runner is free for it."]),
        (an_app(BUSY), ["The one runner is busy with 1 call, the oldest queued call for 30 s."]),
        (
            an_app(BUSY, BUSY),
            ["All 2 runners are busy with 2 calls, the oldest queued call for 30 s.", "max_concurrency 2 is reached."],
        ),
        (
            an_app(SETUP),
            ["Runner r2 was started 4 s ago and its setup() runs; it has 10 min for each (startup_timeout)."],
        ),
        (an_app(), ["There is no runner yet; one is about to be started."]),
        (
            an_app(alias=replace(ALIAS, scale=Scale(scaling_delay_ms=5_000))),
            ["There is no runner; one is started for who has waited for scaling_delay 5 s."],
        ),
        (
            an_app(held=BACKING_OFF),
            ["2 starts in a row failed, the last one because setup() raised: ValueError: no weights; the next is tried in 12 s."],
        ),
        (
            an_app(SETUP, held=BACKING_OFF),
            [
                "Runner r2 was started 4 s ago and its setup() runs; it has 10 min for each (startup_timeout).",
                "2 starts in a row failed, the last one because setup() raised: ValueError: no weights; one runner is trying again.",
            ],
        ),
        (
            an_app(BUSY, held=NO_ROOM, decision=WANTS_TWO),
            [
                "The one runner is busy with 1 call, the oldest queued call for 30 s.",
                "For 40 s there has been no room for a further runner: 512 MB are free and M needs 2048.",
            ],
        ),
        # What kept a runner from starting an hour ago is no news while no more are wanted.
        (an_app(BUSY, held=NO_ROOM), ["The one runner is busy with 1 call, the oldest queued call for 30 s."]),
        (
            an_app(replace(FREE, stopped=True)),
            ["1 runner is stopped by a signal (SIGSTOP)."],
        ),
        (an_app(alias=None), ["me/app is not deployed: nothing serves it until it is."]),
        (
            an_app(alias=replace(ALIAS, revision_id=None), coming=(a_revision(RevisionState.BUILDING),)),
            ["Revision rev-bbbb was handed in 20 s ago: its packages are being built."],
        ),
        (
            an_app(alias=replace(ALIAS, revision_id=None), coming=(a_revision(RevisionState.STARTING),)),
            ["Revision rev-bbbb was handed in 20 s ago: its first runner is being started."],
        ),
        (
            an_app(alias=replace(ALIAS, revision_id=None)),
            ["me/app has no revision yet: nothing serves it until a deploy succeeds."],
        ),
    ],
)
def test_a_waiting_request_says_what_it_waits_for(app: AppNow, said: list[str]) -> None:
    assert waits_for(app) == ["It is the next to go.", *said]


def test_a_waiting_request_says_how_many_go_before_it() -> None:
    assert waits_for(an_app(FREE), 1)[0] == "1 request of this app goes before it."
    assert waits_for(an_app(FREE), 3)[0] == "3 requests of this app go before it."


def test_a_request_in_back_off_waits_for_its_moment_and_for_nothing_else() -> None:
    lost = Attempt("q1", 1, "g1", "r1", AttemptState.LOST, NOW - 50_000, NOW - 48_000, "runner_disconnected: it was killed", "connection")
    request = a_request(attempt=1, due_ms=NOW + 8_000)
    found = of_request(request, (lost,), (), Waits(0, an_app(BUSY)), NOW)
    assert sentences(found)[1:] == [
        "A retry is due in 8 s because attempt 1 ended with runner_disconnected: it was killed; until then others go before it."
    ]
    assert sentences(found, "Attempts") == ["Attempt 1 on runner r1 took 2 s: runner_disconnected: it was killed"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"priority": Priority.LOW}, "Its priority is low: it goes when no request of normal priority waits."),
        ({"deaths": 1}, "1 runner died in it: it never shares a runner with another such request."),
        ({"hint": "a-model"}, "It prefers a runner that knows 'a-model', but takes any that is free."),
        ({"deadline_ms": NOW + 20_000}, "If it has not begun in 20 s it ends: that is its start deadline."),
    ],
)
def test_a_waiting_request_says_what_sets_it_apart(changes: dict[str, Any], said: str) -> None:
    assert waits_for(an_app(FREE), **changes)[-1] == said


def test_of_another_accounts_app_only_the_place_is_told() -> None:
    found = of_request(a_request(owner="ada"), (), (), Waits(2, None), NOW)
    assert sentences(found) == ["It has waited for 60 s for a runner of ada/app.", "2 requests of this app go before it."]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"state": RequestState.IN_PROGRESS, "attempt": 2, "runner_id": "r1", "started_ms": NOW - 3_000, "cancel_asked": True},
            [
                "Attempt 2 has been under way for 3 s on runner r1.",
                "Its end is wanted: the app was told, and no further attempt begins.",
            ],
        ),
        (
            {
                "state": RequestState.COMPLETED,
                "attempt": 1,
                "status": 200,
                "finished_ms": NOW - 10_000,
                "expires_ms": NOW + 86_400_000 * 30,
            },
            ["It ended 10 s ago, 50 s after it was submitted, because the app answered 200.", "Its result is kept for another 30 days."],
        ),
        (
            {"state": RequestState.COMPLETED, "status": 504, "error": "too late", "error_type": "request_timeout", "finished_ms": NOW},
            ["It ended 0 ms ago, 60 s after it was submitted, with the error request_timeout: too late.", "No runner ever had it."],
        ),
        (
            {"state": RequestState.COMPLETED, "attempt": 3, "status": 200, "finished_ms": NOW, "retry_of": "q0"},
            [
                "It ended 0 ms ago, 60 s after it was submitted, because the app answered 200.",
                "It took 3 attempts.",
                "It tried request q0 once more.",
            ],
        ),
    ],
)
def test_a_request_that_does_not_wait_says_how_it_stands(changes: dict[str, Any], said: list[str]) -> None:
    assert sentences(of_request(a_request(**changes), (), (), Waits(0, None), NOW)) == said


# --- runners


STARTED = Event(1, NOW - 60_000, "runner:r1", "PENDING", "1 waiting needs 1 runner", "server", {})
COLD = ColdStart((("spawn", 12.0), ("connect", 600.0), ("setup", 4_200.0)), "CUDA was initialised")


def test_a_runner_says_why_it_was_started_and_what_that_cost() -> None:
    found = of_runner(replace(FREE, row=replace(ROW, cold_start=COLD)), (STARTED,), ALIAS.scale, NOW)
    assert sentences(found) == [
        "It is a runner of me/app, revision rev-aaaa, machine type S.",
        "It was started 60 s ago: 1 waiting needs 1 runner.",
        "Its cold start took 4.8 s: spawn 12 ms, connect 600 ms, setup 4.2 s.",
        "It was not forked from the template that was there: CUDA was initialised.",
        "It has been idle for 12 s; keep_alive is 60 s.",
        "This server has sent it 3 calls.",
    ]
    assert [(said.at_ms, said.text) for said in found[1].said] == [(NOW - 60_000, "PENDING: 1 waiting needs 1 runner (by server)")]


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        (SETUP, ["Its setup() runs."]),
        (replace(SETUP, state=RunnerState.PENDING), ["Its process starts and loads the class."]),
        (BUSY, ["It has 1 call; it takes 1 at once.", "This server has sent it 3 calls."]),
        (
            RunnerNow(replace(ROW, state=RunnerState.DRAINING, reason="idle for 60 s"), RunnerState.DRAINING, 1),
            ["It is on its way out (DRAINING) with 1 call: idle for 60 s."],
        ),
        (
            RunnerNow(
                replace(ROW, state=RunnerState.TERMINATED, reason="it was killed (SIGKILL)\nmore", ended_ms=NOW - 10_000),
                RunnerState.TERMINATED,
            ),
            ["It ended 10 s ago, after 50 s: it was killed (SIGKILL)."],
        ),
        (
            RunnerNow(
                replace(ROW, state=RunnerState.TERMINATED, reason="setup() raised: E", ended_ms=NOW, ready_ms=None), RunnerState.TERMINATED
            ),
            ["It ended 0 ms ago, after 60 s: setup() raised: E.", "It never became ready."],
        ),
    ],
)
def test_a_runner_says_what_it_does_or_why_it_ended(runner: RunnerNow, said: list[str]) -> None:
    assert sentences(of_runner(runner, (STARTED,), ALIAS.scale, NOW))[2:] == said


def test_a_runner_whose_story_is_forgotten_says_so() -> None:
    assert sentences(of_runner(FREE, (), None, NOW))[1] == "It was started 60 s ago; why is not kept any more."


# --- apps


def test_an_app_says_what_it_has_and_what_it_should_have() -> None:
    assert sentences(of_app(an_app(BUSY, SETUP, waiting=1, queued=2, decision=WANTS_TWO), AppPast(), NOW)) == [
        "me/app points to revision rev-aaaa.",
        "2 requests are queued, 1 caller waits at a connection, 1 call is in flight.",
        "It has 2 runners: 1 RUNNING, 1 SETUP.",
        "2 runners are wanted, as was decided 5 s ago: 2 waiting need 2 runners.",
        "The one runner is busy with 1 call, the oldest queued call for 30 s.",
        "max_concurrency 2 is reached.",
        "Runner r2 was started 4 s ago and its setup() runs; it has 10 min for each (startup_timeout).",
    ]


def test_an_app_that_sleeps_says_little() -> None:
    assert sentences(of_app(an_app(), AppPast(), NOW)) == [
        "me/app points to revision rev-aaaa.",
        "Nobody waits, and no call is in flight.",
        "It has no runner.",
    ]


def test_an_app_that_lacks_runners_says_why_even_when_nobody_waits() -> None:
    kept = replace(WANTS_TWO, runners=1, reason="min_concurrency keeps 1")
    assert sentences(of_app(an_app(decision=kept, held=NO_ROOM), AppPast(), NOW))[-2:] == [
        "1 runner is wanted, as was decided 5 s ago: min_concurrency keeps 1.",
        "For 40 s there has been no room for a further runner: 512 MB are free and M needs 2048.",
    ]


def test_an_apps_past_is_told_with_its_moments() -> None:
    moved = Release(
        "x", "me", "app", "main", ReleaseKind.MOVE, "rev-bbbbbbbb", "rolling", None, ReleaseState.FAILED, "no room", "key:k", NOW - 9_000
    )
    failed = replace(ROW, state=RunnerState.TERMINATED, ready_ms=None, ended_ms=NOW - 58_000, reason="setup() raised: E\ntrace")
    found = of_app(an_app(), AppPast((WANTS_TWO,), (moved,), (failed,)), NOW)
    assert [(part.title, said.at_ms, said.text) for part in found[1:] for said in part.said] == [
        ("Decisions", NOW - 5_000, "2 runners: 2 waiting need 2 runners (decided 3 times)"),
        ("Releases", NOW - 9_000, "to revision rev-bbbb by key:k: FAILED, no room"),
        ("Starts that did not become ready", NOW - 60_000, "runner r1 of revision rev-aaaa ended after 2 s: setup() raised: E"),
    ]


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 ms"),
        (999.4, "999 ms"),
        (999.9, "1 s"),
        (4_210, "4.2 s"),
        (9_960, "10 s"),
        (119_000, "119 s"),
        (120_000, "2 min"),
        (7_200_000, "2 h"),
        (86_400_000 * 2, "2 days"),
    ],
)
def test_durations_are_said_in_words_of_their_size(ms: float, said: str) -> None:
    found = of_runner(replace(FREE, row=replace(ROW, cold_start=ColdStart((("setup", ms),)))), (), None, NOW)
    assert f"Its cold start took {said}: setup {said}." in sentences(found)
