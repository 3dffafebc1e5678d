"""What follows the end of an attempt, as tables of cases (queue.md §6, GAPS B1-B4)."""

from __future__ import annotations

import pytest

from roost.core import retry
from roost.core.requests import Again, AttemptState, Content, Output, Request, RequestState, RetryRules
from roost.core.retry import Answered, Broken, Fail, Lost, Moved, Outcome, Step, Take, TimedOut, Unusable
from roost.testkit import blank
from roost.wire.spec import AppSpec

NOW = 1_700_000_000_000
PLAIN = RetryRules()

REQUEST = blank.REQUEST._replace(seq=1, id="req-1", state=RequestState.IN_PROGRESS, attempt=1, created_ms=NOW - 5_000, rules=PLAIN)


def answer(status: int, *headers: tuple[bytes, bytes]) -> Answered:
    return Answered(Output(status, headers, Content()), 12)


def wish(status: int, word: bytes) -> Answered:
    return answer(status, (b"x-fal-needs-retry", word))


DIED = Broken("runner_disconnected", "killed by signal 9", death=True)
BROKE_OFF = Broken("runner_disconnected", "it went away")
HALF = Broken("runner_incomplete_response", "it went away after its response had begun")
RESET = Broken("runner_connection_error", "the connection was reset")
SLOW = TimedOut(2_000)
LOST = Lost("its runner was silent for 10 s")


def step(outcome: Outcome, request: Request = REQUEST, now_ms: int = NOW) -> Step:
    return retry.next_step(outcome, request, now_ms, 0.5)


@pytest.mark.parametrize(
    ("outcome", "condition"),
    [
        (answer(503), "server_error"),
        (answer(504), "server_error"),
        (BROKE_OFF, "server_error"),
        (DIED, "server_error"),
        (HALF, "server_error"),
        (LOST, "server_error"),
        (RESET, "connection_error"),
        (SLOW, "timeout"),
    ],
)
def test_a_failure_is_tried_again_under_its_condition(outcome: Outcome, condition: str) -> None:
    again = step(outcome)
    assert isinstance(again, Again)
    assert (again.condition, again.counted, again.due_ms) == (condition, True, NOW + 1_000)


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 422, 429, 500, 502])
def test_other_answers_are_the_result(status: int) -> None:
    taken = step(answer(status))
    assert isinstance(taken, Take)
    assert (taken.final.status, taken.final.attempt_state, taken.final.inference_ms) == (status, AttemptState.ANSWERED, 12)
    assert taken.final.error == ("" if status < 400 else f"Invalid status code: {status}")
    assert taken.final.error_type == ""


@pytest.mark.parametrize(
    ("outcome", "tries_again"),
    [
        (wish(500, b"1"), True),
        (wish(429, b"true"), True),
        (wish(503, b"0"), False),
        (wish(504, b"FALSE"), False),
        (wish(200, b"1"), False),
        (wish(422, b"1"), False),
        (wish(500, b"maybe"), False),
        (wish(503, b"maybe"), True),
    ],
)
def test_the_app_decides_on_5xx_and_429_only(outcome: Outcome, tries_again: bool) -> None:
    assert isinstance(step(outcome), Again) is tries_again


def test_the_apps_wish_beats_budgets_and_the_skip_list_but_not_the_ceiling() -> None:
    strict = RetryRules(budgets=(("server_error", 0),), skip=("server_error",))
    assert isinstance(step(wish(503, b"1"), REQUEST._replace(rules=strict)), Again)
    assert isinstance(step(wish(503, b"1"), REQUEST._replace(used=(("needs_retry", 9),))), Take)


