"""The durable queue: the one way to change a queued request, and what is known of all that live (docs/internals/durable-queue.md).

    request = queue.next(application, now_ms)            who goes next; nobody else gets it now
    claimed = await queue.claim(request, Claim(...))     on disk: its bytes may be sent
    await queue.finish(request.id, attempt, final)       None: somebody else decided first

Each verb writes the store, then the view (`demand.lines`), then tells who watches and who could do something now. When a write fails, what became
of it is not known, since it may have failed after it was on disk: the row is read again before anything else is done with that request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeVar
from typing import Final as Constant

from roost.core import retry
from roost.core.lifecycle import RequestEvent
from roost.core.requests import Again, Claim, Claimed, Final, NewRequest, OtherBody, Request, RequestState, SameKey, Submitted
from roost.demand.lines import Lines
from roost.kit import hints as nudges
from roost.kit import log
from roost.kit.hints import Hints
from roost.store.errors import StoreClosed, StoreError
from roost.store.requests import Requests

T = TypeVar("T")

FLEET_HINT_S: Constant = 0.05
"""While requests wait already, the fleet hears of more of them together."""
WEBHOOK_HINT_S: Constant = 0.01
"""Webhooks that are owed within so little time are read together."""
LOOK_AGAIN_S: Constant = 1.0
"""After a row could not be read that must be."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It waited, and will never run."""

    request: Request


@dataclass(frozen=True, slots=True)
class Asked:
    """It runs. That it should end is on disk: no further attempt begins."""

    request: Request


@dataclass(frozen=True, slots=True)
class AlreadyCompleted:
    request: Request


@dataclass(frozen=True, slots=True)
class NotFound:
    """There is no such request, or its retention is over."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long results are kept (GAPS B5)."""

    kept_ms: int = 30 * 24 * 3_600_000
    briefly_ms: int = 3_600_000
    """With `X-Fal-Store-IO: 0`."""
    webhook_ms: int = 3_600_000
    """How long after a request's end its webhook is tried."""


