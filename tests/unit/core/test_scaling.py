from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core.model import RunnerSeen, RunnerState, Scale
from roost.core.scaling import NEVER_USED_MS, Decision, Memory, Seen, decide

NOW = 10_000_000


def runner(name: str, state: RunnerState = RunnerState.IDLE, *, idle_ms: int = 0, served: int = 1, in_flight: int = 0) -> RunnerSeen:
    return RunnerSeen(
        name,
        "rev",
        state,
        since_ms=NOW - idle_ms,
        created_ms=NOW - idle_ms - 500,
        ready_ms=NOW - idle_ms,
        idle_since_ms=NOW - idle_ms if state is RunnerState.IDLE else None,
        served=served,
        in_flight=in_flight,
    )


def busy(name: str, calls: int = 1) -> RunnerSeen:
    return runner(name, RunnerState.RUNNING, in_flight=calls)


def look(policy: Scale, *runners: RunnerSeen, waiting: int = 0, waited_ms: int = 0, memory: Memory | None = None) -> Decision:
    return decide(policy, Seen((NOW - waited_ms,) * waiting, runners), memory or Memory(), NOW)


def going(decision: Decision) -> list[str]:
    return [item.runner_id for item in decision.surplus]


MIN1_BUFFER1 = Scale(min_concurrency=1, concurrency_buffer=1, max_concurrency=10)
MIN3_BUFFER2 = Scale(min_concurrency=3, concurrency_buffer=2, max_concurrency=10)
MUX4_BUFFER2 = Scale(concurrency_buffer=2, max_multiplexing=4, max_concurrency=6)
PERCENT20 = Scale(concurrency_buffer_perc=20, max_concurrency=100)
PERCENT20_MUX4 = Scale(concurrency_buffer_perc=20, max_multiplexing=4, max_concurrency=100)
PERCENT_OR_ONE = Scale(concurrency_buffer_perc=20, concurrency_buffer=1, max_concurrency=100)


@pytest.mark.parametrize(
    ("policy", "demand", "runners"),
    [
        (Scale(), 0, 0),
        (Scale(), 1, 1),
        (Scale(), 7, 7),
        (Scale(max_concurrency=4), 7, 4),
        (Scale(max_multiplexing=4), 4, 1),
        (Scale(max_multiplexing=4), 5, 2),
        # the documented examples of scaling-routing.md §2
        (MIN1_BUFFER1, 0, 1),
        (MIN1_BUFFER1, 1, 2),
        (MIN1_BUFFER1, 30, 10),
        (MIN3_BUFFER2, 0, 3),
        (MIN3_BUFFER2, 1, 3),
        (MIN3_BUFFER2, 2, 4),
        (MIN3_BUFFER2, 8, 10),
        (MUX4_BUFFER2, 0, 2),
        (MUX4_BUFFER2, 4, 3),
        (MUX4_BUFFER2, 5, 4),
        (MUX4_BUFFER2, 8, 4),
        (MUX4_BUFFER2, 13, 6),
        (MUX4_BUFFER2, 100, 6),
        # a percentage is rounded up, and of runners, not calls, under multiplexing (GAPS C18)
        (PERCENT20, 0, 0),
        (PERCENT20, 1, 2),
        (PERCENT20, 10, 12),
        (PERCENT20, 11, 14),
        (PERCENT20_MUX4, 40, 12),
        (PERCENT_OR_ONE, 0, 1),
        (PERCENT_OR_ONE, 10, 12),
    ],
)
def test_the_formula_gives_the_documented_numbers(policy: Scale, demand: int, runners: int) -> None:
    assert look(policy, waiting=demand).runners == runners


def test_calls_in_flight_count_like_waiting_ones_but_not_those_on_runners_that_leave() -> None:
    leaving = replace(busy("old"), state=RunnerState.DRAINING)
    assert look(Scale(), busy("a"), leaving, waiting=1).runners == 2


