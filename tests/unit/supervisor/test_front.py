"""When the front is started again."""

from __future__ import annotations

import itertools

from roost.supervisor.front import LIVED_MS, Turn, ended, started


def waits(lives_ms: list[int]) -> list[int]:
    """How long each start waits after the end before it."""
    found: list[int] = []
    now_ms, turn = 0, Turn(0)
    for life_ms in lives_ms:
        assert turn.start_at_ms is not None
        now_ms = max(now_ms, turn.start_at_ms)
        turn = started(turn, now_ms)
        assert turn.start_at_ms is None
        now_ms += life_ms
        turn = ended(turn, now_ms)
        assert turn.start_at_ms is not None
        found.append(turn.start_at_ms - now_ms)
    return found


def test_one_that_has_lived_is_back_at_once() -> None:
    assert waits([LIVED_MS, LIVED_MS, 100_000]) == [0, 0, 0]


def test_one_that_dies_young_waits_longer_each_time_up_to_five_seconds() -> None:
    assert waits([0] * 40)[:8] == [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
    assert all(later >= earlier for earlier, later in itertools.pairwise(waits([0] * 1_000)))


def test_a_long_life_makes_the_short_ones_before_it_forgotten() -> None:
    assert waits([0, 0, 0, LIVED_MS, 0]) == [100, 200, 400, 0, 100]