@pytest.mark.parametrize(
    ("rules", "used", "tries_again"),
    [
        (PLAIN, (), True),
        (PLAIN, (("server_error", 8),), True),
        (PLAIN, (("server_error", 9),), False),
        (PLAIN, (("server_error", 4), ("timeout", 4)), True),
        (PLAIN, (("server_error", 5), ("timeout", 4)), False),  # the ceiling is over all conditions
        (RetryRules(never=True), (), False),
        (RetryRules(never=True, budgets=(("server_error", 5),)), (), False),
        (RetryRules(budgets=(("server_error", 0),)), (), False),
        (RetryRules(budgets=(("server_error", 2),)), (("server_error", 1),), True),
        (RetryRules(budgets=(("server_error", 2),)), (("server_error", 2),), False),
        (RetryRules(budgets=(("server_error", 2),)), (("timeout", 2),), True),  # budgets are independent
        (RetryRules(budgets=(("server_error", 99),)), (("server_error", 9),), False),
        (RetryRules(budgets=(("timeout", 0),)), (), True),
        (RetryRules(skip=("server_error",)), (), False),
        (RetryRules(skip=("timeout",)), (), True),
        (RetryRules(budgets=(("server_error", 1),), skip=("server_error",)), (), True),  # an explicit entry beats the skip list
    ],
)
def test_rules_and_budgets_decide(rules: RetryRules, used: tuple[tuple[str, int], ...], tries_again: bool) -> None:
    request = REQUEST._replace(rules=rules, used=used, attempt=1 + sum(n for _, n in used))
    assert isinstance(step(BROKE_OFF, request), Again) is tries_again
    assert isinstance(step(answer(503), request), Again) is tries_again


def test_an_attempt_that_was_moved_goes_back_at_once_and_counts_nothing() -> None:
    moved = step(Moved("its runner was drained"), REQUEST._replace(attempt=40, used=(("server_error", 9),)))
    assert isinstance(moved, Again)
    assert (moved.due_ms, moved.counted, moved.death, moved.attempt_state) == (None, False, False, AttemptState.LOST)


def test_what_cannot_be_sent_or_kept_fails_at_once() -> None:
    failed = step(Unusable("response_headers_too_large", "more than 16 KB"))
    assert isinstance(failed, Fail)
    assert (failed.final.status, failed.final.error_type, failed.final.output) == (502, "response_headers_too_large", None)


def test_a_start_deadline_that_has_passed_ends_a_failed_attempt_before_its_rules_are_asked() -> None:
    late = REQUEST._replace(deadline_ms=NOW, rules=RetryRules(skip=("server_error",)))
    for outcome in (BROKE_OFF, answer(503), wish(503, b"1")):
        failed = step(outcome, late)
        assert isinstance(failed, Fail)
        assert (failed.final.status, failed.final.error_type, failed.final.timeout_type) == (504, "request_timeout", "user")
    assert isinstance(step(BROKE_OFF, late, NOW - 1), Fail)  # then the skip list decides
    assert isinstance(step(answer(200), late), Take), "it is not enforced once processing has begun"


def test_never_beats_the_start_deadline() -> None:
    failed = step(SLOW, REQUEST._replace(deadline_ms=NOW - 1, rules=RetryRules(never=True)))
    assert isinstance(failed, Fail)
    assert (failed.final.timeout_type, failed.final.error_type) == ("", "request_timeout")


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (BROKE_OFF, 503, "runner_disconnected"),
        (HALF, 502, "runner_incomplete_response"),
        (RESET, 503, "runner_connection_error"),
        (SLOW, 504, "request_timeout"),
        (LOST, 503, "runner_disconnected"),
    ],
)
def test_the_last_failure_is_the_final_error(outcome: Outcome, status: int, code: str) -> None:
    failed = step(outcome, REQUEST._replace(rules=RetryRules(never=True)))
    assert isinstance(failed, Fail)
    assert (failed.final.status, failed.final.error_type) == (status, code)
    assert failed.final.error and failed.final.outcome


def test_the_last_answer_of_the_app_is_the_result_when_no_retry_is_left() -> None:
    taken = step(answer(503), REQUEST._replace(used=(("server_error", 9),)))
    assert isinstance(taken, Take)
    assert taken.final.output is not None and taken.final.status == 503


