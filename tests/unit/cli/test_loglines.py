from __future__ import annotations

from roost.cli.loglines import log_text
from roost.control.events import LogLine

WHEN = "2030-01-02T03:04:05.678Z"


def test_a_line_is_tagged_by_its_request_and_its_stream() -> None:
    assert log_text(LogLine(WHEN, "STDOUT", "user", "hello", "1a2b3c4d-5e6f"), colour=False) == "1a2b3c4d out | hello"
    assert log_text(LogLine(WHEN, "STDERR", "user", "oh no", "1a2b3c4d-5e6f"), colour=False) == "1a2b3c4d err | oh no"


def test_lines_outside_of_a_request_keep_the_column() -> None:
    assert log_text(LogLine(WHEN, "INFO", "runner", "ready"), colour=False) == "-        sys | ready"
    assert log_text(LogLine(WHEN, "INFO", "builder", "resolved"), colour=False) == "builder  sys | resolved"


def test_the_moment_stands_before_the_line_when_asked_for() -> None:
    assert log_text(LogLine(WHEN, "STDOUT", "user", "hello"), colour=False, when=True) == "03:04:05.678 -        out | hello"


def test_colours_of_one_request_are_always_the_same_and_streams_differ() -> None:
    out = log_text(LogLine(WHEN, "STDOUT", "user", "x", "1a2b3c4d"), colour=True)
    err = log_text(LogLine(WHEN, "STDERR", "user", "x", "1a2b3c4d"), colour=True)
    assert out.split("1a2b")[0] == err.split("1a2b")[0] != ""
    assert "\x1b[31merr" in err
    assert "\x1b[31m" not in out


def test_what_a_caller_got_printed_cannot_move_the_cursor_or_set_the_title() -> None:
    nasty = "a\x1b[2Jb\x1b]0;title\x07c\rd\x08e\x1b[31mf\tg\x9b2J"
    plain = log_text(LogLine(WHEN, "STDOUT", "user", nasty), colour=False)
    assert plain == "-        out | abcdef\tg2J"
    coloured = log_text(LogLine(WHEN, "STDOUT", "user", nasty), colour=True)
    assert coloured.endswith("abcde\x1b[31mf\tg2J\x1b[0m")
