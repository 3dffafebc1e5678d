from __future__ import annotations

import pytest

from roost.core import pace
from roost.core.pace import Pace
from roost.core.webhooks import pause_ms


@pytest.mark.parametrize(("a_second", "gap_ms"), [(50, 20), (1000, 1), (3, 334), (0.5, 2000), (0, 0)])
def test_a_rate_is_a_distance_that_is_never_shorter(a_second: float, gap_ms: int) -> None:
    assert pace.of_rate(a_second) == Pace(gap_ms, at_once=1, gap_ms=gap_ms, rest_ms=0)


def test_who_answers_gets_more_at_once() -> None:
    now = pace.of_rate(50)
    seen = [now.at_once]
    for _ in range(5):
        now = pace.answered(now)
        seen.append(now.at_once)
    assert seen == [1, 2, 3, 4, 4, 4] and now.gap_ms == 20


def test_who_fails_gets_one_at_a_time_and_longer_rests() -> None:
    now = pace.answered(pace.answered(pace.of_rate(50)))
    rests: list[int] = []
    for _ in range(12):
        now = pace.failed(now)
        rests.append(now.rest_ms)
        assert now.at_once == 1
    assert rests[:5] == [0, 1000, 1500, 2250, 3375] and rests[-1] == pace.LONGEST_REST_MS


def test_who_comes_back_has_its_pace_back_after_some_answers() -> None:
    now = pace.failed(pace.failed(pace.of_rate(50)))
    gaps: list[int] = []
    for _ in range(7):
        now = pace.answered(now)
        gaps.append(now.gap_ms)
    assert gaps == [500, 250, 125, 62, 31, 20, 20] and (now.rest_ms, now.failures) == (0, 0)


def test_a_single_failure_costs_only_what_is_at_once() -> None:
    now = pace.answered(pace.failed(pace.answered(pace.of_rate(50))))
    assert (now.gap_ms, now.at_once) == (20, 2)


def test_a_webhook_that_is_alone_with_its_receiver_is_never_held_up_by_the_rests() -> None:
    now = pace.of_rate(50)
    for tries in range(32):
        now = pace.failed(now)
        assert now.rest_ms <= pause_ms(tries, 0.0)
