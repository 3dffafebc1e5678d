"""The stages of a cold start: they are in order, never negative, and add up to what the caller waited."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.core.stages import Birth, header, of_birth, of_call

moments = st.floats(0, 1_000)
births = st.builds(
    Birth,
    how=st.sampled_from(["fork", "spawn"]),
    asked_s=moments,
    started_s=st.none() | moments,
    connected_s=st.none() | moments,
    ready_s=st.none() | moments,
)


def test_a_call_that_woke_its_runner_sees_every_stage() -> None:
    birth = Birth("fork", 10.001, 10.004, 10.007, 10.012)
    assert header(of_call(birth, 10.0, 10.013, 10.020)) == (
        "decide;dur=1.0, fork;dur=3.0, connect;dur=3.0, setup;dur=5.0, route;dur=1.0, call;dur=7.0"
    )


def test_a_call_of_a_warm_runner_sees_its_wait_and_itself() -> None:
    assert header(of_call(Birth("fork", 1, 2, 3, 4), 10.0, 10.5, 11.0)) == "wait;dur=500.0, call;dur=500.0"


def test_a_runner_that_dialled_before_its_pid_was_known_took_no_time_to_connect() -> None:
    assert of_birth(Birth("fork", 1.0, 1.5, 1.25, 2.0)) == (("fork", 500.0), ("connect", 0.0), ("setup", 500.0))


@given(st.none() | births, moments, st.tuples(st.floats(0, 10), st.floats(0, 10)))
def test_stages_are_never_negative_and_add_up(birth: Birth | None, arrived_s: float, waits: tuple[float, float]) -> None:
    latest = (
        max((m for m in (birth.asked_s, birth.started_s, birth.connected_s, birth.ready_s) if m is not None), default=0) if birth else 0
    )
    taken_s = max(arrived_s, latest) + waits[0]
    answered_s = taken_s + waits[1]
    stages = of_call(birth, arrived_s, taken_s, answered_s)
    assert all(ms >= 0 for _, ms in stages)
    assert abs(sum(ms for _, ms in stages) - (answered_s - arrived_s) * 1000) < 1e-3
