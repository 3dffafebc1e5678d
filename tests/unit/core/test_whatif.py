"""An app's past, measured and replayed."""

from __future__ import annotations

from roost.core.model import Scale
from roost.core.whatif import REACTION_MS, UNKNOWN_COLD_MS, Call, Lived, Past, measured, replayed

SCALE = Scale(keep_alive_ms=10_000)


def test_what_was_measured_is_told_as_it_was() -> None:
    calls = tuple(Call(1_000 + number, number, 100) for number in range(100))
    past = Past(1_000, 61_000, calls, (Lived(500, 800, 2_000), Lived(1_500, 2_000, 5_000), Lived(60_000, None, None)))
    told = measured(past)
    assert (told.calls, told.wait_p50_ms, told.wait_p95_ms, told.wait_p99_ms, told.waited) == (100, 50, 95, 99, 95)
    # One of the three was started before; what lies outside of the time is nobody's cost.
    assert (told.starts, told.runner_ms, told.peak) == (2, 1_000 + 3_500 + 1_000, 2)


def test_starts_take_as_long_as_those_on_record_one_after_the_other() -> None:
    calls = tuple(Call(at_ms, 0, 100) for at_ms in (10_000, 50_000, 90_000))
    past = Past(0, 120_000, calls, (Lived(10_000, 10_700, 20_000), Lived(50_000, 50_300, 60_000)))
    told = replayed(past, SCALE)
    assert (told.starts, told.wait_p50_ms, told.wait_p99_ms) == (3, 700 + REACTION_MS, 700 + REACTION_MS)
    assert told.runner_ms == (700 + 100 + 10_000) * 2 + 300 + 100 + 10_000


def test_a_start_is_counted_from_the_call_that_it_was_for() -> None:
    # Two calls at once: the server came to the second start 100 ms later than to the first.
    calls = (Call(1_000, 510, 900), Call(1_010, 690, 900))
    lives = (Lived(1_010, 1_510, None), Lived(1_200, 1_700, None))
    past = Past(0, 60_000, calls, lives)
    assert past.cold_ms == (510 - REACTION_MS, 690 - REACTION_MS)
    assert replayed(past, SCALE).wait_p99_ms == measured(past).wait_p99_ms == 690


def test_what_a_start_waited_for_itself_is_no_part_of_it() -> None:
    delayed = Scale(scaling_delay_ms=3_000)
    assert Past(0, 60_000, (Call(1_000, 3_500, 9),), (Lived(4_002, 4_502, None),), delayed).cold_ms == (500,)
    # There was no room for a minute.
    assert Past(0, 90_000, (Call(1_000, 60_500, 9),), (Lived(61_000, 61_500, None),)).cold_ms == (500,)


def test_calls_that_share_a_runner_need_one_start() -> None:
    calls = tuple(Call(1_000 + number, 600, 9) for number in range(4))
    lives = (Lived(1_002, 1_502, None), Lived(1_050, 1_550, None))
    assert Past(0, 9_000, calls, lives, Scale(max_multiplexing=2)).cold_ms == (500, 548 - REACTION_MS)


def test_a_runner_that_was_there_takes_the_first_call_at_once() -> None:
    past = Past(10_000, 30_000, (Call(12_000, 0, 100),), (Lived(1_000, 2_000, None),))
    told = replayed(past, SCALE)
    assert (told.wait_p99_ms, told.starts) == (0, 0)
    # From the beginning until its keep_alive ends.
    assert told.runner_ms == 12_100 + 10_000 - 10_000


def test_what_settings_keep_at_rest_is_there_from_the_beginning() -> None:
    past = Past(0, 20_000, (Call(5_000, 900, 100),), (Lived(5_000, 5_900, None),))
    assert replayed(past, SCALE).wait_p99_ms == 900 + REACTION_MS
    assert replayed(past, Scale(min_concurrency=1)).wait_p99_ms == 0
    assert replayed(past, Scale(concurrency_buffer=1)).wait_p99_ms == 0


def test_without_any_start_on_record_a_second_is_assumed() -> None:
    past = Past(0, 20_000, (Call(5_000, 0, 100),), ())
    assert replayed(past, SCALE).wait_p99_ms == UNKNOWN_COLD_MS + REACTION_MS


def test_earlier_starts_stand_in_when_there_was_none_in_that_time() -> None:
    lives = (Lived(1_000, 1_400, None),)
    assert Past(10_000, 20_000, (), lives).cold_ms == (400,)


def test_calls_that_still_wait_at_the_end_are_said_to_be_unserved() -> None:
    past = Past(0, 1_000, (Call(900, 0, 100),), (Lived(0, 500, 600),))
    told = replayed(past, SCALE)
    assert (told.calls, told.unserved) == (1, 1)


def test_nothing_at_all_is_nothing() -> None:
    empty = Past(0, 1_000, (), ())
    assert measured(empty) == replayed(empty, SCALE)
