"""A measured figure: samples of one thing with a name, and what was promised of it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit that a promise sets. It is shown beside the figure and never fails a run: the machine may be slow."""

    limit: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def at_least(limit: float) -> Goal:
    return Goal(limit, at_least=True)


def at_most(limit: float) -> Goal:
    return Goal(limit)


@dataclass(frozen=True, slots=True)
class Figure:
    """`name` is words with dots, from the subject to what was counted: `echo.64.bare.calls_s`."""

    name: str
    unit: str
    samples: tuple[float, ...]
    goal: Goal | None = None

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.name} has no samples")

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "unit": self.unit,
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "samples": list(self.samples),
        }
        if self.goal is not None:
            told |= {"goal": str(self.goal), "met": self.goal.met_by(self.median)}
        return told


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least `percent` of all do not exceed (nearest rank: never a value that was not measured)."""
    ordered = sorted(samples)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Round by round: neighbours in time had the same machine, so their ratio is steadier than either number."""
    return tuple(our / their for our, their in zip(ours, theirs, strict=True) if their)


def interleaved(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """A B C A B C ...: each contender's answers by round. What slows the machine for a while slows all of them."""
    answers: dict[str, list[T]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            answers[name].append(measure())
    return answers
