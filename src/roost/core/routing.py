"""Which runner takes a call (spec: scaling-routing.md §6, GAPS C16): one that reported the caller's hint, else one that reports nothing and
has lately had calls with it, else the next in turn.

This is asked once a call, so it copies nothing: the gateway passes the objects it already holds. Whether it is worth to go on
waiting when nobody is free is another question; `admission.judge` answers it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Candidate(Protocol):
    """A connected runner of the alias's current revision that is not draining."""

    @property
    def id(self) -> str: ...
    @property
    def free(self) -> int:
        """How many more calls it takes now."""
        ...

    @property
    def hints(self) -> Collection[str]:
        """What its last response reported (`X-Fal-Runner-Hints`); empty if it never reported."""
        ...

    @property
    def remembered(self) -> Collection[str]:
        """Hints of the calls that it was sent lately."""
        ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True, slots=True)
class Pick:
    """How to choose: `turn` is where the round stands (from the last Send), `avoid` are runners that an earlier attempt was on."""

    turn: int = 0
    hint: str = ""
    avoid: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Send(Generic[C]):
    """Reserve a slot of this runner; pass `turn` to the next choice."""

    runner: C
    turn: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody is free."""


WAIT = Wait()


def choose(candidates: Sequence[C], pick: Pick) -> Send[C] | Wait:
    """A free runner that reported the hint, else one that had it, else the next free one in turn, else one to be avoided; never waits for a match."""
    count = len(candidates)
    match = -1
    had_it = -1
    fallback = -1
    second_best = -1
    for offset in range(count):
        index = (pick.turn + offset) % count
        runner = candidates[index]
        if runner.free <= 0:
            continue
        if runner.id in pick.avoid:
            if second_best < 0:
                second_best = index
            continue
        if fallback < 0:
            fallback = index
        if not pick.hint:
            break
        if pick.hint in runner.hints:
            match = index
            break
        # One that reports is believed: what it was sent before, it may have let go since.
        if had_it < 0 and not runner.hints and pick.hint in runner.remembered:
            had_it = index
    # A retry prefers another runner, but a runner that it was on before is better than none.
    for index in (match, had_it, fallback, second_best):
        if index >= 0:
            return Send(candidates[index], index + 1)
    return WAIT
