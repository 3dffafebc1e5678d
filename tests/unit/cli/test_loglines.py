from __future__ import annotations

import json

import pytest

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


REVERSED = """ValueError: no
    raise ValueError("no")
  File "/home/ada/app.py", line 7, in check
    self.check()
  File "/home/ada/app.py", line 4, in go
    return await f()
  File "/srv/envs/k/lib/python3.11/site-packages/fastapi/routing.py", line 3, in app
  File "/srv/runtimes/0.1.0-ab/roost/sdk/surround.py", line 56, in _call
Traceback (most recent call last):"""


def test_the_traceback_of_a_failed_call_is_shown_in_reading_order_from_the_authors_frames_on() -> None:
    line = LogLine(WHEN, "STDOUT", "user", json.dumps({"traceback": REVERSED}), "1a2b3c4d-5e6f")
    assert log_text(line, colour=False).splitlines() == [
        "1a2b3c4d err | Traceback (most recent call last):",
        '1a2b3c4d err |   File "/home/ada/app.py", line 4, in go',
        "1a2b3c4d err |     self.check()",
        '1a2b3c4d err |   File "/home/ada/app.py", line 7, in check',
        '1a2b3c4d err |     raise ValueError("no")',
        "1a2b3c4d err | ValueError: no",
    ]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (json.dumps({"traceback": 'E: x\n  File "/a/site-packages/b.py"\nTraceback (most recent call last):'}), 3),
        ('{"traceback": "cut off', 1),
        (json.dumps({"traceback": "one", "level": "two"}), 1),
        (json.dumps({"traceback": 3}), 1),
    ],
)
def test_what_has_no_frame_of_the_authors_or_is_no_traceback_is_shown_whole(message: str, shown: int) -> None:
    text = log_text(LogLine(WHEN, "STDOUT", "user", message), colour=False)
    assert len(text.splitlines()) == shown
    assert shown > 1 or text == f"-        out | {message}"
