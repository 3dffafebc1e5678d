"""The runners that this server knows, beside what the store says of them: their processes, and what only who lives can have seen."""

from __future__ import annotations

from dataclasses import dataclass

from roost.core import placement
from roost.core.model import Process, Runner, RunnerState


@dataclass(slots=True)
class Known:
    """What only the living server knows of a runner."""

    state: RunnerState
    since_ms: int
    unlinked_since_ms: int | None = None
    stopped_since_ms: int | None = None
    failure: str = ""
    """What the runner said before it ended itself."""
    told_to_drain: bool = False
    place: placement.Place | None = None


class Roster:
    """Begins empty with each server; `known` and `processes` are by runner id."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.processes: dict[str, int] = {}
        """Those that live, with their pid, as far as the supervisor has said."""
        self.starting: set[str] = set()
        self.ended = 0
        """How many have ended: each left a place."""

    def of(self, runner: Runner, now_ms: int) -> Known:
        """What is known of it, from now on if it is new."""
        return self.known.setdefault(runner.id, Known(runner.state, now_ms))

    def lives(self, runner_id: str) -> bool:
        """Whether its process is there and not stopped by a signal."""
        known = self.known.get(runner_id)
        return runner_id in self.processes and known is not None and known.stopped_since_ms is None

    def process_of(self, runner: Runner) -> Process:
        if runner.id in self.processes:
            return Process.LIVING
        return Process.NOT_STARTED if runner.pid is None or runner.id in self.starting else Process.GONE

    def places(self) -> list[placement.Place]:
        """All that are taken."""
        return [known.place for known in self.known.values() if known.place is not None]

    def bury(self, runner_id: str) -> None:
        self.known.pop(runner_id, None)
        self.ended += 1
        # Its exit may have been told before its start learned its pid.
        self.processes.pop(runner_id, None)

    def forget_all_but(self, living: set[str]) -> None:
        """Whose row is gone is gone, unless it is about to get one."""
        for runner_id in self.known.keys() - living - self.starting:
            del self.known[runner_id]