class Queue:
    """Made by `Queue.open`; one in a server."""

    def __init__(self, store: Requests, hints: Hints, now_ms: Callable[[], int], retention: Retention) -> None:
        self._store = store
        self._hints = hints
        self._now_ms = now_ms
        self._retention = retention
        self._lines = Lines()
        self._watches: dict[str, set[Watch]] = {}
        self._doubtful: set[str] = set()
        """Requests whose row must be read before anything is done with them."""
        self._second_look: asyncio.TimerHandle | None = None
        self._verbs: set[asyncio.Task[Any]] = set()
        self._writes = _Writes()
        self.on_ready: Callable[[str], None] = lambda application: None
        """A request of this app may go, that could not before."""
        self.on_asked: Callable[[Request], None] = lambda request: None
        """The end of this request, which is under way, is wanted: the app should be told."""

    @classmethod
    async def open(cls, store: Requests, hints: Hints, now_ms: Callable[[], int], retention: Retention | None = None) -> Queue:
        """With everything that lives. Nothing is announced: who takes work asks `applications` first."""
        queue = cls(store, hints, now_ms, retention or Retention())
        await queue.load()
        return queue

    async def load(self) -> None:
        """Take in everything that lives: once, before anything else."""
        for request in await self._store.living(self._now_ms()):
            self._lines.put(request, self._now_ms())
        for request in self._lines.living():
            if request.cancel_asked and request.state is RequestState.IN_QUEUE:
                # The server before this one ended between the two writes of `requeue`.
                await self.cancel(request.id)

    async def close(self) -> None:
        """Wait for what goes on though its caller has left."""
        if self._second_look is not None:
            self._second_look.cancel()
        if self._verbs:
            await asyncio.wait(list(self._verbs))

    # --- verbs: the store, then the view

    async def submit(self, new: NewRequest) -> Submitted | SameKey | OtherBody:
        """Accept it; when this answers `Submitted` it is on disk. A caller that leaves before may have submitted it or not."""
        try:
            with self._writes:
                answer = await self._store.submit(new, self._now_ms())
        except BaseException as error:
            row = await self._settle_after(error, new.request.id)
            if row is None:
                raise
            # It failed after it was on disk.
            return Submitted(row)
        if isinstance(answer, Submitted):
            self._take_in(answer.request)
        return answer

    async def submit_and_claim(self, new: NewRequest, claim: Claim) -> Claimed | SameKey | OtherBody:
        """Accept a request that waits for nobody, and begin its first attempt: one write."""
        try:
            with self._writes:
                answer = await self._store.submit_and_claim(new, claim, self._now_ms())
        except BaseException as error:
            row = await self._settle_after(error, new.request.id)
            if row is None or row.state is not RequestState.IN_PROGRESS or row.gateway_request_id != claim.gateway_request_id:
                raise
            return Claimed(row, new.input)
        if isinstance(answer, Claimed):
            self._take_in(answer.request)
        return answer

    async def claim(self, request: Request, claim: Claim) -> Claimed | None:
        """Begin an attempt of what `next` answered. None: it is not there to be claimed any more."""
        try:
            with self._writes:
                claimed = await self._store.claim(request.id, request.attempt, claim, self._now_ms())
        except BaseException as error:
            row = await self._settle_after(error, request.id)
            if row is None or row.state is not RequestState.IN_PROGRESS or row.gateway_request_id != claim.gateway_request_id:
                raise
            sent = await self._store.input(row.id)
            if sent is None:
                raise
            return Claimed(row, sent)
        if claimed is None:
            await self._settle(request.id)
            return None
        self._take_in(claimed.request)
        return claimed

    def put_back(self, request: Request) -> None:
        """`next` answered it and nothing was claimed: it has its place again. What is in doubt has it once its row could be read."""
        if request.id in self._doubtful:
            return
        if self._lines.let_go(request.id, self._now_ms()):
            self._announce(request.application)

    async def finish(self, id: str, attempt: int, final: Final) -> Request | None:
        """Take the end of this attempt as the request's. None: somebody else decided first."""
        final = self._kept(final, self._lines.find(id, self._now_ms()))
        try:
            with self._writes:
                row = await self._store.finish(id, attempt, final, self._now_ms())
        except BaseException as error:
            row = await self._settle_after(error, id)
            if row is None or row.state is not RequestState.COMPLETED or row.attempt != attempt:
                raise
            return row
        return await self._decided(row, id)

    async def requeue(self, id: str, attempt: int, again: Again) -> Request | None:
        """Put it back to its place, to be tried again. None: somebody else decided first."""
        try:
            with self._writes:
                row = await self._store.requeue(id, attempt, again, self._now_ms())
        except BaseException as error:
            row = await self._settle_after(error, id)
            if row is None or row.state is not RequestState.IN_QUEUE or row.attempt != attempt:
                raise
            return row
        await self._decided(row, id)
        if row is not None and row.cancel_asked:
            # The wish came after the decision to try again; nobody would ever claim it.
            await self.cancel(id)
            return self.find(id)
        return row

    async def cancel(self, id: str) -> Cancelled | Asked | AlreadyCompleted | NotFound:
        """End it if it waits; if it runs, note that its end is wanted. Carried to its end also when the caller leaves."""
        return await self._to_its_end(self._cancel(id))

    async def _cancel(self, id: str) -> Cancelled | Asked | AlreadyCompleted | NotFound:
        while True:
            request = await self.get(id)
            if request is None:
                return NotFound()
            if request.state is RequestState.COMPLETED:
                return AlreadyCompleted(request)
            if request.state is RequestState.IN_QUEUE:
                ended = await self._end_waiting(request, retry.cancelled(), RequestEvent.CANCELLED)
                if ended is not None:
                    return Cancelled(ended)
                continue
            try:
                with self._writes:
                    asked = await self._store.ask_cancel(id, self._now_ms())
            except Exception:
                asked = await self._settle(id)
                if asked is None or not asked.cancel_asked:
                    raise
            if asked is not None:
                self._take_in(asked)
                self._tell(self.on_asked, asked)
                return Asked(asked)
            # It went on between the two looks.
            await self._settle(id)

    async def expire(self, id: str) -> Request | None:
        """End it because its start deadline has passed. None: it does not wait any more."""
        request = await self.get(id)
        if request is None or request.state is not RequestState.IN_QUEUE:
            return None
        return await self._end_waiting(request, retry.expired(request), RequestEvent.EXPIRED)

    async def flush(self, owner: str, name: str, caller: str | None = None, final: Final | None = None) -> tuple[Request, ...]:
        """End all that wait for this app, or those of one caller. Carried to its end also when the caller leaves."""
        return await self._to_its_end(self._flush(owner, name, caller, final or retry.cancelled()))

    async def _flush(self, owner: str, name: str, caller: str | None, final: Final) -> tuple[Request, ...]:
        if not final.expires_ms:
            # One end for all of them: those that asked not to be kept for long are not told apart here, and keep less.
            now_ms = self._now_ms()
            final = replace(final, expires_ms=now_ms + self._retention.briefly_ms, webhook_until_ms=now_ms + self._retention.webhook_ms)
        try:
            with self._writes:
                ended = await self._store.flush(owner, name, caller, final, self._now_ms())
        except Exception:
            # It goes in several steps, of which some may be on disk.
            await self._read_all_again()
            raise
        for request in ended:
            self._take_in(request)
        return ended

    async def renew(self, ids_and_attempts: Sequence[tuple[str, int]], lease_until_ms: int) -> int:
        """Give these attempts more time; answers how many of them are still under way."""
        renewed = await self._store.renew(ids_and_attempts, lease_until_ms)
        for request_id, attempt in ids_and_attempts:
            request = self.find(request_id)
            if request is not None and request.attempt == attempt and request.state is RequestState.IN_PROGRESS:
                self._lines.renewed(request._replace(lease_until_ms=lease_until_ms))
        return renewed

    async def _end_waiting(self, request: Request, final: Final, event: RequestEvent) -> Request | None:
        try:
            with self._writes:
                row = await self._store.end_waiting(request.id, self._kept(final, request), self._now_ms(), event)
        except BaseException as error:
            row = await self._settle_after(error, request.id)
            if row is None or row.state is not RequestState.COMPLETED:
                raise
            return row
        return await self._decided(row, request.id)

    # --- the view

    def find(self, id: str) -> Request | None:
        """A request that lives or ended lately, without a read."""
        return self._lines.find(id, self._now_ms())

    async def get(self, id: str) -> Request | None:
        """Any request whose retention is not over."""
        if id in self._doubtful:
            await self._settle(id)
        request = self.find(id)
        if request is not None:
            return request
        row = await self._store.get(id)
        return None if row is not None and row.expires_ms is not None and row.expires_ms <= self._now_ms() else row

    async def with_key(self, caller: str, owner: str, name: str, key: str) -> Request | None:
        """What this caller has submitted to this app under this idempotency key."""
        return await self._store.with_key(caller, owner, name, key)

    def next(self, application: str, now_ms: int, *, suspects: bool = True) -> Request | None:
        """The first that may go now: by priority, then by age. It is held until it is claimed or put back.

        `suspects`: also one in which a runner died before; not for a runner that has another such.
        """
        self._ripen(now_ms, but=application)
        request = self._lines.best(application, now_ms, suspects=suspects)
        if request is not None:
            self._lines.hold(request.id)
        return request

    def head(self, application: str) -> Request | None:
        """The one that `next` would answer, without taking it."""
        return self._lines.best(application, self._now_ms())

    def runners_before(self, request: Request) -> tuple[str, ...]:
        """Where its earlier attempts were, as far as this server knows: another one is better."""
        return self._lines.runners_before(request.id)

    def position(self, request: Request) -> int:
        """How many requests of its app would go before it (GAPS B9); those in back-off hold up nobody."""
        return self._lines.position(request)

    def ready(self, application: str) -> int:
        """How many may go now."""
        return self._lines.ready(application)

    def queued(self, application: str) -> int:
        """How many are IN_QUEUE, also in back-off."""
        return self._lines.queued(application)

    def queued_by_caller(self, application: str) -> dict[str, int]:
        return dict(Counter(request.caller for request in self._lines.waiting(application)))

    def oldest(self, application: str, limit: int) -> tuple[int, ...]:
        """When the first `limit` of those that may go now were accepted: what scaling asks."""
        return self._lines.oldest(application, limit)

    def applications(self) -> tuple[str, ...]:
        """Those with requests that wait."""
        return self._lines.applications()

    def in_progress(self) -> tuple[Request, ...]:
        return self._lines.under_way()

    def next_moment(self, now_ms: int) -> int | None:
        """When `due_and_expired` should be asked again, if nothing happens before (hint `queue`)."""
        moment = self._lines.next_moment()
        return moment if moment is None else max(moment, now_ms)

    def due_and_expired(self, now_ms: int) -> tuple[Request, ...]:
        """End the back-offs that are over (`on_ready` tells), and answer those whose start deadline has passed, for `expire`."""
        self._ripen(now_ms)
        return self._lines.expired(now_ms)

    @contextlib.contextmanager
    def watch(self, id: str) -> Iterator[Watch]:
        """Hear of changes of this request: `with queue.watch(id) as watch: await watch.changed(1.0)`."""
        watch = Watch()
        watching = self._watches.setdefault(id, set())
        watching.add(watch)
        try:
            yield watch
        finally:
            watching.discard(watch)
            if not watching:
                self._watches.pop(id, None)

    async def reconcile(self) -> int:
        """Compare what is known with what is stored, and mend it: how many requests differed (faults.md I9). For now and then.

        Writes under way may be stored and not yet known; differences that they explain are left for a quieter moment.
        """
        await self._settle_doubtful()
        known, writing, begun = self._lines.counts(), self._writes.now, self._writes.begun
        stored = await self._store.counts()
        difference = sum(abs(known.get(key, 0) - stored.get(key, 0)) for key in known.keys() | stored.keys())
        if difference <= 2 * (writing + self._writes.begun - begun):
            return 0
        return await self._read_all_again()

    # --- one row

    def _take_in(self, row: Request) -> None:
        """What is on disk now is known now; then those who wait for it hear of it."""
        ready = self._lines.ready(row.application)
        if not self._lines.put(row, self._now_ms()):
            return
        for watch in self._watches.get(row.id, ()):
            watch.wake()
        if row.state is RequestState.IN_QUEUE and (row.due_ms is not None or row.deadline_ms is not None):
            self._hints.give("queue")
        elif row.webhook and row.state is RequestState.COMPLETED:
            self._hints.give_within("webhooks", WEBHOOK_HINT_S)
        if self._lines.ready(row.application) > ready:
            self._announce(row.application)

    def _announce(self, application: str) -> None:
        """Somebody of this app may go. First to whoever has a free slot; what is left is demand for runners."""
        before = self._lines.ready(application)
        self._tell(self.on_ready, application)
        if self._lines.ready(application):
            if before > 1:
                self._hints.give_within("fleet", FLEET_HINT_S)
            else:
                self._hints.give("fleet")

    def _tell(self, listener: Callable[[T], None], what: T) -> None:
        try:
            listener(what)
        except Exception as error:
            # What was written stays written: its caller must not hear of a failure.
            log.exception("queue.listener_failed", error)

    def _ripen(self, now_ms: int, but: str = "") -> None:
        for application in self._lines.ripen(now_ms):
            if application != but:
                self._announce(application)

    def _kept(self, final: Final, request: Request | None) -> Final:
        if final.expires_ms:
            return final
        keep, now_ms = self._retention, self._now_ms()
        brief = request is not None and not request.store_io
        return replace(final, expires_ms=now_ms + (keep.briefly_ms if brief else keep.kept_ms), webhook_until_ms=now_ms + keep.webhook_ms)

    async def _decided(self, row: Request | None, id: str) -> Request | None:
        if row is None:
            # Somebody else decided first, and it may have been somebody whose answer got lost.
            await self._settle(id)
        else:
            self._take_in(row)
        return row

    # --- doubt

    async def _settle_after(self, error: BaseException, id: str) -> Request | None:
        """After a verb that failed with its write: how the request stands. None: not known yet."""
        if isinstance(error, Exception):
            return await self._settle(id)
        # The verb was cancelled, which gives up the answer but not the write.
        self._doubt(id)
        self._aside(self._settle_later(id))
        return None

    async def _settle_later(self, id: str) -> None:
        # There is one writer: when it has answered this, it has done all that was handed over before.
        with contextlib.suppress(StoreError):
            await self._store.renew((), 0)
        await self._settle(id)

    def _doubt(self, id: str) -> None:
        self._doubtful.add(id)
        self._lines.hold(id)

    async def _settle(self, id: str) -> Request | None:
        """Read this request again. None: there is none, or nothing could be read, and then it stays in doubt."""
        self._doubt(id)
        try:
            row = await self._store.get(id)
        except StoreClosed:
            return None
        except Exception as error:
            log.exception("queue.in_doubt", error, request=id)
            self._look_again()
            return None
        self._doubtful.discard(id)
        if row is None:
            self._lines.forget(id)
            return None
        self._take_in(row)
        if self._lines.let_go(id, self._now_ms()):
            self._announce(row.application)
        return self._lines.find(id, self._now_ms()) or row

    def _look_again(self) -> None:
        if self._second_look is None:
            self._second_look = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look_at_doubtful)

    def _look_at_doubtful(self) -> None:
        self._second_look = None
        self._aside(self._settle_doubtful())

    async def _settle_doubtful(self) -> None:
        for request_id in list(self._doubtful):
            await self._settle(request_id)

    async def _read_all_again(self) -> int:
        """Take in all that live as they are stored; how many brought news."""
        news = 0
        stored: set[str] = set()
        for row in await self._store.living(self._now_ms()):
            stored.add(row.id)
            before = self.find(row.id)
            self._take_in(row)
            news += self.find(row.id) is not before
        for request in self._lines.living():
            if request.id not in stored:
                await self._settle(request.id)
                news += self.find(request.id) is not request
        if news:
            log.warning("queue.reconciled", differing=news, stored=len(stored))
        return news

    async def _to_its_end(self, verb: Coroutine[Any, Any, T]) -> T:
        """A caller that leaves takes nothing back: what is stored then must also be told."""
        return await asyncio.shield(self._aside(verb))

    def _aside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._verbs.add(task)
        task.add_done_callback(self._verbs.discard)
        return task


class Watch:
    """Made by `Queue.watch`. A change that comes between two questions is not missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def changed(self, seconds: float) -> bool:
        """Wait for a change since the last answer, at most so long. False: there was none."""
        changed = await nudges.wait(self._event, seconds)
        self._event.clear()
        return changed

    def wake(self) -> None:
        self._event.set()


class _Writes:
    """Counts the writes under way; entered with each."""

    def __init__(self) -> None:
        self.now = 0
        self.begun = 0

    def __enter__(self) -> None:
        self.now += 1
        self.begun += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.now -= 1
