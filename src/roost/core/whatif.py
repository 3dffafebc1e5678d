"""What an app's past would have looked like with other settings: the figures that a person compares, from what is on record.

    past = Past(since_ms, until_ms, calls, lives)
    measured(past), replayed(past, scale), replayed(past, other)

Replayed with the settings that were in force, the past should come out as it was measured: how well it does says how far to trust the rest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from roost.core import simulation
from roost.core.model import Scale
from roost.core.simulation import Arrival, Ground

UNKNOWN_COLD_MS: Final = 1_000
"""How long a start takes of which none is on record."""
REACTION_MS: Final = 2
"""How soon a server that is not busy looks at a call that waits."""
LATEST_MS: Final = 500
"""A start that came later than this after the call that it was for had to wait for something else: for room, for the end of another runner."""
_LONGEST_LINE: Final = 10_000
"""Waiting calls that are looked at for one start."""
NOTICED_MS: Final = 5
"""A shorter wait is the server's own work, not the want of a runner."""


class Call(NamedTuple):
    """One call as it was: when it came, how long it waited for a runner, and how long it held its slot there."""

    at_ms: int
    wait_ms: int
    service_ms: int
    queued: bool = False


class Lived(NamedTuple):
    """One runner as it was. `ended_ms` is None while it lives."""

    created_ms: int
    ready_ms: int | None
    ended_ms: int | None


@dataclass(frozen=True, slots=True)
class Past:
    """What is on record of one app from `since_ms` until `until_ms`."""

    since_ms: int
    until_ms: int
    calls: tuple[Call, ...]
    """In the order in which they came."""
    lives: tuple[Lived, ...]
    scale: Scale = field(default_factory=Scale)
    """The settings that were in force."""

    @property
    def cold_ms(self) -> tuple[int, ...]:
        """How long each start took, in their order: those of this time, or else earlier ones that are known."""
        began = [life for life in sorted(self.lives) if life.ready_ms is not None]
        return _took([life for life in began if self.since_ms <= life.created_ms < self.until_ms], self.calls, self.scale) or _took(
            began, (), self.scale
        )

    @property
    def ready(self) -> int:
        """Runners that were there, and ready, when it began."""
        return sum(
            1
            for life in self.lives
            if life.ready_ms is not None and life.ready_ms <= self.since_ms and (life.ended_ms is None or life.ended_ms > self.since_ms)
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """What waiting was bought for which price. A call's wait ends when it is sent to a runner."""

    calls: int
    unserved: int
    """Of them, those that still waited at the end."""
    wait_p50_ms: int
    wait_p95_ms: int
    wait_p99_ms: int
    waited: int
    """Calls that did not find a free runner."""
    starts: int
    runner_ms: int
    """Time that runners existed, all together."""
    peak: int
    """The most runners at once."""


def measured(past: Past) -> Figures:
    """As it was."""
    waits = [call.wait_ms for call in past.calls]
    spans = [(max(life.created_ms, past.since_ms), _end(life, past.until_ms)) for life in past.lives]
    starts = sum(1 for life in past.lives if past.since_ms <= life.created_ms < past.until_ms)
    return _figures(waits, 0, starts, [span for span in spans if span[0] < span[1]])


def replayed(past: Past, scale: Scale) -> Figures:
    """As it would have been with these settings."""
    arrivals = [Arrival(call.at_ms, call.service_ms, call.queued) for call in past.calls]
    ground = Ground(
        simulation.recorded(past.cold_ms or (UNKNOWN_COLD_MS,)), reaction_ms=REACTION_MS, ready=max(past.ready, _at_rest(scale))
    )
    outcome = simulation.run(arrivals, scale, ground, from_ms=past.since_ms, until_ms=past.until_ms)
    starts = sum(1 for life in outcome.lives if life.ready_ms != life.started_ms)  # those that were there were ready at once
    return _figures(outcome.waits_ms, outcome.unserved, starts, [(life.started_ms, life.ended_ms) for life in outcome.lives])


def _took(began: Sequence[Lived], calls: Sequence[Call], scale: Scale) -> tuple[int, ...]:
    """From the moment in which each of these runners was needed until it was ready.

    The server notices a need, places a runner and writes it down before there is a row of it, and while it does that for one, the next waits:
    next to nothing usually, a tenth of a second on a busy machine. So a start is counted from the call that it was for.
    """
    waited = [call for call in calls if call.wait_ms]
    moments = [call.at_ms for call in waited]
    longest_ms = max((call.wait_ms for call in waited), default=0)
    took: list[int] = []
    starting: list[int] = []
    for life in began:
        assert life.ready_ms is not None
        at_ms = life.created_ms
        before = bisect_right(moments, at_ms)
        near = waited[max(bisect_left(moments, at_ms - longest_ms), before - _LONGEST_LINE) : before]
        needing = [call.at_ms for call in near if call.at_ms + call.wait_ms > at_ms]
        # Runners that start already are for the calls before.
        starting = [ready_ms for ready_ms in starting if ready_ms > at_ms]
        needed = needing[len(starting) * max(1, scale.max_multiplexing) :]
        late_ms = at_ms - needed[0] - scale.scaling_delay_ms - REACTION_MS if needed else 0
        took.append(life.ready_ms - at_ms + (late_ms if 0 <= late_ms <= LATEST_MS else 0))
        starting.append(life.ready_ms)
    return tuple(took)


def _at_rest(scale: Scale) -> int:
    """Runners that these settings would have had there before the first call."""
    return min(scale.max_concurrency, max(scale.min_concurrency, scale.concurrency_buffer))


def _end(life: Lived, until_ms: int) -> int:
    return until_ms if life.ended_ms is None else min(life.ended_ms, until_ms)


def _figures(waits: Sequence[int], unserved: int, starts: int, spans: Iterable[tuple[int, int]]) -> Figures:
    spans = list(spans)
    ordered = sorted(waits)
    return Figures(
        calls=len(waits) + unserved,
        unserved=unserved,
        wait_p50_ms=simulation.quantile_of(ordered, 0.50),
        wait_p95_ms=simulation.quantile_of(ordered, 0.95),
        wait_p99_ms=simulation.quantile_of(ordered, 0.99),
        waited=sum(1 for wait in waits if wait >= NOTICED_MS),
        starts=starts,
        runner_ms=sum(end - begin for begin, end in spans),
        peak=simulation.most_at_once(spans),
    )
