from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core.health import (
    REGULAR_MS,
    UNREADY_MS,
    Answered,
    Failed,
    Keep,
    Last,
    Memory,
    NotHeard,
    Outcome,
    Probe,
    Ready,
    Rules,
    Stop,
    Verdict,
    asked,
    begin,
    judge,
    next_probe,
    rules_of,
    wished,
)
from roost.wire.spec import HealthCheckSpec

BORN = 1_000_000
READY = HealthCheckSpec("/ready")
LATE = Failed("did not answer within 5 s")
SICK = Answered(500)
WELL = Answered(200)
SERVING = Memory(True, BORN)
STARTING = Memory(False, BORN)
GROWN = BORN + 600_000
"""The start period is over."""


def rules(check: HealthCheckSpec | None = READY, *, startup_timeout_ms: int = 60_000) -> Rules:
    return rules_of(check, BORN, startup_timeout_ms)


def verdict(outcome: Outcome, memory: Memory = SERVING, *, now_ms: int = GROWN, wish: str = "", by: Rules | None = None) -> Verdict:
    return judge(by or rules(), memory, Probe(now_ms, wish), outcome, now_ms)[1]


# ready or not


@pytest.mark.parametrize("status", [200, 204, 301, 399])
def test_an_answer_below_400_makes_it_ready(status: int) -> None:
    assert verdict(Answered(status), STARTING) == Ready()


@pytest.mark.parametrize("outcome", [Answered(400), Answered(404), Answered(405), Answered(503), LATE, NotHeard()])
def test_any_other_outcome_leaves_it_as_it_is(outcome: Outcome) -> None:
    for now_ms in (BORN, GROWN):
        assert verdict(outcome, STARTING, now_ms=now_ms) == Keep()


def test_until_it_is_ready_it_is_asked_every_half_second_and_the_first_time_at_once() -> None:
    memory = begin(rules(), ready=False, now_ms=BORN, dice=0.9)
    assert next_probe(memory) == Probe(BORN)
    memory, _ = judge(rules(), asked(rules(), memory, BORN), Probe(BORN), SICK, BORN + 10)
    assert next_probe(memory) == Probe(BORN + UNREADY_MS)


def test_what_it_last_said_is_kept_for_people() -> None:
    memory, _ = judge(rules(), STARTING, Probe(BORN), Answered(503), BORN + 7)
    assert memory.last == Last(False, "POST /ready answered 503", BORN + 7)


# how often


def test_a_ready_one_is_asked_every_15_seconds() -> None:
    memory, _ = judge(rules(), asked(rules(), STARTING, BORN), Probe(BORN), WELL, BORN + 10)
    assert next_probe(memory) == Probe(BORN + 10 + REGULAR_MS)
    assert next_probe(asked(rules(), memory, GROWN)) == Probe(GROWN + REGULAR_MS)


