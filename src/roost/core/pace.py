"""How fast a receiver of webhooks is tried: it earns its pace by answering, and loses it by failing (faults.md F-67)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

AT_ONCE: Final = 4
"""Tries of one receiver under way together."""
FIRST_REST_MS: Final = 1_000
REST_GROWS: Final = 1.5
"""As slow as a single webhook's own pauses at their shortest: one that is alone with its receiver keeps its schedule."""
LONGEST_REST_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Pace:
    """What a receiver gets now."""

    shortest_ms: int
    """Between the beginnings of two tries, when all is well."""
    at_once: int = 1
    """A receiver that never answered gets one try first: thousands may wait for one that is down."""
    gap_ms: int = 0
    """Between the beginnings of two tries."""
    failures: int = 0
    """In a row."""
    rest_ms: int = 0
    """From the end of a try in which the receiver failed to the next one. 0 after a single failure, which may be an accident."""


def of_rate(a_second: float) -> Pace:
    """How it begins, for a rate of so many tries a second at most; 0 is no limit."""
    shortest_ms = -int(-1000 // a_second) if a_second > 0 else 0
    return Pace(shortest_ms, gap_ms=shortest_ms)


def answered(pace: Pace) -> Pace:
    """It answered: one more at once, at half the distance."""
    gap_ms = max(pace.gap_ms, FIRST_REST_MS) if pace.rest_ms else pace.gap_ms
    return replace(pace, at_once=min(AT_ONCE, pace.at_once + 1), gap_ms=max(pace.shortest_ms, gap_ms // 2), failures=0, rest_ms=0)


def failed(pace: Pace) -> Pace:
    """It failed: one at a time, and from the second failure on each after a longer rest."""
    grown_ms = round(pace.rest_ms * REST_GROWS) if pace.rest_ms else FIRST_REST_MS
    return replace(pace, at_once=1, failures=pace.failures + 1, rest_ms=min(LONGEST_REST_MS, grown_ms) if pace.failures else 0)
