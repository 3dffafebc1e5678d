"""Silence counts while somebody looks, and only then."""

from __future__ import annotations

from roost.core import leases


def silent_after(looks: list[tuple[bool, int]]) -> int:
    silent_ms = 0
    for heard, since_ms in looks:
        silent_ms = leases.silence(silent_ms, heard, since_ms)
    return silent_ms


def test_a_runner_that_is_heard_of_is_not_silent():
    assert silent_after([(False, 1_000), (False, 1_000), (True, 1_000)]) == 0


def test_a_lease_is_over_after_ten_seconds_of_looks_in_vain():
    assert not leases.is_over(silent_after([(False, 1_000)] * 9))
    assert leases.is_over(silent_after([(False, 1_000)] * 10))


def test_a_server_that_slept_for_an_hour_accuses_nobody():
    assert not leases.is_over(silent_after([(False, 1_000), (False, 3_600_000), (False, 1_000)]))


def test_a_clock_that_runs_backwards_takes_no_silence_back():
    assert silent_after([(False, 1_000), (False, -5_000)]) == 1_000
