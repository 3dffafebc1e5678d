"""Callers that wait for a runner, and calls in flight, per app. In memory: a direct caller's wait dies with its connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from roost.core.admission import Deadline, Outlook
from roost.core.fairness import Shares

WHENEVER: Final = Deadline(None)


@dataclass(slots=True, eq=False)
class Waiter:
    """One caller that waits. `slot` resolves to the reserved runner, or fails with the error that the caller gets."""

    since_ms: int
    slot: asyncio.Future[Any]
    hint: str = ""
    deadline: Deadline = WHENEVER
    place: int = 0
    """Callers are served in the order of their places."""


@dataclass(slots=True)
class Line:
    """The callers of one app, in order."""

    application: str
    waiting: deque[Waiter] = field(default_factory=deque[Waiter])
    in_flight: int = 0
    turn: int = 0
    """Where routing's round stands."""
    outlook: Outlook = field(default_factory=Outlook)
    """What the fleet last said about this app's runners."""
    shares: Shares | None = None
    """What callers and the queue have of the slots; None while the queue wants none."""
    pumping: bool = False
    """Slots are being handed out at this moment."""

    def ahead_of(self, place: int) -> int:
        """How many callers wait before this place: where in `waiting` it belongs."""
        ahead = len(self.waiting)
        while ahead and self.waiting[ahead - 1].place > place:
            ahead -= 1
        return ahead

    def since(self) -> tuple[int, ...]:
        """When each waiting caller arrived."""
        return tuple(waiter.since_ms for waiter in self.waiting if not waiter.slot.done())


class Board:
    """Every app's line. `on_demand(application)` is called when demand rises from nothing or a caller starts to wait."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self.on_demand: Callable[[str], None] = lambda application: None
        self.on_outlook: Callable[[str], None] = lambda application: None
        self.queued: Callable[[str, int], tuple[int, ...]] = lambda application, limit: ()
        """(application, limit): when its first queued requests that may go now were accepted (`Queue.oldest`)."""

    def line(self, application: str) -> Line:
        line = self._lines.get(application)
        if line is None:
            line = self._lines[application] = Line(application)
        return line

    def lines(self) -> Collection[Line]:
        return list(self._lines.values())

    def peek(self, application: str) -> Line | None:
        return self._lines.get(application)

    def forget(self, application: str) -> None:
        """The app is gone. Its waiting callers must have been answered before."""
        line = self._lines.get(application)
        if line is not None and not line.waiting and not line.in_flight:
            del self._lines[application]

    def tell(self, application: str, outlook: Outlook) -> None:
        """What the fleet knows about this app's runners, for callers that wait."""
        line = self.line(application)
        if line.outlook != outlook:
            line.outlook = outlook
            self.on_outlook(application)

    def waiting_since(self, application: str, limit: int) -> tuple[int, ...]:
        """When each call that waits for a runner came: all direct ones, and the first `limit` of the queue."""
        line = self._lines.get(application)
        return (line.since() if line is not None else ()) + self.queued(application, limit)

    def waiting(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())