def test_the_reason_says_what_was_counted_and_what_capped_it() -> None:
    decision = look(Scale(max_multiplexing=2, max_concurrency=1), busy("a"), waiting=3)
    assert decision.reason == "3 waiting + 1 in flight over multiplexing 2 need 2 runners; capped at max_concurrency 1"
    assert look(Scale(min_concurrency=2)).reason == "no demand; min_concurrency keeps 2"


def test_a_call_younger_than_scaling_delay_does_not_start_a_runner_yet() -> None:
    policy = Scale(scaling_delay_ms=2_000)
    young = look(policy, waiting=3, waited_ms=500)
    assert (young.runners, young.recheck_ms) == (0, 1_500)
    assert "do not count yet" in young.reason
    assert look(policy, waiting=3, waited_ms=2_000).runners == 3


def test_an_idle_runner_goes_after_keep_alive_and_not_before() -> None:
    policy = Scale(keep_alive_ms=60_000)
    early = look(policy, runner("a", idle_ms=59_999))
    assert (going(early), early.recheck_ms) == ([], 1)
    assert going(look(policy, runner("a", idle_ms=60_000))) == ["a"]


def test_the_longest_idle_one_goes_first() -> None:
    runners = [runner("young", idle_ms=61_000), runner("old", idle_ms=90_000), busy("x")]
    assert going(look(Scale(min_concurrency=2), *runners)) == ["old"]


def test_runners_inside_min_concurrency_or_the_buffer_stay_however_long_they_idle() -> None:
    ages = [runner("a", idle_ms=10**6), runner("b", idle_ms=10**6)]
    for policy in (Scale(min_concurrency=2), Scale(concurrency_buffer=2)):
        decision = look(policy, *ages)
        assert (going(decision), decision.recheck_ms) == ([], None)


def test_a_runner_that_never_took_a_call_goes_after_ten_seconds() -> None:
    fresh = runner("a", idle_ms=NEVER_USED_MS, served=0)
    assert going(look(Scale(), fresh)) == ["a"]
    assert going(look(Scale(), runner("a", idle_ms=NEVER_USED_MS - 1, served=0))) == []


@pytest.mark.parametrize("policy", [Scale(min_concurrency=1), Scale(concurrency_buffer=1), Scale(concurrency_buffer_perc=10)])
def test_the_ten_seconds_rule_is_off_when_spare_runners_are_wanted(policy: Scale) -> None:
    assert going(look(policy, runner("a", idle_ms=20_000, served=0), runner("b", idle_ms=20_000, served=0))) == []


def test_a_keep_alive_shorter_than_ten_seconds_holds_for_never_used_runners_too() -> None:
    assert going(look(Scale(keep_alive_ms=2_000), runner("a", idle_ms=2_000, served=0))) == ["a"]


def test_a_never_used_runner_may_go_before_one_that_idles_longer() -> None:
    assert going(look(Scale(), runner("used", idle_ms=30_000), runner("fresh", idle_ms=11_000, served=0))) == ["fresh"]


def test_busy_and_starting_runners_never_expire() -> None:
    starting = replace(runner("s", idle_ms=10**6), state=RunnerState.SETUP)
    assert going(look(Scale(), busy("b"), starting)) == []


def test_a_starting_runner_does_not_make_a_ready_one_superfluous() -> None:
    starting = replace(runner("s"), state=RunnerState.SETUP)
    assert going(look(Scale(), runner("idle", idle_ms=10**6), starting, waiting=1)) == []


def test_a_lowered_max_concurrency_lets_the_cheapest_go_at_once() -> None:
    starting = replace(runner("s"), state=RunnerState.PENDING)
    decision = look(Scale(max_concurrency=1), busy("two", 2), busy("one", 1), runner("idle"), starting)
    assert going(decision) == ["s", "idle", "one"]
    assert decision.surplus[0].reason == "4 runners are more than max_concurrency 1"


