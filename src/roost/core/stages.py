"""The stages of a cold start as its caller met them: decide, fork or spawn, connect, setup, call. Pure: moments in, durations out.

Moments are seconds of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

Stages = tuple[tuple[str, float], ...]
"""(stage, milliseconds), in order."""


@dataclass(frozen=True, slots=True)
class Birth:
    """When a runner came to what. None: not yet."""

    how: str
    """"fork" from a template, or "spawn"."""
    asked_s: float
    """A process was asked for."""
    started_s: float | None = None
    """There is one."""
    connected_s: float | None = None
    """It dialled home."""
    ready_s: float | None = None
    """setup() has ended, and calls can be sent."""
    why_spawned: str = ""
    """Why a template that was there was not used."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What a runner's start took, as it is kept with the runner."""

    stages: Stages
    why_spawned: str = ""

    @property
    def ms(self) -> float:
        return sum(ms for _, ms in self.stages)


def cold_start(birth: Birth) -> ColdStart:
    """Of a runner that is ready."""
    return ColdStart(tuple((name, round(ms, 1)) for name, ms in of_birth(birth)), birth.why_spawned)


def of_birth(birth: Birth) -> Stages:
    """The stages that do not depend on a caller."""
    return _cut((birth.how, birth.started_s), ("connect", birth.connected_s), ("setup", birth.ready_s), since_s=birth.asked_s)


def of_call(birth: Birth | None, arrived_s: float, taken_s: float, answered_s: float) -> Stages:
    """The stages of a call that arrived, got a slot, and whose answer began; `birth` is that of its runner, if it is known."""
    if birth is None or birth.ready_s is None or birth.ready_s < arrived_s:
        return _cut(("wait", taken_s), ("call", answered_s), since_s=arrived_s)
    return _cut(
        ("decide", birth.asked_s),
        (birth.how, birth.started_s),
        ("connect", birth.connected_s),
        ("setup", birth.ready_s),
        ("route", taken_s),
        ("call", answered_s),
        since_s=arrived_s,
    )


def header(stages: Stages) -> str:
    """As in the header `Server-Timing`."""
    return ", ".join(f"{name};dur={ms:.1f}" for name, ms in stages)


def _cut(*moments: tuple[str, float | None], since_s: float) -> Stages:
    found: list[tuple[str, float]] = []
    for name, moment_s in moments:
        # What had happened before the stage ahead of it was over took no time of its own: a runner may dial before its pid is known here.
        until_s = max(since_s, moment_s) if moment_s is not None else since_s
        found.append((name, (until_s - since_s) * 1000))
        since_s = until_s
    return tuple(found)
