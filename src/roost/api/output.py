"""What a group of runners prints, as one sequence: each line once, also of runners that come later, until the last one has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from roost.core.model import Runner, RunnerState
from roost.data.logs import BEGINNING, MOST_LINES, Follower, LogLine, RunnerLogs, Start, newest
from roost.store.runners import Runners

ENDED_READ = 50
"""Ended runners whose output is read, the latest: an app that sleeps often has had thousands."""

Find = Callable[[], Awaitable[Sequence[Runner]]]


def of_revision(runners: Runners, revision_id: str, since_ms: int) -> Find:
    """A revision's runners: the living, and those that ended since."""

    async def find() -> Sequence[Runner]:
        ended = [runner for runner in await runners.ended_since(since_ms) if runner.revision_id == revision_id]
        return [*ended[-ENDED_READ:], *await runners.of_revision(revision_id)]

    return find


def of_app(runners: Runners, owner: str, name: str, since_ms: int) -> Find:
    """An app's runners: the living, and those that ended since."""

    async def find() -> Sequence[Runner]:
        ended = [runner for runner in await runners.ended_since(since_ms) if (runner.owner, runner.name) == (owner, name)]
        return [*ended[-ENDED_READ:], *await runners.of_app(owner, name)]

    return find


class Output:
    """New lines of the runners that `find` answers. Those that are there at the first poll begin at `start`, later ones at their first line."""

    def __init__(self, logs: RunnerLogs, find: Find, start: Start = BEGINNING) -> None:
        self._logs = logs
        self._find = find
        self._start = start
        self._followers: dict[str, Follower] = {}
        self._ended: set[str] = set()

    async def poll(self) -> list[LogLine]:
        """What was printed since the last poll, by time. Not all of it if it is much: an empty answer says that there is no more."""
        # The rows first: of a runner that has ended by then, the file is complete.
        rows = await self._find()
        new = [row for row in rows if row.id not in self._followers and row.id not in self._ended]
        for row in new:
            self._followers[row.id] = self._logs.follow(row.id, self._start)
        self._start = BEGINNING
        ended = {row.id for row in rows if row.state is RunnerState.TERMINATED}
        # A first look may read megabytes; later ones read what was written in the last moment.
        lines = await asyncio.to_thread(self._read, ended) if new else self._read(ended)
        return sorted(lines, key=lambda line: line.at_ms)

    async def past(self, now_ms: int, most: int = MOST_LINES) -> list[LogLine]:
        """Everything until now, by time; the newest `most` lines of it, and of those no more than MOST_CHARACTERS."""
        found: list[LogLine] = []
        while lines := await self.poll():
            found = newest(sorted([*found, *lines], key=lambda line: line.at_ms), most)
            if lines[0].at_ms > now_ms:
                # Somebody prints faster than we read: without this there would be no end.
                break
        return found

    def _read(self, ended: set[str]) -> list[LogLine]:
        found: list[LogLine] = []
        for runner_id, follower in list(self._followers.items()):
            lines = follower.poll()
            if runner_id in ended and not lines:
                lines = follower.rest()
                del self._followers[runner_id]
                self._ended.add(runner_id)
            found += lines
        return found
