"""Which templates live: those that save most start-up time for their memory, under a budget (ARCHITECTURE §3).

A base template serves all revisions of an environment and comes first; a revision's template is forked from it. One is worth making
once its revision has been started: the start at deploy counts. What was refused, is refused for good: a revision never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HALF_LIFE_MS = 3_600_000
"""A start of an hour ago counts half."""
FIRST_GUESS_MB = 40.0
"""What a template takes, until one has been measured."""
FIRST_GUESS_SAVED_MS = 600
STAYS = 1.25
"""A living template's worth is taken so many times: two of equal use must not replace each other in turns."""


# --- what is known ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Use:
    """How often a revision's runners were started, recent starts counting more."""

    starts: float = 0.0
    at_ms: int = 0

    def now(self, now_ms: int) -> float:
        return float(self.starts * 0.5 ** (max(0, now_ms - self.at_ms) / HALF_LIFE_MS))


def started(use: Use, now_ms: int) -> Use:
    """One more start, at this moment."""
    return Use(use.now(now_ms) + 1, max(now_ms, use.at_ms))


@dataclass(frozen=True, slots=True)
class Base:
    """The template of an environment (and runtime)."""

    name: str
    living: bool = False
    memory_mb: float | None = None
    """As last measured, also of one that is gone."""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A revision that an alias points to, or that still has a template."""

    revision_id: str
    base: str
    current: bool = True
    """An alias points to it."""
    use: Use = Use()
    saved_ms: int = FIRST_GUESS_SAVED_MS
    """What a start from the template is shorter than a fresh one."""
    living: bool = False
    memory_mb: float | None = None
    refused: str = ""
    starting: bool = False
    """A runner of it is on its way, and a template made now would take the processor from it."""


# --- what to do --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MakeBase:
    base: str


@dataclass(frozen=True, slots=True)
class MakeTemplate:
    revision_id: str


@dataclass(frozen=True, slots=True)
class End:
    """End this template. `name` is a revision's id, or a base's name."""

    name: str
    reason: str


Action = MakeBase | MakeTemplate | End


def plan(candidates: Sequence[Candidate], bases: Sequence[Base], budget_mb: float, now_ms: int) -> tuple[Action, ...]:
    """What to do now, in this order: ends first, so that there is room, then makings, the most useful first."""
    known = {base.name: base for base in bases}
    chosen, needed = _choose(candidates, known, budget_mb, now_ms)
    kept = {candidate.revision_id for candidate in chosen}
    actions: list[Action] = [
        End(candidate.revision_id, _why_not(candidate, budget_mb))
        for candidate in candidates
        if candidate.living and candidate.revision_id not in kept
    ]
    actions += [End(base.name, "no template is made of it any more") for base in bases if base.living and base.name not in needed]
    for candidate in chosen:
        if candidate.living or candidate.starting:
            continue
        base = known.get(candidate.base)
        action = MakeTemplate(candidate.revision_id) if base is not None and base.living else MakeBase(candidate.base)
        if action not in actions:
            actions.append(action)
    return tuple(actions)


def worth(candidate: Candidate, now_ms: int) -> float:
    """Milliseconds saved for each megabyte."""
    saved = candidate.use.now(now_ms) * max(0, candidate.saved_ms) / _memory(candidate)
    return saved * STAYS if candidate.living else saved


def _choose(candidates: Sequence[Candidate], bases: dict[str, Base], budget_mb: float, now_ms: int) -> tuple[list[Candidate], set[str]]:
    """Whose templates should live, best first, and of which bases."""
    eligible = [
        candidate
        for candidate in candidates
        if candidate.current and not candidate.refused and not _refused(bases, candidate.base) and candidate.use.starts > 0
    ]
    chosen: list[Candidate] = []
    needed: set[str] = set()
    left_mb = budget_mb
    for candidate in sorted(eligible, key=lambda one: (-worth(one, now_ms), one.revision_id)):
        cost_mb = _memory(candidate) + (0.0 if candidate.base in needed else _memory(bases.get(candidate.base)))
        if cost_mb <= left_mb:
            left_mb -= cost_mb
            chosen.append(candidate)
            needed.add(candidate.base)
    return chosen, needed


def _why_not(candidate: Candidate, budget_mb: float) -> str:
    if not candidate.current:
        return "no app points to its revision any more"
    if candidate.refused:
        return candidate.refused
    return f"others save more for their memory, and template_memory_mb is {budget_mb:g}"


def _refused(bases: dict[str, Base], name: str) -> bool:
    base = bases.get(name)
    return base is not None and base.refused != ""


def _memory(one: Candidate | Base | None) -> float:
    return FIRST_GUESS_MB if one is None or one.memory_mb is None else max(1.0, one.memory_mb)
