"""What came, in numbers: nothing that is whole is lost, nothing that is broken is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.core.whatif import Call
from roost.data.traffic import HOUR_MS, Served, Traffic, portions

APP = "me/app"
NOON = 500_000 * HOUR_MS


def served(at_ms: int, wait_ms: int = 5, service_ms: int = 200, application: str = APP) -> Served:
    return Served(application, at_ms, at_ms + wait_ms, at_ms + wait_ms + service_ms)


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    return Traffic(tmp_path)


def all_of(traffic: Traffic, application: str = APP, most: int = 1_000) -> list[Call]:
    return traffic.read(application, NOON - 100 * HOUR_MS, NOON + 100 * HOUR_MS, most)


def test_calls_are_read_as_they_were_noted_in_the_order_in_which_they_came(traffic: Traffic) -> None:
    for at_ms in (NOON + 10, NOON, NOON + 2 * HOUR_MS):
        traffic.note(served(at_ms))
    traffic.note(served(NOON, application="me/other"))
    traffic.write(traffic.take())
    assert traffic.take() == []
    assert all_of(traffic) == [Call(NOON, 5, 200), Call(NOON + 10, 5, 200), Call(NOON + 2 * HOUR_MS, 5, 200)]
    assert len(all_of(traffic, "me/other")) == 1
    assert all_of(traffic, "me/unknown") == []


def test_only_what_arrived_in_that_time_is_read_and_the_newest_if_that_is_too_much(traffic: Traffic) -> None:
    traffic.write([served(NOON + hour * HOUR_MS) for hour in range(5)])
    assert [call.at_ms for call in traffic.read(APP, NOON + 1, NOON + 3 * HOUR_MS, 100)] == [NOON + HOUR_MS, NOON + 2 * HOUR_MS]
    assert [call.at_ms for call in all_of(traffic, most=2)] == [NOON + 3 * HOUR_MS, NOON + 4 * HOUR_MS]


@pytest.mark.parametrize("tail", [b"", b"1", b"123456789012345", bytes(16), b"\xff" * 16, bytes(4096)])
def test_a_damaged_tail_costs_nothing_that_is_before_or_behind_it(traffic: Traffic, tmp_path: Path, tail: bytes) -> None:
    traffic.write([served(NOON)])
    (file,) = tmp_path.rglob("*.bin")
    with file.open("ab") as end:
        end.write(tail)
    traffic.write([served(NOON + 1)])
    assert all_of(traffic) == [Call(NOON, 5, 200), Call(NOON + 1, 5, 200)]


def test_moments_that_cannot_be_are_made_such_that_can(traffic: Traffic) -> None:
    traffic.write([Served(APP, NOON, NOON - 1, NOON + 10**12)])
    assert all_of(traffic) == [Call(NOON, 0, 2**32 - 1)]


def test_what_is_old_or_too_much_goes_the_oldest_first(traffic: Traffic, tmp_path: Path) -> None:
    traffic.write([served(NOON + hour * HOUR_MS) for hour in range(6)])
    traffic.prune(NOON + HOUR_MS)
    assert [call.at_ms for call in all_of(traffic)] == [NOON + hour * HOUR_MS for hour in range(1, 6)]
    traffic.prune(0, most_bytes=2 * 16)
    assert [call.at_ms for call in all_of(traffic)] == [NOON + 4 * HOUR_MS, NOON + 5 * HOUR_MS]
    traffic.prune(NOON + 100 * HOUR_MS)
    assert not (tmp_path / APP).exists()


def test_a_disk_that_hangs_does_not_fill_the_memory(traffic: Traffic) -> None:
    for at_ms in range(200_003):
        traffic.note(served(at_ms))
    taken = traffic.take()
    assert len(taken) == 200_000 and taken[0][1] == 3


def test_portions_are_all_of_it() -> None:
    calls = [served(at_ms) for at_ms in range(1_234)]
    assert [call for portion in portions(calls) for call in portion] == calls
