"""The living requests as the server sees them, in memory and without IO: who may go next, who waits for what, at which place.

Rows of the store come in by `put`, in any order: an older row of a request never replaces a newer one. Who may go are those that wait,
are not in back-off, and are not held (being claimed, or in doubt). Each app has one line, by priority and then by seq.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from roost.core.requests import Priority, Request, RequestState
from roost.demand.ranking import Ranking

RECENT: Final = 20_000
"""Finished requests that are remembered, so that the polls of those who wait for them need no read."""
_LOW: Final = 1 << 62
"""Above every seq: all of low priority come after all of normal."""
_STALE: Final = 1_000
"""Entries of a heap that may have become void before it is built anew."""


@dataclass(slots=True)
class Line:
    """The requests of one app that are IN_QUEUE, by their place."""

    waiting: dict[int, Request] = field(default_factory=dict[int, Request])
    clean: Ranking = field(default_factory=Ranking)
    """Places of those that may go."""
    suspects: Ranking = field(default_factory=Ranking)
    """The same, of those in which a runner died before: two of them never share a runner."""

    def ready(self) -> int:
        return len(self.clean) + len(self.suspects)

    def of(self, request: Request) -> Ranking:
        return self.suspects if request.deaths else self.clean

    def in_order(self) -> Iterator[Request]:
        """Those that may go."""
        places: Iterable[int] = heapq.merge(self.clean, self.suspects) if len(self.suspects) else self.clean
        return (self.waiting[place] for place in places)


class Lines:
    """What the queue knows. `now_ms` is an argument everywhere."""

    def __init__(self, recent: int = RECENT) -> None:
        self._living: dict[str, Request] = {}
        self._recent: OrderedDict[str, Request] = OrderedDict()
        self._most_recent = recent
        self._lines: dict[str, Line] = {}
        self._under_way: dict[str, Request] = {}
        self._held: set[str] = set()
        self._were_on: dict[str, tuple[str, ...]] = {}
        self._due: list[tuple[int, int, str]] = []
        self._deadlines: list[tuple[int, int, str]] = []
        self._with_due = 0
        self._with_deadline = 0

    # what comes in

    def put(self, request: Request, now_ms: int) -> bool:
        """Take in a row as the store has it now, or had it lately. False: it says nothing new."""
        old = self._living.get(request.id) or self._recent.get(request.id)
        if old is not None:
            if old == request or _progress(request) < _progress(old):
                return False
            self._take_out(old)
            if old.runner_id and request.state is RequestState.IN_QUEUE:
                self._were_on[request.id] = (*self._were_on.get(request.id, ()), old.runner_id)[-3:]
        if request.state is RequestState.COMPLETED:
            self._were_on.pop(request.id, None)
            self._recent[request.id] = request
            if len(self._recent) > self._most_recent:
                self._recent.popitem(last=False)
            return True
        self._living[request.id] = request
        if request.state is RequestState.IN_PROGRESS:
            self._under_way[request.id] = request
        else:
            self._place(request, now_ms)
        return True

    def forget(self, id: str) -> None:
        """The store has no such request (any more)."""
        old = self._living.get(id)
        if old is not None:
            self._take_out(old)
        self._recent.pop(id, None)
        self._were_on.pop(id, None)
        self._held.discard(id)

    def renewed(self, request: Request) -> None:
        """The same attempt with a longer lease: nobody's turn changes by it."""
        if request.id in self._under_way:
            self._living[request.id] = self._under_way[request.id] = request

    def _place(self, request: Request, now_ms: int) -> None:
        line = self._lines.get(request.application)
        if line is None:
            line = self._lines[request.application] = Line()
        line.waiting[_place_of(request)] = request
        self._with_deadline += request.deadline_ms is not None
        self._watch_deadline(request)
        if request.due_ms is not None:
            self._with_due += 1
            if request.due_ms > now_ms:
                heapq.heappush(self._due, (request.due_ms, request.seq, request.id))
        self._offer(request, now_ms)

    def _offer(self, request: Request, now_ms: int) -> bool:
        """True: it may go now."""
        if request.id in self._held or request.cancel_asked or (request.due_ms is not None and request.due_ms > now_ms):
            return False
        self._lines[request.application].of(request).add(_place_of(request))
        return True

    def _take_out(self, old: Request) -> None:
        self._living.pop(old.id, None)
        self._recent.pop(old.id, None)
        self._under_way.pop(old.id, None)
        self._held.discard(old.id)
        line = self._lines.get(old.application)
        if line is None or old.state is not RequestState.IN_QUEUE or line.waiting.pop(_place_of(old), None) is None:
            return
        line.of(old).remove(_place_of(old))
        self._with_deadline -= old.deadline_ms is not None
        self._with_due -= old.due_ms is not None
        if not line.waiting:
            del self._lines[old.application]

    # whose turn it is

    def best(self, application: str, now_ms: int, *, suspects: bool = True) -> Request | None:
        """The first of those that may go. One whose start deadline has passed may not."""
        line = self._lines.get(application)
        while line is not None and (place := _first(line, suspects)) is not None:
            request = line.waiting[place]
            if request.deadline_ms is None or request.deadline_ms > now_ms:
                return request
            # Out of the way only: `expired` answers it until somebody ends it.
            line.of(request).remove(place)
        return None

    def hold(self, id: str) -> None:
        """Nobody gets this request until the store says something new of it, or it is let go."""
        self._held.add(id)
        request = self._waiting(id)
        if request is not None:
            self._lines[request.application].of(request).remove(_place_of(request))

    def let_go(self, id: str, now_ms: int) -> bool:
        """It was not claimed after all. True: it may go."""
        if id not in self._held:
            return False
        self._held.discard(id)
        request = self._waiting(id)
        if request is None:
            return False
        self._watch_deadline(request)
        return self._offer(request, now_ms)

    def _watch_deadline(self, request: Request) -> None:
        if request.deadline_ms is not None:
            heapq.heappush(self._deadlines, (request.deadline_ms, request.seq, request.id))

    def runners_before(self, id: str) -> tuple[str, ...]:
        """Where earlier attempts of it were; known since this server started."""
        return self._were_on.get(id, ())

    # moments

    def ripen(self, now_ms: int) -> set[str]:
        """End the back-offs that are over. Answers the apps in which somebody may go now who could not before."""
        ripe: set[str] = set()
        while self._due and self._due[0][0] <= now_ms:
            due_ms, _, request_id = heapq.heappop(self._due)
            request = self._waiting(request_id)
            if request is not None and request.due_ms == due_ms and self._offer(request, now_ms):
                ripe.add(request.application)
        return ripe

    def expired(self, now_ms: int) -> tuple[Request, ...]:
        """Those that wait though their start deadline has passed, until they are ended."""
        found: list[Request] = []
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            deadline_ms, _, request_id = heapq.heappop(self._deadlines)
            request = self._waiting(request_id)
            if request is not None and request.deadline_ms == deadline_ms:
                found.append(request)
        found = [request for request in {request.id: request for request in found}.values() if request.id not in self._held]
        for request in found:
            # Kept for the next question: the write that ends it may fail. One that is held comes back when it is let go.
            self._watch_deadline(request)
        return tuple(found)

    def next_moment(self) -> int | None:
        """When the next back-off or start deadline of a waiting request ends."""
        self._due = self._without_stale(self._due, self._with_due)
        self._deadlines = self._without_stale(self._deadlines, self._with_deadline)
        moments = [heap[0][0] for heap in (self._due, self._deadlines) if heap]
        return min(moments, default=None)

    def _without_stale(self, heap: list[tuple[int, int, str]], valid: int) -> list[tuple[int, int, str]]:
        while heap and self._waiting(heap[0][2]) is None:
            heapq.heappop(heap)
        if len(heap) <= 2 * valid + _STALE:
            return heap
        kept = list({entry for entry in heap if self._waiting(entry[2]) is not None})
        heapq.heapify(kept)
        return kept

    def _waiting(self, id: str) -> Request | None:
        request = self._living.get(id)
        return request if request is not None and request.state is RequestState.IN_QUEUE else None

    # questions

    def find(self, id: str, now_ms: int) -> Request | None:
        """A living request, or one that finished lately and has not expired."""
        request = self._living.get(id) or self._recent.get(id)
        if request is not None and request.expires_ms is not None and request.expires_ms <= now_ms:
            self._recent.pop(id, None)
            return None
        return request

    def position(self, request: Request) -> int:
        """How many of its app that may go would go before it."""
        line = self._lines.get(request.application)
        if line is None or request.state is not RequestState.IN_QUEUE:
            return 0
        place = _place_of(request)
        return line.clean.rank(place) + line.suspects.rank(place)

    def ready(self, application: str) -> int:
        """How many may go."""
        line = self._lines.get(application)
        return line.ready() if line is not None else 0

    def queued(self, application: str) -> int:
        """How many are IN_QUEUE, also in back-off."""
        line = self._lines.get(application)
        return len(line.waiting) if line is not None else 0

    def waiting(self, application: str) -> tuple[Request, ...]:
        """All that are IN_QUEUE."""
        line = self._lines.get(application)
        return tuple(line.waiting.values()) if line is not None else ()

    def oldest(self, application: str, limit: int) -> tuple[int, ...]:
        """When the first `limit` of those that may go were accepted."""
        line = self._lines.get(application)
        return tuple(request.created_ms for request in islice(line.in_order(), limit)) if line is not None else ()

    def applications(self) -> tuple[str, ...]:
        """Those with requests that are IN_QUEUE."""
        return tuple(self._lines)

    def under_way(self) -> tuple[Request, ...]:
        return tuple(self._under_way.values())

    def living(self) -> tuple[Request, ...]:
        return tuple(self._living.values())

    def counts(self) -> dict[tuple[str, RequestState], int]:
        """Living requests by app and state."""
        found = {(application, RequestState.IN_QUEUE): len(line.waiting) for application, line in self._lines.items()}
        for request in self._under_way.values():
            key = (request.application, RequestState.IN_PROGRESS)
            found[key] = found.get(key, 0) + 1
        return found


def _place_of(request: Request) -> int:
    return request.seq if request.priority is Priority.NORMAL else request.seq + _LOW


def _first(line: Line, suspects: bool) -> int | None:
    clean = line.clean.first()
    suspect = line.suspects.first() if suspects else None
    if clean is None or suspect is None:
        return clean if suspect is None else suspect
    return min(clean, suspect)


def _progress(request: Request) -> tuple[bool, int, bool, bool]:
    """Grows along a request's life: IN_QUEUE 0, IN_PROGRESS 1, IN_QUEUE 1, IN_PROGRESS 2 ... COMPLETED."""
    return (
        request.state is RequestState.COMPLETED,
        request.attempt,
        request.state is RequestState.IN_QUEUE,
        request.cancel_asked,
    )
