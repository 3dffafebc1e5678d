"""Queued requests and free slots: who goes where, and what becomes of those whose runner, deadline or app is gone.

A slot that is free is granted by the gateway (`granted`); each grant is one attempt, with a task of its own. Besides, one loop ends what waited for
too long, gives more time to attempts whose runner is heard of, and takes those away whose runner is not. After a start the attempts of the
server before this one are taken up: their runners dial home and are asked for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from typing import Final as Constant

from roost.core import leases, retry
from roost.core.model import RunnerState
from roost.core.requests import Final, NewRequest, OtherBody, Request, RequestState, SameKey, Submitted
from roost.engines.dispatch.attempt import Attempt, Ties
from roost.kit import log
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.link.connection import CallConnection
from roost.link.directory import Directory, Entry
from roost.store import Store, StoreClosed, StoreError
from roost.wire.errors import CODES

_TOGETHER: Constant = 500
"""Requests that are ended in one round: others that write meanwhile wait no longer than that takes."""
_SOONEST_MS: Constant = 5
_IDLE_MS: Constant = 5_000
"""Nobody tells when an app is deleted in the moment in which a request for it is accepted: that one waits so long for its end."""
_LAST_STEPS_S: Constant = 2.0
_STEP_S: Constant = 0.02


class DispatchEngine:
    """All attempts of this server."""

    def __init__(self, store: Store, hints: Hints, directory: Directory, ties: Ties, lives: Callable[[str], bool]) -> None:
        self._store = store
        self._hints = hints
        self._queue = ties.queue
        self._directory = directory
        self._ties = ties
        self._lives = lives
        """Whether this runner's process is there and not stopped, as far as the supervisor has said."""
        self._attempts: dict[str, Attempt] = {}
        """By request: none is tried twice at a time."""
        self._by_runner: dict[str, set[Attempt]] = {}
        self._suspects: set[Attempt] = set()
        """Those of requests in which a runner has died."""
        self._tasks: dict[Attempt, asyncio.Task[None]] = {}
        self._asides: set[asyncio.Task[None]] = set()
        self._silent_ms: dict[str, int] = {}
        self._looked_ms = 0
        self._renewed_ms = 0
        self._stopped = False
        self.loop = Loop("dispatch", hints, ("dispatch", "queue", "apps"), self.round)

    def adopt(self) -> None:
        """At start, before runners may dial home: what the server before this one had under way goes on."""
        for request in self._queue.in_progress():
            self._take_up(request)
        if self._attempts:
            log.info("dispatch.adopted", attempts=len(self._attempts))

    async def stop(self) -> None:
        """Begin nothing any more, let those that are between two places arrive, and leave the others to the next server."""
        self._stopped = True
        await self.loop.stop()
        until = asyncio.get_running_loop().time() + _LAST_STEPS_S
        while self._tasks:
            patience_over = asyncio.get_running_loop().time() >= until
            for attempt, task in list(self._tasks.items()):
                if task.done():
                    # It was cut before its first step, and could not say that it is over: waiting for it would never end.
                    self._over(attempt)
                elif attempt.may_be_cut or patience_over:
                    task.cancel()
            if not self._tasks:
                break
            await asyncio.wait(list(self._tasks.values()), timeout=_STEP_S, return_when=asyncio.FIRST_COMPLETED)
        for task in self._asides:
            task.cancel()
        if self._asides:
            await asyncio.wait(list(self._asides))

    # what others tell, on the event loop

    def granted(self, application: str, entry: Entry) -> bool:
        """A slot of this runner is reserved for the queue. False: there is nothing that may go there now."""
        if self._stopped:
            return False
        # Two requests in which a runner died never share one: else who is at fault could not be told.
        suspected = any(attempt.runner_id == entry.runner_id for attempt in self._suspects)
        request = self._queue.next(application, self._ties.now_ms(), suspects=not suspected)
        if request is None:
            return False
        attempt = Attempt(self._ties, request, entry.runner_id, self._aside)
        self._begin(attempt, attempt.run(entry))
        return True

    def at_once(self, new: NewRequest, entry: Entry) -> asyncio.Future[Submitted | SameKey | OtherBody]:
        """A slot of this runner is reserved for this request, which has just come: it is accepted and begins. The answer is that of `Queue.submit`."""
        accepted: asyncio.Future[Submitted | SameKey | OtherBody] = asyncio.get_running_loop().create_future()
        attempt = Attempt(self._ties, new.request, entry.runner_id, self._aside)
        # Its task must begin, or who submits would wait for ever.
        attempt.may_be_cut = False
        self._begin(attempt, attempt.run_at_once(entry, new, accepted))
        return accepted

    @property
    def stopped(self) -> bool:
        return self._stopped

    def on_calls(self, runner_id: str, connection: CallConnection) -> None:
        """The link: a runner has dialled home, and nobody was given a slot of it yet."""
        for attempt in self._of(runner_id):
            attempt.rejoin(connection)

    def on_kept(self, connection: CallConnection, attempts: list[tuple[str, int]]) -> None:
        """The link: which attempts that runner keeps. Those that are settled it may forget; it was told so on a connection that broke, or by a
        server that ended in the moment between."""
        if not self._stopped:
            self._aside(self._tell_settled(connection, attempts))

    def on_end(self, runner_id: str, reason: str, crashed: bool) -> None:
        """The fleet: a runner has ended, why, and whether by itself."""
        for attempt in self._of(runner_id):
            attempt.ended_runner(reason.partition("\n")[0], crashed)

    def on_asked(self, request: Request) -> None:
        """The queue: the end of this request, which is under way, is wanted."""
        attempt = self._attempts.get(request.id)
        if attempt is not None and attempt.is_claimed:
            attempt.request = request
            self._aside(attempt.cancel())

    # attempts

    def _take_up(self, request: Request) -> None:
        if request.runner_id is not None:
            attempt = Attempt(self._ties, request, request.runner_id, self._aside)
            self._begin(attempt, attempt.take_up())

    def _begin(self, attempt: Attempt, work: Coroutine[Any, Any, None]) -> None:
        if not self._attempts:
            # The loop may sleep for long, and should look after this one if it lasts. Not at once: most do not, and each would wake it.
            self._hints.give_within("dispatch", leases.LOOK_EVERY_MS / 1000)
        self._attempts[attempt.request.id] = attempt
        self._by_runner.setdefault(attempt.runner_id, set()).add(attempt)
        if attempt.request.deaths:
            self._suspects.add(attempt)
        task = self._tasks[attempt] = asyncio.get_running_loop().create_task(self._carry(attempt, work))
        # Of a task that is cut before its first step nobody has begun it.
        task.add_done_callback(lambda _: work.close())

    async def _carry(self, attempt: Attempt, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StoreClosed:
            # This server is stopping. What the runner answered is still there for the next one.
            pass
        except Exception as error:
            log.exception("attempt.failed", error, request=attempt.request.id, runner=attempt.runner_id)
        finally:
            self._over(attempt)

    def _over(self, attempt: Attempt) -> None:
        runner_id = attempt.runner_id
        if self._attempts.get(attempt.request.id) is attempt:
            # Else the next attempt of this request has begun already, by what this one did last.
            del self._attempts[attempt.request.id]
        del self._tasks[attempt]
        self._suspects.discard(attempt)
        others = self._by_runner[runner_id]
        others.discard(attempt)
        if not others:
            del self._by_runner[runner_id]
            self._silent_ms.pop(runner_id, None)
        if not attempt.is_claimed and not self._stopped:
            self._queue.put_back(attempt.request)
        if attempt.request.deaths and not self._stopped:
            # The next of its kind may go to this runner now, and was refused while this one was there.
            self._queue.on_ready(attempt.request.application)

    async def _tell_settled(self, connection: CallConnection, attempts: list[tuple[str, int]]) -> None:
        for request_id, number in attempts:
            try:
                request = await self._queue.get(request_id)
            except StoreError:
                # It asks again on its next connection, and forgets by itself after a while.
                return
            is_newest = request is not None and request.attempt == number
            if request is not None and is_newest and request.state is RequestState.COMPLETED:
                connection.taken([(request_id, number)])
            elif request is None or not is_newest or request.state is RequestState.IN_QUEUE:
                connection.drop([(request_id, number)])

    def _of(self, runner_id: str) -> list[Attempt]:
        return list(self._by_runner.get(runner_id, ()))

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    # one round

    async def round(self) -> float:
        """End what may not wait any longer, and look after what is under way."""
        now_ms = self._ties.now_ms()
        expired = self._queue.due_and_expired(now_ms)
        await asyncio.gather(*(self._queue.expire(request.id) for request in expired[:_TOGETHER]))
        since_ms = now_ms - self._looked_ms
        if since_ms >= leases.LOOK_EVERY_MS:
            self._looked_ms = now_ms
            await self._end_homeless()
            await self._look(now_ms, since_ms)
        if len(expired) > _TOGETHER:
            return 0.0
        now_ms = self._ties.now_ms()
        rest_ms = leases.LOOK_EVERY_MS if self._attempts or self._queue.applications() else _IDLE_MS
        moments = [self._looked_ms + rest_ms, self._queue.next_moment(now_ms)]
        return max(_SOONEST_MS, min(at for at in moments if at is not None) - now_ms) / 1000

    async def _end_homeless(self) -> None:
        """Requests that wait for an app which was deleted wait for nothing."""
        waiting = self._queue.applications()
        if not waiting:
            return
        there = {alias.application for alias in await self._store.apps.list()}
        for application in waiting:
            if application not in there:
                owner, _, name = application.rpartition("/")
                gone = f'Application "{application}" was deleted while the request waited'
                ended = await self._queue.flush(owner, name, None, Final(CODES["not_found"].status, gone, "not_found"))
                log.info("queue.app_gone", app=application, requests=len(ended))

    async def _look(self, now_ms: int, since_ms: int) -> None:
        """Who is heard of gets more time; whose silence has lasted too long, or who is gone, loses what it has."""
        for request in self._queue.in_progress():
            if request.id not in self._attempts:
                # Its claim was on disk though its write had failed, or whoever carried it has failed.
                self._take_up(request)
        for runner_id in list(self._by_runner):
            heard = self._is_heard(runner_id)
            silent_ms = self._silent_ms[runner_id] = leases.silence(self._silent_ms.get(runner_id, 0), heard, since_ms)
            if leases.is_over(silent_ms):
                self._lose(runner_id, silent_ms)
            elif not heard:
                await self._bury(runner_id)
        if now_ms - self._renewed_ms >= leases.RENEW_EVERY_MS:
            self._renewed_ms = now_ms
            await self._renew(now_ms)

    def _is_heard(self, runner_id: str) -> bool:
        entry = self._directory.get(runner_id)
        return (entry is not None and not entry.frozen) or self._lives(runner_id)

    def _lose(self, runner_id: str, silent_ms: int) -> None:
        for attempt in self._of(runner_id):
            log.warning("request.lost", request=attempt.request.id, attempt=attempt.request.attempt, runner=runner_id, silent_ms=silent_ms)
            attempt.end(retry.Lost(f"its runner was silent for {leases.LEASE_MS / 1000:g} s"))

    async def _bury(self, runner_id: str) -> None:
        """It may have ended before this server began, or while its end could not be told."""
        runner = await self._store.runners.get(runner_id)
        if runner is None or runner.state is RunnerState.TERMINATED:
            self.on_end(runner_id, runner.reason if runner is not None else "it is not known any more", False)

    async def _renew(self, now_ms: int) -> None:
        held = [
            (attempt.request.id, attempt.request.attempt)
            for runner_id, attempts in self._by_runner.items()
            if not self._silent_ms.get(runner_id, 0)
            for attempt in attempts
            if attempt.is_claimed
        ]
        if held:
            await self._queue.renew(held, now_ms + leases.LEASE_MS)
