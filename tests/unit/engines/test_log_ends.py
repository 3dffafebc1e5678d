from __future__ import annotations

from roost.engines.dispatch.log_ends import LogEnds
from roost.link.connection import CallConnection
from roost.link.directory import Directory
from roost.wire import frames


class Files:
    """Output files, and how often somebody looked at one."""

    def __init__(self) -> None:
        self.size = 0
        self.looks = 0

    def of(self, runner_id: str) -> int:
        self.looks += 1
        return self.size


def connection() -> CallConnection:
    return CallConnection("r", lambda _: None, lambda _: None, lambda *_: None)


async def test_a_file_is_looked_at_once_for_all_that_came_together_and_again_after_more_has_come() -> None:
    files, directory, calls = Files(), Directory(), connection()
    ends = LogEnds(directory, files.of)
    directory.add("r", "revision", 4, calls, 0)
    assert (ends.of("r"), ends.of("r"), files.looks) == (0, 0, 1)
    files.size = 7
    calls.data_received(frames.frame(frames.PONG, 0))
    assert (ends.of("r"), ends.of("r"), files.looks) == (7, 7, 2)


async def test_a_runner_that_dialled_anew_or_is_gone_is_looked_at() -> None:
    files, directory = Files(), Directory()
    ends = LogEnds(directory, files.of)
    directory.add("r", "revision", 4, connection(), 0)
    ends.of("r")
    files.size = 5
    directory.add("r", "revision", 4, again := connection(), 0)
    assert ends.of("r") == 5
    files.size = 6
    directory.lost(again)
    assert (ends.of("r"), files.looks) == (6, 3)