def test_one_that_served_before_this_server_is_first_asked_at_a_random_moment_of_the_interval() -> None:
    assert next_probe(begin(rules(), ready=True, now_ms=BORN, dice=0.5)) == Probe(BORN + REGULAR_MS // 2)


@pytest.mark.parametrize("check", [None, replace(READY, call_regularly=False)])
def test_without_regular_checks_it_is_asked_only_when_a_response_asks_for_it(check: HealthCheckSpec | None) -> None:
    memory = begin(rules(check), ready=True, now_ms=BORN, dice=0.5)
    assert next_probe(memory) is None
    memory = wished(memory, "the app asked")
    assert next_probe(memory) == Probe(0, "the app asked")
    assert next_probe(asked(rules(check), memory, BORN)) is None


def test_an_irregular_check_is_asked_until_it_is_ready_and_no_longer() -> None:
    check = rules(replace(READY, call_regularly=False))
    memory = begin(check, ready=False, now_ms=BORN, dice=0)
    memory, _ = judge(check, asked(check, memory, BORN), Probe(BORN), SICK, BORN)
    assert next_probe(memory) == Probe(BORN + UNREADY_MS)
    memory, _ = judge(check, asked(check, memory, BORN), Probe(BORN), WELL, BORN)
    assert next_probe(memory) is None


def test_responses_that_all_ask_for_a_check_get_one_every_half_second() -> None:
    memory = wished(asked(rules(), SERVING, GROWN), "the app asked")
    assert next_probe(memory) == Probe(GROWN + UNREADY_MS, "the app asked")


def test_a_wish_puts_off_the_next_regular_check() -> None:
    memory = asked(rules(), wished(replace(SERVING, due_ms=GROWN + 1_000), "the app asked"), GROWN)
    assert next_probe(memory) == Probe(GROWN + REGULAR_MS)


# the end


def test_the_third_failure_in_a_row_ends_it_and_says_what_it_answered() -> None:
    memory = SERVING
    for _ in range(2):
        memory, kept = judge(rules(), memory, Probe(GROWN), SICK, GROWN)
        assert kept == Keep()
    assert verdict(LATE, memory) == Stop(
        "its health check failed 3 times in a row, the last time because POST /ready did not answer within 5 s"
    )


def test_a_good_answer_forgets_the_failures_before_it() -> None:
    memory, _ = judge(rules(), replace(SERVING, failures=2), Probe(GROWN), WELL, GROWN)
    assert memory.failures == 0


@pytest.mark.parametrize(
    ("start_period_ms", "startup_timeout_ms", "tolerant_ms"), [(30_000, 60_000, 60_000), (90_000, 60_000, 90_000), (0, 1_000, 1_000)]
)
def test_failures_of_a_young_runner_are_not_counted(start_period_ms: int, startup_timeout_ms: int, tolerant_ms: int) -> None:
    by = rules(replace(READY, start_period_ms=start_period_ms, failure_threshold=1), startup_timeout_ms=startup_timeout_ms)
    assert verdict(SICK, now_ms=BORN + tolerant_ms - 1, by=by) == Keep()
    assert verdict(SICK, now_ms=BORN + tolerant_ms, by=by) == Stop(
        "its health check failed once, the last time because POST /ready answered 500"
    )


def test_one_failure_of_a_check_that_a_response_asked_for_ends_even_a_young_runner() -> None:
    reason = "the app asked, and POST /ready answered 500"
    assert verdict(SICK, now_ms=BORN, wish="the app asked") == Stop(reason)


def test_what_the_server_was_not_there_to_hear_is_no_failure_and_the_wish_stays() -> None:
    memory, kept = judge(rules(), replace(SERVING, failures=2), Probe(GROWN, "the app asked"), NotHeard(), GROWN)
    assert kept == Keep()
    assert (memory.failures, memory.wish) == (2, "the app asked")


@pytest.mark.parametrize("status", [404, 405])
def test_an_app_that_declares_nothing_need_not_have_the_usual_route(status: int) -> None:
    assert verdict(Answered(status), wish="the app asked", by=rules(None)) == Keep()
    assert isinstance(verdict(Answered(status), wish="the app asked"), Stop)
    assert verdict(SICK, wish="the app asked", by=rules(None)) == Stop("the app asked, and GET /health answered 500")


# always

OUTCOMES = st.sampled_from([WELL, SICK, LATE, NotHeard(), Answered(302), Answered(404)])
STEPS = st.lists(st.tuples(st.integers(0, 40_000), st.booleans(), OUTCOMES, st.integers(0, 6_000)), max_size=60)


@given(steps=STEPS, threshold=st.integers(1, 5), regularly=st.booleans(), ready=st.booleans(), dice=st.floats(0, 0.999))
def test_it_is_never_asked_too_often_and_never_ended_too_early(
    steps: list[tuple[int, bool, Outcome, int]], threshold: int, regularly: bool, ready: bool, dice: float
) -> None:
    """Each step: a pause, perhaps a wish in it, then a look; a probe that is due is put, and its outcome comes after a while."""
    by = rules(replace(READY, failure_threshold=threshold, call_regularly=regularly))
    now_ms = BORN
    memory = begin(by, ready=ready, now_ms=now_ms, dice=dice)
    asked_ms: list[int] = []
    regular_ms: int | None = None
    in_a_row = 0
    for pause_ms, wish, outcome, took_ms in steps:
        now_ms += pause_ms
        if wish:
            memory = wished(memory, "the app asked")
        probe = next_probe(memory)
        if probe is None or probe.at_ms > now_ms:
            assert not (probe is None and regularly), "a regular check is always planned"
            continue
        was_ready = memory.ready
        assert not asked_ms or now_ms - asked_ms[-1] >= UNREADY_MS
        if was_ready and not probe.wish:
            assert regularly
            assert regular_ms is None or now_ms - regular_ms >= REGULAR_MS
        memory = asked(by, memory, now_ms)
        asked_ms.append(now_ms)
        regular_ms = now_ms if was_ready else None
        now_ms += took_ms
        memory, fate = judge(by, memory, probe, outcome, now_ms)
        well = outcome in (WELL, Answered(302))
        assert isinstance(fate, Ready) == (well and not was_ready)
        if was_ready and now_ms >= by.tolerant_until_ms and not isinstance(outcome, NotHeard):
            in_a_row = 0 if well else in_a_row + 1
        elif well:
            in_a_row = 0
        if isinstance(fate, Stop):
            assert was_ready
            assert not well
            assert probe.wish or in_a_row >= threshold
            return
        assert in_a_row < threshold
