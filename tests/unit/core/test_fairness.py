"""Slot time between callers and the queue, simulated over minutes."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from roost.core import fairness
from roost.core.fairness import Shares, Side, Use

Length = Callable[[random.Random], int]


def always(ms: int) -> Length:
    return lambda dice: ms


def spread(low: int, high: int) -> Length:
    return lambda dice: dice.randint(low, high)


def mixed(dice: random.Random) -> int:
    return 5 if dice.random() < 0.9 else 5_000


def share_of_queue(slots: int, direct: Length, queued: Length, handouts: int = 4_000) -> float:
    """Both sides always have somebody waiting: how much of the slots' time the queue gets."""
    dice = random.Random(1)
    shares = Shares()
    lengths = {Side.DIRECT: direct, Side.QUEUED: queued}
    got = {Side.DIRECT: 0, Side.QUEUED: 0}
    ends: list[tuple[int, int, Side]] = []
    now = 0
    for number in range(handouts):
        if len(ends) == slots:
            now, _, side = heapq.heappop(ends)
            shares = fairness.gave_back(shares, side, now)
        side = fairness.whose(shares, now)
        shares = fairness.took(shares, side, now, contested=True)
        length = lengths[side](dice)
        got[side] += length
        heapq.heappush(ends, (now + length, number, side))
    return got[Side.QUEUED] / sum(got.values())


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize(
    ("direct", "queued"),
    [
        (always(10), always(10)),
        (always(10), always(1_000)),
        (always(300), always(7)),
        (spread(1, 200), spread(500, 4_000)),
        (mixed, mixed),
        (mixed, always(50)),
    ],
)
def test_both_sides_get_half_of_the_slots_time_however_long_their_calls_are(slots: int, direct: Length, queued: Length) -> None:
    assert 0.4 <= share_of_queue(slots, direct, queued) <= 0.6


def test_time_alone_gives_no_claim_on_the_time_after_it() -> None:
    shares = Shares()
    for now in range(0, 3_600_000, 100):
        shares = fairness.took(shares, Side.DIRECT, now, contested=False)
        shares = fairness.gave_back(shares, Side.DIRECT, now + 100)
    turns: list[Side] = []
    for now in range(3_600_000, 3_602_000, 100):
        turns.append(fairness.whose(shares, now))
        shares = fairness.took(shares, turns[-1], now, contested=True)
        shares = fairness.gave_back(shares, turns[-1], now + 100)
    assert 8 <= turns.count(Side.QUEUED) <= 12


def test_a_caller_goes_first_when_nobody_has_had_anything() -> None:
    assert fairness.whose(Shares(), 0) is Side.DIRECT


def test_who_holds_fewer_slots_goes_first() -> None:
    assert fairness.whose(Shares(Use(3, 0), Use(1, 10_000)), 0) is Side.QUEUED


def test_time_counts_while_a_slot_is_held() -> None:
    shares = fairness.took(Shares(at_ms=1_000), Side.QUEUED, 1_000, contested=True)
    assert fairness.passed(shares, 4_000).queued == Use(1, 3_000)


def test_a_clock_that_goes_back_takes_no_time_away() -> None:
    shares = Shares(Use(1, 50), Use(0, 0), at_ms=1_000)
    assert fairness.passed(shares, 500) == shares
