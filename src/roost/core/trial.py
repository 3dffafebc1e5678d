"""A new revision's first minutes: whether it keeps the alias, or gives it back to the one before, and why.

What counts is what callers got and whether its runners live. A share of errors is compared with that of the revision before: an app that has always
failed one call in five is not made better by going back.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may go wrong, and for how long that is watched. `window_ms` 0: nothing is watched."""

    window_ms: int = 300_000
    errors: float = 0.1
    """Share of the calls that may end in a 5xx or a time-out."""
    least_errors: int = 5
    """Fewer say nothing: one bad caller is no bad revision."""
    deaths: int = 3
    """So many runners that end by themselves are too many."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of one revision's calls and runners so far."""

    calls: int = 0
    errors: int = 0
    last_error: str = ""
    deaths: int = 0
    last_death: str = ""
    failed_starts: int = 0
    """Rounds of starts that failed in a row."""
    last_failure: str = ""
    was_ready: bool = True
    """Whether a runner of it has ever been ready."""

    @property
    def share(self) -> float:
        return min(1.0, self.errors / self.calls) if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class Watching:
    """Nothing is decided yet."""

    left_ms: int


@dataclass(frozen=True, slots=True)
class Passed:
    """It keeps the alias."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    reason: str


def judge(begun_ms: int, tally: Tally, before: Tally, budget: Budget, now_ms: int) -> Watching | Passed | GiveBack:
    """The verdict at this moment; `before` is the tally of the revision that had the alias."""
    if not tally.was_ready and tally.failed_starts:
        return GiveBack(f"no runner of it starts: {tally.last_failure or 'it ended before it was ready'}")
    if tally.deaths >= budget.deaths:
        return GiveBack(f"{tally.deaths} of its runners ended by themselves, the last one because {tally.last_death}")
    if tally.errors >= budget.least_errors and tally.share >= max(budget.errors, 2 * before.share):
        compared = f", {before.share:.0%} with the revision before" if before.calls else ""
        return GiveBack(
            f"{tally.errors} of its first {tally.calls} calls failed ({tally.share:.0%}; {budget.errors:.0%} may{compared}), "
            f"the last one because {tally.last_error}"
        )
    left_ms = begun_ms + budget.window_ms - now_ms
    return Watching(left_ms) if left_ms > 0 else Passed()
