from __future__ import annotations

import json

import pytest

from roost.kit import log
from roost.kit.log import Style

AT = 1_700_000_000.25


def test_a_line_for_people_names_the_event_and_its_fields() -> None:
    text = log.line(Style(), AT, "info", "server.restarted", {"pid": 7, "after_ms": 38})
    assert text.endswith(" server.restarted pid=7 after_ms=38")
    assert "ERROR server.restarted" in log.line(Style(), AT, "error", "server.restarted", {})


@pytest.mark.parametrize("value", ["two words", "a=b", "two\nlines", "", 'quo"ted'])
def test_a_value_cannot_look_like_more_than_one(value: str) -> None:
    text = log.line(Style(), AT, "info", "event", {"field": value})
    assert "\n" not in text
    assert json.loads(text.partition("field=")[2]) == value


def test_a_line_for_programs_is_json() -> None:
    text = log.line(Style(as_json=True), AT, "warning", "event", {"error": ValueError("no"), "n": 1})
    assert json.loads(text) == {"at": "2023-11-14T22:13:20.250Z", "level": "warning", "event": "event", "error": "no", "n": 1}


def test_talk_goes_to_stderr_and_what_is_below_the_level_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Style(level="warning"))
    try:
        log.info("unheard")
        log.warning("heard", by="you")
    finally:
        log.configure(Style.from_environ())
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.endswith("WARNING heard by=you\n")
    assert seen.err.count("\n") == 1
