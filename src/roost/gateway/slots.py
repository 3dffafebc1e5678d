"""Handing out runners' slots: at once if one is free, else in the order in which callers came."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from roost.core import admission, routing
from roost.demand.board import Board, Line, Waiter
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
        line = self._board.line(route.application)
        if not line.waiting:
            entry = self._choose(line, route, hint)
            if entry is not None:
                return self._reserve(line, entry)
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

    def give_back(self, application: str, entry: Entry, *, busy: bool = False) -> None:
        """A call's slot is free again. `busy`: the runner refused the call, since other gateways' calls, or its own drain, hold its slots."""
        line = self._board.line(application)
        line.in_flight -= 1
        if busy:
            # Before the slot is offered: the next in line would be refused as well, and those who were would come back in disorder.
            if not entry.refusing:
                asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._ask_again, entry)
            self._directory.refused(entry)
        self._directory.gave_back(entry, self._now_ms())

    def pump(self, application: str) -> None:
        """Hand free slots to whoever waits, in order."""
        line = self._board.peek(application)
        route = self._routes.of_application(application)
        if line is None or route is None:
            return
        while line.waiting:
            waiter = line.waiting[0]
            if waiter.slot.done():
                line.waiting.popleft()
                continue
            entry = self._choose(line, route, waiter.hint)
            if entry is None:
                return
            line.waiting.popleft()
            waiter.slot.set_result(self._reserve(line, entry))

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

    def _choose(self, line: Line, route: Route, hint: str) -> Entry | None:
        match routing.choose(self._directory.of_revision(route.revision_id), routing.Pick(line.turn, hint)):
            case routing.Send(entry, turn):
                line.turn = turn
                return entry
            case _:
                return None

    def _reserve(self, line: Line, entry: Entry) -> Entry:
        line.in_flight += 1
        self._directory.took(entry)
        return entry

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


def refusal(verdict: admission.Refuse) -> RoostError:
    """A refusal of core as the error that the caller gets, with its headers."""
    error = RoostError(verdict.code, verdict.detail, hint=verdict.hint)
    headers = [(name.lower().encode(), value.encode()) for name, value in verdict.headers]
    if verdict.retry_after_ms is not None:
        headers.append((b"retry-after", b"%d" % -(-verdict.retry_after_ms // 1000)))
    error.headers = tuple(headers)
    return error
