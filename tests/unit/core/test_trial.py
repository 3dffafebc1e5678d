from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core.trial import Budget, GiveBack, Passed, Tally, Watching, judge

BEGUN = 1_000_000
BUDGET = Budget()


def verdict(tally: Tally, before: Tally | None = None, *, after_ms: int = 10_000) -> Watching | Passed | GiveBack:
    return judge(BEGUN, tally, before or Tally(), BUDGET, BEGUN + after_ms)


def reason(tally: Tally, before: Tally | None = None) -> str:
    found = verdict(tally, before)
    return found.reason if isinstance(found, GiveBack) else ""


@pytest.mark.parametrize(
    ("calls", "errors", "gives_back"),
    [
        (0, 0, False),
        (100, 0, False),
        (100, 9, False),
        (100, 10, True),
        (25, 5, True),
        # few errors say nothing, however large their share
        (4, 4, False),
        (5, 5, True),
        (1_000, 99, False),
    ],
)
def test_a_share_of_errors_gives_back(calls: int, errors: int, gives_back: bool) -> None:
    assert bool(reason(Tally(calls, errors, "the app answered 500"))) is gives_back


def test_errors_are_compared_with_the_revision_before() -> None:
    twenty_percent = Tally(100, 20, "the app answered 500")
    assert reason(twenty_percent, Tally(1_000, 190)) == ""
    assert "9% with the revision before" in reason(twenty_percent, Tally(1_000, 90))


def test_the_reason_says_how_many_and_why() -> None:
    assert reason(Tally(50, 10, "the app answered 500")) == (
        "10 of its first 50 calls failed (20%; 10% may), the last one because the app answered 500"
    )


def test_runners_that_die_give_back() -> None:
    assert reason(Tally(deaths=2, last_death="killed by signal 11")) == ""
    assert "killed by signal 11" in reason(Tally(deaths=3, last_death="killed by signal 11"))


def test_starts_that_fail_give_back_only_if_none_ever_worked() -> None:
    assert "KeyError" in reason(Tally(failed_starts=1, last_failure="KeyError: 'weights'", was_ready=False))
    assert reason(Tally(failed_starts=1, last_failure="no room on the disk", was_ready=True)) == ""


def test_who_does_well_for_long_enough_keeps_the_alias() -> None:
    assert verdict(Tally(), after_ms=299_999) == Watching(1)
    assert verdict(Tally(1_000_000, 3), after_ms=300_000) == Passed()


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 400_000))
def test_more_errors_never_make_it_better(calls: int, errors: int, after_ms: int) -> None:
    errors = min(errors, calls)
    if isinstance(verdict(Tally(calls, errors), after_ms=after_ms), GiveBack) and errors < calls:
        assert isinstance(verdict(Tally(calls, errors + 1), after_ms=after_ms), GiveBack)
