"""What runners may take, kept: by a control group each where we have groups to divide, else memory by looking at it.

No rlimits: they count address space or reservations, for each process alone (docs/decisions/0008-limits.md says what that would do).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from roost.kit import linux, log, memory
from roost.kit.cgroups import Groups, Unavailable
from roost.kit.spawn import NO_LIMITS, Enforcement, Limits

_SOONEST_MS: Final = 100
_LATEST_MS: Final = 1_000
_GROWTH_MB_PER_MS: Final = 2.0
"""How fast a process can take memory: two processors that touch fresh pages."""
_MOST_OF_A_CPU: Final = 0.05
"""What looking may cost: a family of processes that share much is slow to measure."""


@dataclass(slots=True)
class _Kept:
    """One process with limits, and its family."""

    name: str
    limits: Limits
    in_group: bool = False
    inherited_mb: float = 0.0
    """What it shared with its template when it became ours: nobody paid for that a second time."""
    peak_mb: float = 0.0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How memory took part in a process's end."""

    limit_mb: int = 0
    """The limit that it went beyond; 0: it did not."""
    peak_mb: int = 0
    killed: bool = False
    """The kernel killed one of its group."""


class Keeper:
    """Knows the limits of all living children, by pid."""

    def __init__(self, groups: Groups | Unavailable, strays: Callable[[], dict[int, int]] = dict) -> None:
        """`strays()`: processes that left their session and lost their parent, with the child that each belongs to."""
        self._groups = groups if isinstance(groups, Groups) else None
        self._why = groups.reason if isinstance(groups, Unavailable) else ""
        self._strays = strays
        self._kept: dict[int, _Kept] = {}
        self._empty: set[str] = set()
        """Groups whose child has ended, to be removed when the last of its processes has."""
        self._next_look_ms = 0
        self._seen_ms = 0

    @property
    def how(self) -> Enforcement:
        """In words, for `roost doctor`."""
        groups = self._groups
        group = f"by control groups (version {groups.version})" if groups is not None else ""
        memory_way = group if groups is not None and groups.limits_memory else "by looking at it, ten times a second where it is short"
        cpu_way = group if groups is not None and groups.limits_cpu else "not kept: there is no control group to give weights in"
        return Enforcement(memory_way, cpu_way, self._why)

    def take(self, name: str, pid: int, limits: Limits, forked: bool = False) -> None:
        """Keep these limits from now on. `forked` from a template: what it has already is the template's."""
        if limits == NO_LIMITS:
            return
        kept = self._kept[pid] = _Kept(name, limits)
        if self._groups is not None:
            try:
                self._groups.put(name, _family(pid), limits)
                kept.in_group = True
            except OSError as error:
                log.warning("limits.no_group", name=name, reason=error, instead="its memory is looked at")
                self._empty.add(name)
        if forked and not self._is_capped(kept):
            kept.inherited_mb = memory.held_mb((pid,), 0)
        # Not at once: fifty that are started together are looked at together.
        self._next_look_ms = min(self._next_look_ms, self._seen_ms + _SOONEST_MS)

    def look(self, now_ms: int) -> list[int]:
        """Who holds more memory than it may, if it is time to look. Told once each."""
        self._seen_ms = now_ms
        self._empty = {name for name in self._empty if self._groups is not None and not self._groups.remove(name)}
        looked_at = {pid: kept for pid, kept in self._kept.items() if kept.limits.memory_mb and not self._is_capped(kept)}
        if not looked_at or now_ms < self._next_look_ms:
            return []
        began_ms = _cpu_ms()
        kin = memory.everybody()
        families = memory.families(looked_at, kin)
        for stray, root in self._strays().items():
            if root in families and stray not in families[root]:
                families[root].append(stray)
        over: list[int] = []
        rooms = [_LATEST_MS * _GROWTH_MB_PER_MS]
        for pid, kept in looked_at.items():
            room_mb = self._room_mb(kept, families[pid])
            if room_mb >= 0:
                rooms.append(room_mb)
            elif not kept.over:
                kept.over = True
                over.append(pid)
        self._next_look_ms = now_ms + pause_ms(min(rooms), _cpu_ms() - began_ms)
        return over

    def next_look_ms(self) -> int | None:
        """When `look` has something to do; None while there is nobody to look at."""
        return self._next_look_ms if any(kept.limits.memory_mb and not self._is_capped(kept) for kept in self._kept.values()) else None

    def ended(self, pid: int) -> Verdict:
        """A child has ended, all that it left behind in its group ends too. Answers what memory had to do with it."""
        kept = self._kept.pop(pid, None)
        if kept is None:
            return Verdict()
        use = self._groups.use(kept.name) if self._groups is not None and kept.in_group else None
        if self._groups is not None and kept.in_group:
            self._groups.end(kept.name)
            self._empty.add(kept.name)
        if use is not None:
            return Verdict(kept.limits.memory_mb if use.killed and use.at_limit else 0, use.peak_mb, use.killed)
        return Verdict(kept.limits.memory_mb if kept.over else 0, round(kept.peak_mb))

    def _room_mb(self, kept: _Kept, family: Collection[int]) -> float:
        held = memory.held_mb(tuple(family), kept.limits.memory_mb + kept.inherited_mb) - kept.inherited_mb
        kept.peak_mb = max(kept.peak_mb, held)
        return kept.limits.memory_mb - held

    def _is_capped(self, kept: _Kept) -> bool:
        return kept.in_group and self._groups is not None and self._groups.limits_memory


def _family(root: int) -> list[int]:
    """A child and what it has forked so far."""
    found = [root]
    for pid in found:
        found += linux.children(pid)
    return found


def pause_ms(room_mb: float, cost_ms: float) -> int:
    """Until the next look: when whoever grows as fast as anybody can might have used up its room, and not so often that it costs much."""
    soon = min(_LATEST_MS, max(_SOONEST_MS, room_mb / _GROWTH_MB_PER_MS))
    return round(max(soon, cost_ms / _MOST_OF_A_CPU))


def _cpu_ms() -> float:
    return time.thread_time() * 1000
