"""Samples become figures, ratios and tables without anything being lost or made up."""

from __future__ import annotations

import pytest

from benchmarks.harness import tables
from benchmarks.harness.bench import Bench, Options
from benchmarks.harness.figures import Figure, at_least, at_most, interleaved, percentile, ratios


def test_a_figure_tells_its_median_and_its_limits():
    told = Figure("echo.1.bare.calls_s", "calls/s", (30.0, 10.0, 20.0, 1000.0)).to_json()
    assert told == {"unit": "calls/s", "median": 25.0, "min": 10.0, "max": 1000.0, "samples": [30.0, 10.0, 20.0, 1000.0]}


def test_a_figure_without_samples_is_refused():
    with pytest.raises(ValueError, match=r"cold\.torch has no samples"):
        Figure("cold.torch", "ms", ())


@pytest.mark.parametrize(
    ("goal", "value", "met", "text"),
    [
        (at_least(42), 42.0, True, "≥ 42"),
        (at_least(42), 41.9, False, "≥ 42"),
        (at_most(0.15), 0.15, True, "≤ 0.15"),
        (at_most(0.15), 0.2, False, "≤ 0.15"),
    ],
)
def test_a_goal_is_met_at_its_limit_and_missed_beyond_it(goal, value, met, text):
    told = Figure("x", "ms", (value,), goal).to_json()
    assert (told["met"], told["goal"]) == (met, text)


@pytest.mark.parametrize(("percent", "value"), [(50, 5.0), (90, 9.0), (91, 10.0), (99, 10.0), (100, 10.0), (1, 1.0)])
def test_a_percentile_is_a_sample(percent, value):
    assert percentile([10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], percent) == value


def test_ratios_are_taken_round_by_round():
    assert ratios([2.0, 30.0], [1.0, 10.0]) == (2.0, 3.0)


def test_contenders_take_turns():
    order: list[str] = []

    def measure(name: str):
        return lambda: order.append(name) or len(order)

    assert interleaved({"a": measure("a"), "b": measure("b")}, 3) == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert order == ["a", "b", "a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.012"), (-2.5, "-2.50")],
)
def test_numbers_have_three_digits(value, text):
    assert tables.number(value) == text


def test_a_table_has_its_columns_in_line():
    assert tables.table(["", "calls/s"], [["bare", "7,558"], ["behind nginx", "12"]]).splitlines() == [
        "              calls/s",
        "------------  -------",
        "bare            7,558",
        "behind nginx       12",
    ]


def test_a_report_shows_the_goals_beside_a_subjects_own_table(tmp_path):
    bench = Bench("slots", tmp_path, tmp_path, Options())
    bench.record("1.calls_s", "calls/s", [40.0], at_least(42))
    bench.record("1.p50", "ms", [20.0])
    assert "slots.1.p50" in bench.report()
    bench.show(["", "calls/s"], [["1 caller", "40.0"]])
    report = bench.report()
    assert "1 caller" in report
    assert "slots.1.calls_s" in report
    assert "MISSED" in report
    assert "slots.1.p50" not in report
