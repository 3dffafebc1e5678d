"""Whose turn a free slot is, when direct callers and the queue both wait for it: each gets about half of the slots' time (ARCHITECTURE §4).

Fair queueing over slot milliseconds. Time is what counts, not the number of calls, since one side's calls may last a thousand times longer. The side
that holds fewer slots goes first; if both hold as many, the one that has had less time. Who does not compete saves up nothing and owes nothing:
an hour of callers alone gives the queue no claim on the next hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Side(Enum):
    DIRECT = "direct"
    QUEUED = "queued"


@dataclass(frozen=True, slots=True)
class Use:
    """What one side has of an app's slots."""

    held: int = 0
    had_ms: int = 0


@dataclass(frozen=True, slots=True)
class Shares:
    """Both sides, as of `at_ms`."""

    direct: Use = Use()
    queued: Use = Use()
    at_ms: int = 0


def whose(shares: Shares, now_ms: int) -> Side:
    """Who gets the slot that both want."""
    now = passed(shares, now_ms)
    if now.queued.held != now.direct.held:
        return Side.QUEUED if now.queued.held < now.direct.held else Side.DIRECT
    # A caller that waits on its connection goes before a request that nobody may be watching.
    return Side.QUEUED if now.queued.had_ms < now.direct.had_ms else Side.DIRECT


def took(shares: Shares, side: Side, now_ms: int, *, contested: bool) -> Shares:
    """After a slot went to `side`. Uncontested, the two are even from here on: nobody else wanted what it gets."""
    now = passed(shares, now_ms)
    if not contested:
        most = max(now.direct.had_ms, now.queued.had_ms)
        now = Shares(Use(now.direct.held, most), Use(now.queued.held, most), now.at_ms)
    return _changed(now, side, +1)


def gave_back(shares: Shares, side: Side, now_ms: int) -> Shares:
    """After a slot of `side` was given back."""
    return _changed(passed(shares, now_ms), side, -1)


def passed(shares: Shares, now_ms: int) -> Shares:
    """The same holdings a while later."""
    ms = max(0, now_ms - shares.at_ms)
    if not ms:
        return shares
    direct, queued = shares.direct, shares.queued
    return Shares(Use(direct.held, direct.had_ms + direct.held * ms), Use(queued.held, queued.had_ms + queued.held * ms), now_ms)


def _changed(shares: Shares, side: Side, by: int) -> Shares:
    # Without `dataclasses.replace`: this is asked twice a call, and it would be a quarter of what handing out a slot costs.
    direct, queued = shares.direct, shares.queued
    if side is Side.DIRECT:
        return Shares(Use(direct.held + by, direct.had_ms), queued, shares.at_ms)
    return Shares(direct, Use(queued.held + by, queued.had_ms), shares.at_ms)
