from __future__ import annotations

import pytest

from roost.cli import output
from roost.control.errors import ControlError
from roost.control.load import LoadError

NOW = 1_900_000_000_000


def test_an_error_is_one_line_with_a_cross_and_everything_else_is_indented() -> None:
    assert output.error_lines("It broke.\nBadly.", "Mend it.\nOr not.") == ["✗ It broke.", "  Badly.", "  Mend it.", "  Or not."]


def test_an_error_without_words_still_says_something() -> None:
    assert output.error_lines("") == ["✗ Something went wrong."]


def test_our_errors_are_printed_as_they_say_it() -> None:
    assert output.failure(ControlError("No such app.", hint="See `roost apps list`.")) == ["✗ No such app.", "  See `roost apps list`."]


def test_an_authors_traceback_comes_before_the_error() -> None:
    error = LoadError(
        "app.py cannot be imported: ValueError: x", trace='Traceback (most recent call last):\n  File "app.py", line 1\nValueError: x\n'
    )
    assert output.failure(error) == [
        "Traceback (most recent call last):",
        '  File "app.py", line 1',
        "ValueError: x",
        "✗ app.py cannot be imported: ValueError: x",
    ]


def test_any_other_exception_is_called_a_bug() -> None:
    assert output.failure(ZeroDivisionError("division by zero")) == [
        "✗ This is a bug in roost: ZeroDivisionError: division by zero",
        "  ROOST_DEBUG=1 shows where it happened.",
    ]


def test_a_table_that_is_not_on_a_terminal_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.tell_table(("Name", "N"), [("a" * 100, 1), ("b", None)], nothing="None.")
    assert capsys.readouterr().out.splitlines() == [f"{'Name':<100}  N", f"{'a' * 100}  1", f"{'b':<100}  -"]


def test_an_empty_table_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    output.tell_table(("Name",), [], nothing="No apps.")
    assert capsys.readouterr() == ("", "No apps.\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), ([], "-"), (True, "yes"), (0, "0"), (["a", "b"], "a, b"), ({"IDLE": 2}, "IDLE 2"), ((("x", 1),), "x, 1")],
)
def test_values_in_words(value: object, text: str) -> None:
    assert output.plain(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0 s"), (0.5, "0.5 s"), (60, "1 m"), (90, "1 m 30 s"), (3600, "1 h"), (5400, "1 h 30 m")]
)
def test_durations_in_words(value: float | None, text: str) -> None:
    assert output.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (20_000_000, "20 MB"), (3_210_000_000, "3.21 GB")]
)
def test_sizes_in_words(value: int | None, text: str) -> None:
    assert output.size(value) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("30s", NOW - 30_000),
        ("30m", NOW - 1_800_000),
        ("1.5h", NOW - 5_400_000),
        ("2h ago", NOW - 7_200_000),
        ("1d", NOW - 86_400_000),
        ("2030-03-17T17:46:40Z", NOW),
        ("2030-03-17T18:46:40+01:00", NOW),
    ],
)
def test_moments_that_since_accepts(text: str, moment: int) -> None:
    assert output.moment_ms(text, NOW) == moment


@pytest.mark.parametrize("text", ["yesterday", "m", "-5m", "5 parsecs", ""])
def test_moments_that_since_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        output.moment_ms(text, NOW)