def test_memory_keeps_since_when_the_number_is_the_same() -> None:
    first = look(Scale(), waiting=1)
    assert first.memory == Memory(1, NOW)
    later = decide(Scale(), Seen((NOW, NOW)), first.memory, NOW + 5)
    assert later.memory == Memory(2, NOW + 5)
    assert decide(Scale(), Seen((NOW, NOW)), later.memory, NOW + 9).memory == later.memory


def policies() -> st.SearchStrategy[Scale]:
    small = st.integers(0, 12)
    return st.builds(
        Scale,
        keep_alive_ms=st.integers(0, 90_000),
        min_concurrency=small,
        max_concurrency=small,
        concurrency_buffer=small,
        concurrency_buffer_perc=st.integers(0, 200),
        scaling_delay_ms=st.integers(0, 5_000),
        max_multiplexing=st.integers(1, 5),
    )


def supplies() -> st.SearchStrategy[tuple[RunnerSeen, ...]]:
    one = st.tuples(st.sampled_from(list(RunnerState)), st.integers(0, 100_000), st.integers(0, 2), st.integers(1, 5))
    return st.lists(one, max_size=15).map(
        lambda rows: tuple(
            runner(str(at), state, idle_ms=idle, served=served, in_flight=calls if state is RunnerState.RUNNING else 0)
            for at, (state, idle, served, calls) in enumerate(rows)
        )
    )


def arrivals() -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(NOW - 10_000, NOW), max_size=60).map(tuple)


@given(policies(), arrivals(), supplies())
def test_it_never_wants_more_than_the_maximum_nor_less_than_the_minimum(
    policy: Scale, waiting: tuple[int, ...], supply: tuple[RunnerSeen, ...]
) -> None:
    runners = decide(policy, Seen(waiting, supply), Memory(), NOW).runners
    assert min(policy.min_concurrency, policy.max_concurrency) <= runners <= policy.max_concurrency


@given(policies(), arrivals(), supplies(), st.integers(0, 10_000))
def test_one_more_waiting_call_never_means_fewer_runners_or_more_farewells(
    policy: Scale, waiting: tuple[int, ...], supply: tuple[RunnerSeen, ...], age: int
) -> None:
    before = decide(policy, Seen(waiting, supply), Memory(), NOW)
    after = decide(policy, Seen((*waiting, NOW - age), supply), Memory(), NOW)
    assert after.runners >= before.runners
    assert set(going(after)) <= set(going(before))


@given(policies(), arrivals(), supplies())
def test_letting_the_surplus_go_leaves_what_is_wanted_and_nothing_more_to_let_go(
    policy: Scale, waiting: tuple[int, ...], supply: tuple[RunnerSeen, ...]
) -> None:
    first = decide(policy, Seen(waiting, supply), Memory(), NOW)
    names = going(first)
    assert len(names) == len(set(names))
    ready = {r.id for r in supply if r.state in (RunnerState.IDLE, RunnerState.RUNNING)}
    above = sum("max_concurrency" in item.reason for item in first.surplus)
    if not above:
        assert not names or len(ready) - len(names) >= first.runners
        rest = tuple(r for r in supply if r.id not in names)
        assert going(decide(policy, Seen(waiting, rest), first.memory, NOW)) == []


@given(policies(), arrivals(), supplies())
def test_a_promised_recheck_is_in_the_future_and_nothing_changes_before_it(
    policy: Scale, waiting: tuple[int, ...], supply: tuple[RunnerSeen, ...]
) -> None:
    seen = Seen(waiting, supply)
    first = decide(policy, seen, Memory(), NOW)
    quiet_ms = 10**9 if first.recheck_ms is None else first.recheck_ms - 1
    assert quiet_ms >= 0
    later = decide(policy, seen, first.memory, NOW + quiet_ms)
    assert later.runners == first.runners
    assert going(later) == going(first)