def test_a_request_that_kills_three_runners_is_parked_for_good() -> None:
    assert isinstance(step(DIED, REQUEST._replace(deaths=1)), Again)
    parked = step(DIED, REQUEST._replace(deaths=2))
    assert isinstance(parked, Fail)
    assert parked.final.status == 503 and "parked" in parked.final.error and "roost requests retry req-1" in parked.final.error
    assert isinstance(step(BROKE_OFF, REQUEST._replace(deaths=2)), Again), "a runner that was told to go is no death"


def test_a_cancelled_request_is_not_tried_again() -> None:
    asked = REQUEST._replace(cancel_asked=True)
    for outcome in (BROKE_OFF, SLOW, LOST, Moved("drained"), DIED):
        failed = step(outcome, asked)
        assert isinstance(failed, Fail)
        assert (failed.final.status, failed.final.error_type) == (499, "client_cancelled")


@pytest.mark.parametrize(("status", "error_type"), [(200, ""), (499, "client_cancelled"), (503, "")])
def test_what_the_app_answers_to_a_cancel_is_the_result(status: int, error_type: str) -> None:
    taken = step(answer(status), REQUEST._replace(cancel_asked=True))
    assert isinstance(taken, Take)
    assert (taken.final.status, taken.final.error_type) == (status, error_type)
    assert taken.final.output is not None


def test_pauses_double_up_to_a_minute_with_a_quarter_of_jitter() -> None:
    assert [retry.pause_ms(n, 0.5) for n in (0, 1, 2, 5, 6, 9, 500)] == [1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000]
    assert (retry.pause_ms(0, 0.0), retry.pause_ms(0, 1.0)) == (750, 1_250)


def test_a_pause_grows_with_all_retries_so_far() -> None:
    again = step(SLOW, REQUEST._replace(used=(("server_error", 1), ("timeout", 1))))
    assert isinstance(again, Again)
    assert again.due_ms == NOW + 4_000


@pytest.mark.parametrize(
    ("header", "budgets"),
    [
        (b'{"server_error":{"retries":3},"timeout":{"retries":0}}', {"server_error": 3, "timeout": 0}),
        (b'{"connection_error":{"retries":-4}}', {"connection_error": 0}),
        (b'{"server_error":3}', {}),
        (b'{"server_error":{"retries":"3"}}', {}),
        (b'{"server_error":{"retries":true}}', {}),
        (b'{"server_error":{"retries":1.5}}', {}),
        (b'{"server_error":{}}', {}),
        (b'{"CLIENT_ERROR":{"retries":3},"timeout":{"retries":1}}', {"timeout": 1}),
        (b'{"timeout":{"retries":100000000000000000000}}', {"timeout": 10}),
        (b"[]", {}),
        (b"null", {}),
        (b"{", {}),
        (b"\xff\xfe", {}),
        (b"[" * 100_000, {}),
    ],
)
def test_a_retry_config_header_is_read_and_nonsense_in_it_ignored(header: bytes, budgets: dict[str, int]) -> None:
    assert retry.budgets_of(header) == budgets


SPEC = AppSpec("app", "App", "3.11", skip_retry_conditions=("timeout",), retry_config=(("server_error", 2), ("connection_error", 1)))
CONFIG = (b"x-fal-retry-config", b'{"server_error":{"retries":7}}')


def test_the_rules_of_a_request_come_from_its_app_and_its_owners_header() -> None:
    assert retry.rules_of(SPEC, [], owns=True) == RetryRules(False, (("server_error", 2), ("connection_error", 1)), ("timeout",))
    assert dict(retry.rules_of(SPEC, [CONFIG], owns=True).budgets) == {"server_error": 7, "connection_error": 1}
    assert dict(retry.rules_of(SPEC, [CONFIG], owns=False).budgets) == {"server_error": 2, "connection_error": 1}
    assert retry.rules_of(None, [], owns=False) == RetryRules()


@pytest.mark.parametrize(("value", "never"), [(b"1", True), (b"True", True), (b"yes", True), (b"0", False), (b"no", False), (b"", False)])
def test_no_retry_is_anybodys_to_ask(value: bytes, never: bool) -> None:
    assert retry.rules_of(SPEC, [(b"x-fal-no-retry", value)], owns=False).never is never
