"""The checker itself: it passes a good history, and each invariant has a history that breaks it and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.histories.check import INVARIANTS, check, counts, run_again
from tests.histories.history import Called, Handled, History, Listed, Notified, Operation, Phase, Tried, Writer, read


def told(
    at: int,
    op: Operation,
    request: str = "r",
    *,
    key: str = "k",
    phase: Phase = "ok",
    code: int = 200,
    state: str = "",
    error_type: str = "",
    answer: str = "",
    attempt: int = 0,
    webhook: bool = False,
) -> tuple[Called, Called]:
    """A call that began a moment before `at` and ended at `at`."""
    call = f"{op}-{request}-{at}"
    begun = Called(at - 1, call, op, "invoke", key, request if op != "submit" else "", webhook=webhook)
    return begun, Called(at, call, op, phase, key, request, code, state, error_type, answer, attempt, webhook)


def run(began: int, ended: int | None, attempt: int = 1, token: str = "t1", *, request: str = "r", key: str = "k") -> tuple[Handled, ...]:
    start = Handled(began, "start", request, attempt, key, token)
    return (start,) if ended is None else (start, Handled(ended, "finish", request, attempt, key, token))


def listed(*attempts: Tried, request: str = "r") -> Listed:
    return Listed(request, "me/app", "COMPLETED", attempts)


LOST = Tried(1, "LOST", 20, 30)
SECOND = Tried(2, "ANSWERED", 40, 50)

GOOD = History(
    called=(
        *told(5, "submit", "", phase="unknown", code=0, webhook=True),
        *told(10, "submit", webhook=True),
        *told(12, "status", code=202, state="IN_QUEUE"),
        *told(45, "status", code=202, state="IN_PROGRESS"),
        *told(60, "status", state="COMPLETED"),
        *told(70, "result", answer="t2", attempt=2),
    ),
    handled=(*run(21, None), *run(41, 49, 2, "t2")),
    listed=(listed(LOST, SECOND),),
    notified=(Notified(55, "r", "OK", "same", "t2", 503), Notified(58, "r", "OK", "same", "t2", 200)),
)


def saying(*more: tuple[Called, Called]) -> History:
    return replace(GOOD, called=GOOD.called + tuple(one for pair in more for one in pair))


def doing(*more: tuple[Handled, ...]) -> History:
    return replace(GOOD, handled=GOOD.handled + tuple(one for runs in more for one in runs))


def notified(last: Notified) -> History:
    return replace(GOOD, notified=(*GOOD.notified[:-1], last))


def listing(*rows: Listed) -> History:
    return replace(GOOD, listed=rows)


BREAKS: dict[str, tuple[str, History]] = {
    "every_acknowledged_request_came_to_its_end": (
        "I1",
        replace(GOOD, called=tuple(one for one in GOOD.called if one.state != "COMPLETED")),
    ),
    "no_acknowledged_request_is_unknown_later": ("I1", saying(told(80, "status", phase="fail", code=404))),
    "every_acknowledged_request_is_listed": ("I1", replace(GOOD, called=GOOD.called[:-2], handled=(), listed=())),
    "a_final_state_stays": ("I2", saying(told(80, "status", state="COMPLETED", error_type="internal_error"))),
    "nothing_runs_after_the_end": ("I2", replace(doing(run(61, None, 3, "t3")), listed=None)),
    "no_attempt_runs_twice": ("I3", doing(run(44, None, 2, "t3"))),
    "attempts_begin_in_the_order_of_their_numbers": (
        "I3",
        replace(GOOD, handled=(*run(21, 22, 2, "t2"), *run(41, 49, 1, "t1"))),
    ),
    "attempts_are_listed_one_after_another": ("I3", listing(listed(replace(LOST, ended_ms=41), SECOND))),
    "every_run_is_a_listed_attempt": ("I3", doing(run(55, None, 3, "t3"))),
    "every_answer_is_the_same": ("I4", replace(saying(told(80, "result", answer="another")), listed=None)),
    "the_result_is_what_a_handler_answered": ("I4", replace(GOOD, handled=run(21, None) + run(41, None, 2, "t2"))),
    "the_result_is_of_the_attempt_that_is_listed_with_it": (
        "I4",
        listing(listed(replace(LOST, state="ANSWERED"), replace(SECOND, state="LOST"))),
    ),
    "a_key_is_one_request": ("I5", replace(doing(run(55, None, 1, "t3", request="other")), listed=None)),
    "a_request_is_of_one_key": ("I5", saying(told(80, "submit", key="other"))),
    "every_webhook_came": ("I6", replace(GOOD, notified=GOOD.notified[:-1])),
    "a_webhook_never_changes": ("I6", notified(Notified(58, "r", "OK", "other", "t2", 200))),
    "a_webhook_says_what_the_result_says": ("I6", notified(Notified(58, "r", "OK", "same", "t1", 200))),
    "nobody_is_told_who_did_not_ask": ("I6", replace(GOOD, called=tuple(replace(one, webhook=False) for one in GOOD.called))),
    "the_server_has_no_more_requests_than_keys": ("I5", listing(listed(LOST, SECOND), listed(request="ghost"))),
}


def test_a_history_in_which_a_runner_was_lost_and_a_submit_repeated_is_fine() -> None:
    assert check(GOOD) == []
    assert (counts(GOOD).accepted, counts(GOOD).runs, counts(GOOD).again, counts(GOOD).unknown) == (1, 2, 1, 1)


def test_every_sentence_has_a_history_that_breaks_it() -> None:
    assert {sentence.__name__ for sentences in INVARIANTS.values() for sentence in sentences} == set(BREAKS)


@pytest.mark.parametrize("sentence", BREAKS)
def test_a_broken_promise_is_found_by_its_own_sentence_alone(sentence: str) -> None:
    promise, history = BREAKS[sentence]
    found = {one.__name__ for sentences in INVARIANTS.values() for one in sentences if list(one(history))}
    assert found == {sentence}
    assert {violation.promise for violation in check(history)} == {promise}


@pytest.mark.parametrize(
    "fine",
    [
        pytest.param(lambda: saying(told(80, "status", phase="unknown", code=503)), id="an answer that never came says nothing"),
        pytest.param(lambda: saying(told(80, "status", "other", phase="fail", code=404)), id="an id that nobody was given may be unknown"),
        pytest.param(lambda: saying(told(80, "submit")), id="the same key again is the same request"),
        pytest.param(lambda: doing(run(42, 46, 1, "t1")[1:]), id="a zombie may come to its end while the next attempt runs"),
        pytest.param(lambda: saying(told(80, "cancel", phase="fail", code=400)), id="a cancel may come too late"),
    ],
)
def test_what_callers_and_runners_may_see_is_no_violation(fine: Callable[[], History]) -> None:
    assert check(fine()) == []


def test_a_question_asked_before_the_end_may_be_answered_after_it() -> None:
    """Two polls at once: the slower one may tell the older state."""
    slow = (Called(44, "slow", "status", "invoke", "k", "r"), Called(90, "slow", "status", "ok", "k", "r", 202, "IN_PROGRESS"))
    assert check(saying(slow)) == []


def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    callers = Writer(tmp_path / "callers.jsonl")
    for one in GOOD.called:
        callers.append(one)
    for row in (*(GOOD.listed or ()), *GOOD.notified):
        callers.append(row)
    callers.close()
    (tmp_path / "handlers.jsonl").write_text(
        "".join(
            f'{{"at": {one.at}, "what": "{one.what}", "request": "{one.request}", "attempt": {one.attempt}, "key": "{one.key}", "token": "{one.token}"}}\n'
            for one in GOOD.handled
        )
    )
    assert read(tmp_path) == GOOD


def test_finished_work_that_is_done_again_is_told_apart_from_what_was_cut() -> None:
    assert run_again(GOOD) == ()
    assert run_again(replace(GOOD, handled=(*run(21, 25), *run(41, 49, 2, "t2")))) == ("r",)
    zombie, second = run(21, 60), run(41, 49, 2, "t2")
    assert run_again(replace(GOOD, handled=(zombie[0], *second, zombie[1]))) == ()
