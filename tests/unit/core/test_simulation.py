"""Hours of traffic through the real decisions in virtual time (spec: scaling-routing.md §1-2, app-lifecycle.md §4)."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core.model import Scale
from roost.core.scaling import NEVER_USED_MS
from roost.core.simulation import NO_ROOM_RETRY_MS, Arrival, Fails, Ground, NoRoom, Outcome, Ready, Start, changed, fixed, run

COLD = Ground(fixed(1_000))
HOUR_MS = 3_600_000


def every(ms: int, *, times: int, service_ms: int = 200, begin_ms: int = 0) -> list[Arrival]:
    return [Arrival(begin_ms + number * ms, service_ms) for number in range(times)]


def poisson(rate_of: Callable[[float], float], seconds: int, service_ms: Callable[[random.Random], float], seed: int = 1) -> list[Arrival]:
    """Calls at a rate (a second) that changes over time."""
    dice = random.Random(seed)
    top = max(rate_of(at) for at in range(0, seconds, 60))
    found: list[Arrival] = []
    at = dice.expovariate(top)
    while at < seconds:
        if dice.random() < rate_of(at) / top:
            found.append(Arrival(int(at * 1000), int(service_ms(dice))))
        at += dice.expovariate(top)
    return found


def day(hours: int = 24) -> list[Arrival]:
    """A night with a call a minute, a noon with one in three seconds, of about two seconds each."""
    wave = lambda at: 0.02 + 0.3 * (1 + math.sin(2 * math.pi * at / 86_400 - 1.5)) / 2  # noqa: E731
    return poisson(wave, hours * 3_600, lambda dice: dice.lognormvariate(math.log(2_000), 0.5))


def short_lives(outcome: Outcome, less_than_ms: int) -> list[int]:
    """How long they lived that had work and went all the same. One that came too late for its call goes after 10 s, by the specification."""
    return [
        life.ended_ms - life.started_ms
        for life in outcome.lives
        if life.ended_ms - life.started_ms < less_than_ms and (life.served or life.ended_ms - life.started_ms < NEVER_USED_MS)
    ]


def test_one_call_pays_one_cold_start_and_its_runner_goes_after_keep_alive() -> None:
    outcome = run([Arrival(5_000, 300)], Scale(keep_alive_ms=30_000), COLD)
    assert outcome.waits_ms == (1_000,)
    (life,) = outcome.lives
    assert (life.started_ms, life.ready_ms, life.ended_ms) == (5_000, 6_000, 36_300)
    assert outcome.runner_ms == 31_300


def test_calls_during_keep_alive_find_the_runner_ready() -> None:
    outcome = run(every(20_000, times=10), Scale(keep_alive_ms=30_000), COLD)
    assert outcome.waits_ms == (1_000, *(0,) * 9)
    assert len(outcome.lives) == 1


def test_a_longer_keep_alive_trades_runner_seconds_for_waiting() -> None:
    calls = every(20_000, times=50)
    short, long = (run(calls, Scale(keep_alive_ms=ms), COLD) for ms in (10_000, 30_000))
    assert short.wait_ms(0.5) == 1_000 and long.wait_ms(0.5) == 0
    assert short.runner_ms < long.runner_ms


def test_multiplexing_serves_the_same_burst_with_fewer_runners() -> None:
    burst = [Arrival(0, 5_000)] * 40
    one, four = (run(burst, Scale(max_concurrency=100, max_multiplexing=slots), COLD) for slots in (1, 4))
    assert (one.peak, four.peak) == (40, 10)
    assert one.wait_ms(1) == four.wait_ms(1) == 1_000


def test_max_concurrency_makes_a_burst_wait_in_line() -> None:
    outcome = run([Arrival(0, 1_000)] * 10, Scale(max_concurrency=2), COLD)
    assert outcome.waits_ms == (1_000, 1_000, 2_000, 2_000, 3_000, 3_000, 4_000, 4_000, 5_000, 5_000)
    assert outcome.peak == 2


def test_a_buffer_takes_the_cold_start_out_of_slow_growth() -> None:
    growing = [Arrival(at * 5_000, 60_000) for at in range(10)]
    bare, buffered = (run(growing, Scale(max_concurrency=30, concurrency_buffer=buffer), COLD) for buffer in (0, 2))
    assert bare.wait_ms(0.5) == 1_000
    assert buffered.waits_ms == (1_000, *(0,) * 9)  # the simulation begins with the first call: the buffer is not there before it


def test_scaling_delay_lets_short_peaks_pass() -> None:
    peaks = [Arrival(0, 400)] + [Arrival(at * 60_000 + more, 400) for at in range(1, 20) for more in (0, 50, 100)]
    eager, patient = (run(peaks, Scale(keep_alive_ms=90_000, scaling_delay_ms=ms), COLD) for ms in (0, 2_000))
    assert (eager.peak, patient.peak) == (3, 1)


def test_a_day_is_served_with_few_waits_and_without_flapping() -> None:
    calls = day()
    outcome = run(calls, Scale(keep_alive_ms=60_000, max_concurrency=30), COLD)
    assert outcome.unserved == 0 and len(outcome.waits_ms) == len(calls) > 10_000
    assert outcome.wait_ms(0.95) == 0 and outcome.wait_ms(0.999) <= 1_000
    # Stopped and started again for the same need within keep_alive: never.
    assert short_lives(outcome, 60_000) == []


def test_bursts_an_hour_apart_start_and_end_the_same_runners_each_time() -> None:
    bursts = [Arrival(hour * HOUR_MS + number, 2_000) for hour in range(6) for number in range(50)]
    outcome = run(bursts, Scale(max_concurrency=10), COLD)
    assert len(outcome.lives) == 60 and outcome.peak == 10
    assert short_lives(outcome, 60_000) == []


def test_a_crash_loop_is_tried_ever_more_slowly() -> None:
    outcome = run([Arrival(0, 100)], Scale(), Ground(lambda number, now_ms, living: Fails(500)), until_ms=2 * HOUR_MS)
    starts = sorted(life.started_ms for life in outcome.lives)
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert gaps[:4] == [30_500, 60_500, 90_500, 120_500] and max(gaps) == 600_500
    assert outcome.unserved == 1
    assert any("failed starts in a row" in reason for reason in outcome.held)


def test_a_crash_loop_that_ends_wakes_all_missing_runners_at_once() -> None:
    def heals(number: int, now_ms: int, living: int) -> Start:
        return Ready(1_000) if now_ms >= 60_000 else Fails(500)

    outcome = run([Arrival(0, 10_000)] * 8, Scale(max_concurrency=8), Ground(heals))
    assert outcome.unserved == 0
    ready = sorted(life.ready_ms for life in outcome.lives if life.ready_ms is not None)
    # One finds out, the others follow it.
    assert len(ready) == 8 and ready[1:] == [ready[0] + 1_000] * 7


def test_without_room_a_start_is_tried_again_every_twenty_seconds() -> None:
    asked: list[int] = []

    def full(number: int, now_ms: int, living: int) -> Start:
        asked.append(now_ms)
        return Ready(1_000) if len(asked) == 5 else NoRoom("S needs 1 CPUs")

    outcome = run([Arrival(0, 100)], Scale(), Ground(full))
    assert asked == [number * NO_ROOM_RETRY_MS for number in range(5)]
    assert outcome.waits_ms == (81_000,)
    assert "S needs 1 CPUs" in outcome.held


def test_what_is_always_there_does_not_keep_the_simulation_going() -> None:
    outcome = run(every(1_000, times=3), Scale(min_concurrency=2), COLD)
    assert outcome.peak == 2 and outcome.unserved == 0


def test_nothing_at_all_costs_nothing() -> None:
    assert run([], Scale(), COLD) == Outcome((), ())


def test_other_numbers_are_asked_for_by_name() -> None:
    assert changed(Scale(), keep_alive_ms=5).keep_alive_ms == 5
    with pytest.raises(TypeError):
        changed(Scale(), keep_alife_ms=5)


CALLS = st.lists(st.builds(Arrival, st.integers(0, 600_000), st.integers(1, 60_000)), min_size=1, max_size=60)
POLICIES = st.builds(
    Scale,
    keep_alive_ms=st.sampled_from((0, 1_000, 60_000)),
    min_concurrency=st.integers(0, 2),
    max_concurrency=st.integers(2, 6),
    concurrency_buffer=st.integers(0, 2),
    scaling_delay_ms=st.sampled_from((0, 500, 5_000)),
    max_multiplexing=st.integers(1, 4),
)


@given(CALLS, POLICIES)
def test_every_call_is_served_within_the_limits_and_the_same_again(calls: list[Arrival], policy: Scale) -> None:
    outcome = run(calls, policy, COLD)
    assert outcome.unserved == 0
    assert outcome.peak <= policy.max_concurrency
    assert sum(life.served for life in outcome.lives) == len(calls)
    assert outcome == run(calls, policy, COLD)


@given(CALLS, POLICIES)
def test_no_used_runner_goes_before_its_keep_alive(calls: list[Arrival], policy: Scale) -> None:
    outcome = run(calls, policy, COLD)
    for life in outcome.lives:
        if life.served and life.reason == "drained":
            assert life.ended_ms - life.started_ms >= policy.keep_alive_ms


def test_who_is_served_before_anybody_has_looked_starts_nothing() -> None:
    ground = Ground(fixed(1_000), reaction_ms=5)
    outcome = run([Arrival(0, 100), Arrival(2_000, 3), Arrival(2_001, 3)], Scale(), ground)
    assert (outcome.waits_ms, outcome.peak) == ((1_005, 0, 2), 1)


def test_calls_of_the_queue_take_turns_with_those_at_a_connection() -> None:
    calls = [Arrival(number, 100, queued=number < 4) for number in range(8)]
    outcome = run(calls, Scale(max_concurrency=1), COLD)
    first_of_each = sorted(outcome.waits_ms[:2] + outcome.waits_ms[4:6])
    assert sorted(outcome.waits_ms)[:4] == first_of_each
