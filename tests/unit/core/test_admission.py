from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core.admission import Admit, Call, Deadline, Limits, Outlook, Refuse, judge, start_deadline
from roost.wire.errors import CODES

NOW = 1_000_000
LIMITS = Limits()


def call(*, waited_ms: int = 0, deadline_ms: int | None = None, ahead: int = 0) -> Call:
    arrived = NOW - waited_ms
    return Call(arrived, Deadline(None if deadline_ms is None else arrived + deadline_ms), ahead)


def refused(verdict: Admit | Refuse) -> Refuse:
    assert isinstance(verdict, Refuse)
    return verdict


@pytest.mark.parametrize(("header", "ms"), [("1.5", 1_500), ("0.11", 110), (" 30 ", 30_000), ("1e2", 100_000), (".5", 500), ("2.", 2_000)])
def test_a_start_deadline_is_seconds_from_arrival(header: str, ms: int) -> None:
    assert start_deadline(header, None, NOW) == Deadline(NOW + ms)


@pytest.mark.parametrize("header", ["", "abc", "0.1", "0", "-5", "nan", "inf", "1_0", "5s", "1,5", "٣"])
def test_a_malformed_start_deadline_is_a_bad_request(header: str) -> None:
    verdict = start_deadline(header, 60_000, NOW)
    assert isinstance(verdict, Refuse)
    assert verdict.code == "bad_request"
    assert "X-Fal-Request-Timeout" in verdict.detail


def test_without_the_header_the_alias_default_holds_and_zero_clears_it() -> None:
    assert start_deadline(None, 5_000, NOW) == Deadline(NOW + 5_000)
    assert start_deadline(None, 0, NOW) == start_deadline(None, None, NOW) == Deadline(None)
    assert start_deadline("2", 5_000, NOW) == Deadline(NOW + 2_000)


@given(st.text(max_size=20))
def test_whatever_a_caller_sends_as_deadline_is_judged_without_an_exception(header: str) -> None:
    verdict = start_deadline(header, None, NOW)
    if isinstance(verdict, Deadline):
        assert verdict.at_ms is not None
        assert NOW + 100 <= verdict.at_ms < 2**62


def test_a_call_waits_while_nothing_speaks_against_it() -> None:
    assert judge(call(), Outlook(), LIMITS, NOW) == Admit(None)
    assert judge(call(waited_ms=300, deadline_ms=1_000), Outlook(), LIMITS, NOW) == Admit(700)


def test_a_passed_deadline_is_a_504_that_clients_do_not_retry() -> None:
    verdict = refused(judge(call(waited_ms=1_500, deadline_ms=1_500), Outlook(ready=1), LIMITS, NOW))
    assert CODES[verdict.code].status == 504
    assert verdict.code == "request_timeout"
    assert ("X-Fal-Request-Timeout-Type", "user") in verdict.headers
    assert "1.5 s" in verdict.detail


def test_one_call_too_many_is_refused_and_those_before_it_are_not() -> None:
    assert isinstance(judge(call(ahead=9_999), Outlook(), LIMITS, NOW), Admit)
    verdict = refused(judge(call(ahead=10_000), Outlook(), LIMITS, NOW))
    assert CODES[verdict.code].status == 429
    assert verdict.retry_after_ms


def test_three_failed_starts_are_the_end_and_the_caller_hears_why() -> None:
    outlook = Outlook(failed_starts=3, last_failure="setup() raised ValueError: no weights", next_start_ms=NOW + 90_000)
    verdict = refused(judge(call(), outlook, LIMITS, NOW))
    assert verdict.code == "startup_timeout"
    assert "no weights" in verdict.detail
    assert verdict.retry_after_ms == 90_000


def test_two_failed_starts_are_not_yet_the_end() -> None:
    assert isinstance(judge(call(), Outlook(failed_starts=2, next_start_ms=NOW + 60_000), LIMITS, NOW), Admit)


def test_after_the_back_off_a_call_may_wait_again_so_that_a_start_is_tried() -> None:
    assert isinstance(judge(call(), Outlook(failed_starts=7, next_start_ms=NOW), LIMITS, NOW), Admit)


def test_no_room_for_a_minute_is_a_scheduling_failure_counted_from_the_callers_arrival() -> None:
    outlook = Outlook(no_room_since_ms=NOW - 500_000, no_room="GPU-H100 needs 1 x H100, and 2 of 2 are in use")
    assert judge(call(waited_ms=20_000), outlook, LIMITS, NOW) == Admit(40_000)
    verdict = refused(judge(call(waited_ms=60_000), outlook, LIMITS, NOW))
    assert verdict.code == "runner_scheduling_failure"
    assert "2 of 2 are in use" in verdict.detail


def test_no_room_that_began_after_the_call_arrived_counts_from_its_beginning() -> None:
    assert judge(call(waited_ms=90_000), Outlook(no_room_since_ms=NOW - 10_000), LIMITS, NOW) == Admit(50_000)


def test_when_no_runner_can_ever_come_nobody_waits() -> None:
    verdict = refused(judge(call(), Outlook(hopeless="its revision failed"), LIMITS, NOW))
    assert verdict.code == "runner_scheduling_failure"
    assert "its revision failed" in verdict.detail


def test_failing_starts_and_full_machines_are_nothing_to_a_caller_whose_app_has_a_ready_runner() -> None:
    outlook = Outlook(ready=1, failed_starts=9, next_start_ms=NOW + 1, no_room_since_ms=NOW - 10**6, hopeless="x")
    assert judge(call(waited_ms=10**6), outlook, LIMITS, NOW) == Admit(None)


@given(
    st.integers(0, 100_000),
    st.none() | st.integers(101, 200_000),
    st.none() | st.integers(0, 100_000),
    st.integers(0, 2),
    st.integers(0, 200_000),
)
def test_a_call_that_may_wait_is_asked_again_later_and_meets_no_other_answer_before(
    waited_ms: int, deadline_ms: int | None, no_room_ms: int | None, ready: int, pause_ms: int
) -> None:
    outlook = Outlook(ready=ready, no_room_since_ms=None if no_room_ms is None else NOW - no_room_ms)
    patient = call(waited_ms=waited_ms, deadline_ms=deadline_ms)
    verdict = judge(patient, outlook, LIMITS, NOW)
    if isinstance(verdict, Admit):
        assert verdict.recheck_ms is None or verdict.recheck_ms > 0
        later = judge(patient, outlook, LIMITS, NOW + pause_ms)
        assert isinstance(later, Admit) == (verdict.recheck_ms is None or pause_ms < verdict.recheck_ms)
