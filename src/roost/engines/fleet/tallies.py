"""What became of calls and runners, by revision: counted where it is known anyway, so that a call costs nothing more.

The directory counts what each runner was given; answers that mean something for a runner pass through the fleet. What is asked for is put
together from those. In memory: a server that starts knows nothing of before, and judges by what it sees.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from roost.core import fate, fleet, trial
from roost.link.directory import Directory


@dataclass(slots=True)
class _Count:
    revision_id: str
    calls: int = 0
    errors: int = 0
    last_error: str = ""


@dataclass(slots=True)
class _Deaths:
    count: int = 0
    last: str = ""


class Tallies:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._runners: dict[str, _Count] = {}
        self._deaths: dict[str, _Deaths] = {}

    def judged(self, runner_id: str, verdict: fate.Fate) -> None:
        """What an answer of this runner, or its health, means for it."""
        entry = self._directory.get(runner_id)
        if entry is None or isinstance(verdict, fate.Keep):
            return
        if verdict.failed:
            count = self._runners.setdefault(runner_id, _Count(entry.revision_id))
            count.errors += 1
            count.last_error = verdict.reason
        elif isinstance(verdict, fate.Stop) and verdict.unwell:
            self.died(entry.revision_id, verdict.reason)

    def died(self, revision_id: str, reason: str) -> None:
        """A runner that was ready ended, and nobody had told it to; or is as good as dead."""
        deaths = self._deaths.setdefault(revision_id, _Deaths())
        deaths.count += 1
        deaths.last = reason.partition("\n")[0]

    def of(self, revision_id: str, backoff: fleet.Backoff) -> trial.Tally:
        for entry in self._directory.of_revision(revision_id):
            self._runners.setdefault(entry.runner_id, _Count(revision_id)).calls = entry.served
        counts = [count for count in self._runners.values() if count.revision_id == revision_id]
        deaths = self._deaths.get(revision_id, _Deaths())
        return trial.Tally(
            calls=sum(count.calls for count in counts),
            errors=sum(count.errors for count in counts),
            last_error=next((count.last_error for count in reversed(counts) if count.last_error), ""),
            deaths=deaths.count,
            last_death=deaths.last,
            failed_starts=backoff.failures,
            last_failure=backoff.reason.partition("\n")[0],
            was_ready=bool(counts),
        )

    def forget_all_but(self, runners: Collection[str], revisions: Collection[str]) -> None:
        """Keep what is known of these runners, and of all runners of these revisions."""
        self._runners = {
            runner_id: count for runner_id, count in self._runners.items() if runner_id in runners or count.revision_id in revisions
        }
        self._deaths = {revision_id: deaths for revision_id, deaths in self._deaths.items() if revision_id in revisions}
