from __future__ import annotations

from itertools import islice
from typing import Any

from roost.control.events import Attached, LogLine, Lost
from roost.control.logs import follow, once
from tests.unit.control.server import Clock, Lines, Script, api


def _line(second: int) -> dict[str, Any]:
    return {"timestamp": f"2030-01-01T00:00:0{second}.000Z", "level": "STDOUT", "source": "user", "message": str(second)}


def test_a_log_is_read_to_its_end_without_the_beats() -> None:
    client = api(Script(Lines(_line(1), {"event": "beat"}, _line(2))))
    assert [line.message for line in once(client.app_logs("me/x"))] == ["1", "2"]


def test_following_goes_on_after_a_restart_with_what_is_newer_than_the_last_line() -> None:
    script, clock = Script(Lines(_line(1), breaks=True), Lines(_line(2), _line(3))), Clock()
    client = api(script)
    lines = follow(
        lambda last, since_ms: client.app_logs("me/x", follow=True, lines=last, since_ms=since_ms),
        lines=10,
        since_ms=None,
        clock=clock,
        pause=clock.pause,
    )
    kinds = [item.message if isinstance(item, LogLine) else type(item) for item in islice(lines, 5)]
    assert kinds == ["1", Lost, Attached, "2", "3"]
    assert [dict(request.url.params) for request in script.requests] == [
        {"follow": "1", "lines": "10"},
        {"follow": "1", "since": "1893456001001"},
    ]
