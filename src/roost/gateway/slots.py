"""Handing out runners' slots: at once if one is free, else in the order in which callers came, in turn with the durable queue."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection

from roost.core import admission, fairness, routing
from roost.core.fairness import Shares, Side, Use
from roost.core.requests import Request
from roost.demand.board import Board, Line, Waiter
from roost.demand.queue import Queue
from roost.gateway.resolve import Route, Routes
from roost.link.directory import Directory, Entry
from roost.wire.errors import RoostError

_ASK_AGAIN_S = 0.02
"""How long a runner that answered BUSY is left alone."""


class Slots:
    """The edge between who waits (`Board`) and who is there (`Directory`)."""

    def __init__(self, directory: Directory, board: Board, routes: Routes, limits: admission.Limits, now_ms: Callable[[], int]) -> None:
        self._directory = directory
        self._board = board
        self._routes = routes
        self._limits = limits
        self._now_ms = now_ms
        self._places = itertools.count()
        self._rechecks: dict[str, asyncio.TimerHandle] = {}
        self._ended: Exception | None = None
        self.queue: Queue | None = None
        """Whose requests get slots as well. Its `on_ready` must be `pump`."""
        self.grant: Callable[[str, Entry], bool] = lambda application, entry: False
        """(application, runner with a reserved slot): this is the queue's; it takes what is `next` there, and gives the slot back with `queued=True`.
        False: nothing in the queue may go to this runner now; the slot is free again."""
        self.on_served: Callable[[tuple[str, int, int, int, bool]], object] = lambda call: None
        """(application, when it arrived, when it was sent, now, whether it was queued) of each call that ran, when its slot is free again."""
        directory.on_free = self._freed
        routes.on_switch = lambda route: self.pump(route.application)
        board.on_outlook = self.judge

    def arrive(self) -> int:
        """The place of a new caller in its line; it keeps it when its call is answered BUSY."""
        return next(self._places)

    async def take(self, route: Route, deadline: admission.Deadline, *, place: int, since_ms: int, hint: str = "") -> Entry:
        """A reserved slot of a runner of this app. Raises RoostError when it cannot or may no longer be waited for.

        Cancelling the wait gives up the place.
        """
        if self._ended is not None:
            raise self._ended
        entry = self.take_free(route, hint)
        if entry is not None:
            return entry
        line = self._board.line(route.application)
        waiter = Waiter(since_ms, asyncio.get_running_loop().create_future(), hint, deadline, place)
        ahead = line.ahead_of(place)
        verdict = self._verdict(line, route, waiter, deadline, ahead=ahead)
        if isinstance(verdict, admission.Refuse):
            raise refusal(verdict)
        line.waiting.insert(ahead, waiter)
        self._recheck_in(route.application, verdict.recheck_ms)
        self._board.on_demand(route.application)
        try:
            entry = await waiter.slot
        except asyncio.CancelledError:
            if waiter.slot.done() and not waiter.slot.cancelled() and waiter.slot.exception() is None:
                # The slot was handed over in the same turn in which the caller left.
                self.give_back(route.application, waiter.slot.result())
            raise
        finally:
            self._leave(line, waiter)
        assert isinstance(entry, Entry)
        return entry

    def take_free(self, route: Route, hint: str = "") -> Entry | None:
        """A reserved slot if there is one that is nobody else's turn; None: `take` it, which may mean to wait."""
        line = self._board.line(route.application)
        if line.waiting or self._ended is not None:
            return None
        entry = self._choose(line, route, hint)
        return self._reserve(line, entry, hint) if entry is not None else None

    def take_for_newcomer(self, application: str, hint: str) -> Entry | None:
        """A reserved slot for a queued request that has just come; None: somebody waits before it, or there is none. Given back as `queued`."""
        line, route = self._board.line(application), self._routes.of_application(application)
        if route is None or line.waiting or self._ended is not None or self.queue is None or self.queue.ready(application):
            return None
        entry = self._choose(line, route, hint)
        if entry is None or entry.is_doubted(self._now_ms()):
            return None
        self._measure(line)
        return self._reserve(line, entry, hint, side=Side.QUEUED)

    def give_back(
        self, application: str, entry: Entry, *, busy: bool = False, queued: bool = False, times: tuple[int, int] | None = None
    ) -> None:
        """A call's slot is free again. `busy`: the runner refused the call, since other gateways' calls, or its own drain, hold its slots.
        `queued`: the slot had been granted to the queue. `times`: of a call that ran, when it arrived and when it was sent, in ms."""
        line = self._board.line(application)
        line.in_flight -= 1
        if line.shares is not None:
            self._returned(line, line.shares, Side.QUEUED if queued else Side.DIRECT)
        if busy:
            # Before the slot is offered: the next in line would be refused as well, and those who were would come back in disorder.
            if not entry.refusing:
                asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._ask_again, entry)
            self._directory.refused(entry, self._now_ms())
        now_ms = self._now_ms()
        if times is not None and not busy:
            self.on_served((application, *times, now_ms, queued))
        self._directory.gave_back(entry, now_ms)

    def pump(self, application: str) -> None:
        """Hand free slots to whoever waits: callers in order, and the queue, each its share."""
        line = self._board.peek(application)
        if line is None and self.queue is not None and self.queue.ready(application):
            line = self._board.line(application)
        route = self._routes.of_application(application)
        # A grant may end at once and give its slot back: the loop that granted it goes on with that slot.
        if line is None or route is None or line.pumping:
            return
        line.pumping = True
        unfit: set[str] = set()
        try:
            while self._serve(line, route, unfit):
                pass
        finally:
            line.pumping = False

    def _serve(self, line: Line, route: Route, unfit: set[str]) -> bool:
        """Hand out one slot. False: there is none, or nobody for it."""
        waiter = _first(line)
        request = self._queued(line)
        if request is not None and (waiter is None or self._is_turn_of_queue(line)):
            granted = self._grant(line, route, request, unfit, contested=waiter is not None)
            if granted or waiter is None:
                return granted
        if waiter is None:
            return False
        entry = self._choose(line, route, waiter.hint)
        if entry is None:
            return False
        line.waiting.popleft()
        waiter.slot.set_result(self._reserve(line, entry, waiter.hint, contested=request is not None))
        return True

    def _queued(self, line: Line) -> Request | None:
        """The request that is next in the queue, if it gets slots here."""
        if self.queue is None or self._ended is not None:
            return None
        request = self.queue.head(line.application)
        if request is not None:
            self._measure(line)
        return request

    def _measure(self, line: Line) -> None:
        """The queue takes part from here on."""
        if line.shares is None:
            # Until now nobody measured: those who have slots have had no time of them yet.
            line.shares = Shares(Use(line.in_flight), Use(), self._now_ms())

    def _is_turn_of_queue(self, line: Line) -> bool:
        return line.shares is not None and fairness.whose(line.shares, self._now_ms()) is Side.QUEUED

    def _grant(self, line: Line, route: Route, request: Request, unfit: set[str], *, contested: bool) -> bool:
        """Offer the queue a slot of a free runner, one after the other. `unfit` are those that it did not want."""
        assert self.queue is not None
        while True:
            entry = self._choose(line, route, request.hint, avoid=self.queue.runners_before(request), without=unfit)
            if entry is None:
                return False
            self._reserve(line, entry, "", side=Side.QUEUED, contested=contested)
            if self.grant(line.application, entry):
                if request.hint:
                    entry.remember(request.hint)
                return True
            unfit.add(entry.runner_id)
            line.in_flight -= 1
            if line.shares is not None:
                self._returned(line, line.shares, Side.QUEUED)
            self._directory.not_used(entry)

    def judge(self, application: str) -> None:
        """Send away those who may no longer wait."""
        line = self._board.peek(application)
        route = self._routes.of_application(application)
        if line is None:
            return
        soonest: int | None = None
        for waiter in list(line.waiting):
            if waiter.slot.done():
                continue
            if route is None:
                waiter.slot.set_exception(RoostError("not_found", f'Application "{application}" was deleted while the request waited'))
                continue
            verdict = self._verdict(line, route, waiter, waiter.deadline, ahead=0)
            if isinstance(verdict, admission.Refuse):
                waiter.slot.set_exception(refusal(verdict))
            elif verdict.recheck_ms is not None:
                soonest = verdict.recheck_ms if soonest is None else min(soonest, verdict.recheck_ms)
        self._recheck_in(application, soonest)

    def refuse_all(self, error: Exception) -> None:
        """Nobody who waits, or comes to wait, will be served here any more."""
        self._ended = error
        for line in self._board.lines():
            for waiter in list(line.waiting):
                if not waiter.slot.done():
                    waiter.slot.set_exception(error)

    def _choose(self, line: Line, route: Route, hint: str, *, avoid: Collection[str] = (), without: Collection[str] = ()) -> Entry | None:
        entries = self._directory.of_revision(route.revision_id)
        if without:
            entries = [entry for entry in entries if entry.runner_id not in without]
        match routing.choose(entries, routing.Pick(line.turn, hint, avoid)):
            case routing.Send(entry, turn):
                line.turn = turn
                return entry
            case _:
                return None

    def _reserve(self, line: Line, entry: Entry, hint: str, *, side: Side = Side.DIRECT, contested: bool = False) -> Entry:
        line.in_flight += 1
        if line.shares is not None:
            line.shares = fairness.took(line.shares, side, self._now_ms(), contested=contested)
        self._directory.took(entry)
        if hint:
            entry.remember(hint)
        return entry

    def _returned(self, line: Line, shares: Shares, side: Side) -> None:
        shares = fairness.gave_back(shares, side, self._now_ms())
        over = not shares.queued.held and (self.queue is None or not self.queue.ready(line.application))
        # Callers alone are not measured: their calls need not pay for it.
        line.shares = None if over else shares

    def _verdict(
        self, line: Line, route: Route, waiter: Waiter, deadline: admission.Deadline, *, ahead: int
    ) -> admission.Admit | admission.Refuse:
        return admission.judge(admission.Call(waiter.since_ms, deadline, ahead), line.outlook, self._limits, self._now_ms())

    def _leave(self, line: Line, waiter: Waiter) -> None:
        # Usually it has been taken out by `pump`; a caller that left or was refused takes itself out.
        if not waiter.slot.done() or waiter.slot.cancelled() or waiter.slot.exception() is not None:
            try:
                line.waiting.remove(waiter)
            except ValueError:
                return

    def _freed(self, revision_id: str) -> None:
        route = self._routes.of_revision(revision_id)
        if route is not None:
            self.pump(route.application)

    def _ask_again(self, entry: Entry) -> None:
        entry.refusing = False
        self._freed(entry.revision_id)

    def _recheck_in(self, application: str, ms: int | None) -> None:
        if ms is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + ms / 1000 + 0.001
        planned = self._rechecks.get(application)
        if planned is not None and not planned.cancelled() and loop.time() < planned.when() <= at:
            return
        if planned is not None:
            planned.cancel()
        self._rechecks[application] = loop.call_at(at, self._recheck, application)

    def _recheck(self, application: str) -> None:
        self._rechecks.pop(application, None)
        self.judge(application)


def _first(line: Line) -> Waiter | None:
    """The caller that has waited longest."""
    while line.waiting and line.waiting[0].slot.done():
        line.waiting.popleft()
    return line.waiting[0] if line.waiting else None


def refusal(verdict: admission.Refuse) -> RoostError:
    """A refusal of core as the error that the caller gets, with its headers."""
    error = RoostError(verdict.code, verdict.detail, hint=verdict.hint)
    headers = [(name.lower().encode(), value.encode()) for name, value in verdict.headers]
    if verdict.retry_after_ms is not None:
        headers.append((b"retry-after", b"%d" % -(-verdict.retry_after_ms // 1000)))
    error.headers = tuple(headers)
    return error
