"""One attempt of a queued request on one runner: claim, reserve, send, hear the answer, and write down what follows from it.

The order is the promise. Nothing of a request is sent before its claim is on disk, and the runner forgets its answer only when that is on disk: so the end
of this server at any moment leaves either a request that nobody has begun, or an attempt whose answer the next server can still ask for
(docs/internals/durable-queue.md). What an end means is decided by `core.retry`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from roost.core import fate, retry
from roost.core.leases import LEASE_MS
from roost.core.requests import Again, Claim, Claimed, Input, NewRequest, OtherBody, Output, Request, SameKey, Submitted
from roost.data.payloads import Payloads
from roost.demand.queue import Queue
from roost.engines.dispatch.answer import Answer, NotKept, read_answer
from roost.kit import log
from roost.kit.timeouts import Timeouts
from roost.link import cancelling
from roost.link.connection import CallConnection, QueuedExchange
from roost.link.directory import Directory, Entry
from roost.store import StoreClosed, StoreError
from roost.web import fates
from roost.web import headers as fields
from roost.wire import frames, ids
from roost.wire.errors import RoostError
from roost.wire.frames import RequestHead, ResponseHead
from roost.wire.session import WINDOW

_WRITE_AGAIN_S: Final = 0.5
_NEWS: Final = -1
"""Event of our own in an exchange's queue, besides the link's frames: the attempt was ended from here."""


@dataclass(frozen=True, slots=True)
class Ties:
    """What attempts need of others."""

    queue: Queue
    payloads: Payloads
    directory: Directory
    timeouts: Timeouts
    now_ms: Callable[[], int]
    give_back: Callable[[str, Entry, bool, tuple[int, int] | None], None]
    """(application, runner, busy, times): a slot that was granted is free again; `times` of an attempt that ran: since when it might, when it began."""
    fate: Callable[[str, fate.Fate], None]
    """What an answer means for its runner."""
    timed_out: Callable[[str], None]
    """A call of this runner overran request_timeout."""
    request_timeout_ms: Callable[[str], int]
    """Of an application."""
    log_size: Callable[[str], int]
    """Where a runner's output ends now."""
    dice: Callable[[], float]
    """Jitter of back-offs, between 0 and 1."""
    input: Callable[[str], Coroutine[Any, Any, Input | None]]
    """What the caller of this request sent."""


class Attempt:
    """One try. `run` carries it from a granted slot to the request's next state, `take_up` from where an earlier server left it.

    While its runner has no connection here it waits for `rejoin` or `end`. Cancelling the task of either leaves the attempt as it is on disk.
    """

    def __init__(self, ties: Ties, request: Request, runner_id: str, aside: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._ties = ties
        self._aside = aside
        self.request = request
        self.runner_id = runner_id
        self.is_claimed = False
        """It is on disk that this runner carries it."""
        self.may_be_cut = True
        """Nothing of it is between two places: its task may be cancelled, and the next server takes it up."""
        self._exchange: QueuedExchange | None = None
        self._rejoin: asyncio.Future[QueuedExchange | None] | None = None
        self._end: retry.Outcome | None = None
        self._input: Input | None = None
        self._head: RequestHead | None = None
        self._sent = 0
        """Bytes of the body."""
        self._answer_began = False
        self._ready_ms = request.due_ms or request.created_ms
        """Since when it might have begun."""
        self._began_ms = 0

    async def run(self, entry: Entry) -> None:
        """With a slot of its runner taken in the directory, which is given back when the runner says that it is free.

        Claimed first, and sent with its reservation: one round trip less, and one commit for all ends and beginnings of a moment. Should the
        runner be BUSY all the same, the request goes back to its place and nothing is counted; for a while that runner is then asked first.
        """
        if entry.is_doubted(self._ties.now_ms()):
            await self._run_when_accepted(entry)
            return
        self.may_be_cut = False
        if await self._claim():
            await self._send_claimed(entry)
        else:
            self._ties.give_back(self.request.application, entry, False, None)

    async def _run_when_accepted(self, entry: Entry) -> None:
        exchange = self._reserve(entry)
        try:
            if (await exchange.next())[0] != frames.ACCEPT:
                return
            self.may_be_cut = False
            claimed = await self._claim()
        except asyncio.CancelledError:
            exchange.release_unused()
            raise
        if not claimed or not await self._send(exchange):
            exchange.release_unused()
            return
        await self._carry(exchange, self._timeout_ms())

    async def run_at_once(self, entry: Entry, new: NewRequest, accepted: asyncio.Future[Submitted | SameKey | OtherBody]) -> None:
        """The same for a request that has just come and waits for nobody: it is accepted and claimed in one write.

        `accepted` gets what the store says, as soon as it is on disk.
        """
        application = self.request.application
        try:
            answer = await self._ties.queue.submit_and_claim(new, self._new_claim())
        except BaseException as error:
            self._ties.give_back(application, entry, False, None)
            _fail(accepted, error)
            if not isinstance(error, StoreError):
                raise
            return
        if not isinstance(answer, Claimed):
            self._ties.give_back(application, entry, False, None)
        if not accepted.done():
            accepted.set_result(Submitted(new.request._replace(seq=answer.request.seq)) if isinstance(answer, Claimed) else answer)
        if not isinstance(answer, Claimed):
            return
        self._claimed(answer)
        await self._send_claimed(entry)

    async def _send_claimed(self, entry: Entry) -> None:
        exchange = self._reserve(entry)
        if exchange.finished:
            await self._settle(retry.Moved("the connection to its runner broke before it was sent"))
        elif await self._send(exchange):
            await self._carry(exchange, self._timeout_ms())
        else:
            exchange.release_unused()

    def _reserve(self, entry: Entry) -> QueuedExchange:
        application = self.request.application

        def released(busy: bool) -> None:
            self._ties.give_back(application, entry, busy, (self._ready_ms, self._began_ms) if self.is_claimed else None)

        return entry.connection.reserve(released=released)

    async def take_up(self) -> None:
        """An attempt that was under way when the server before this one ended: its runner is asked for the answer when it dials home."""
        self.is_claimed = True
        self._began_ms = self.request.started_ms or self._ties.now_ms()
        await self._carry(None, max(0, self._began_ms + self._timeout_ms() - self._ties.now_ms()))

    # what others tell

    def rejoin(self, connection: CallConnection) -> None:
        """Its runner has dialled home: ask it for the call."""
        if self._rejoin is not None and not self._rejoin.done():
            self._rejoin.set_result(connection.resume(self.request.id, self.request.attempt))

    def end(self, how: retry.Outcome) -> None:
        """Its runner is gone, or was silent for too long, or the call takes too long: without an answer that is here already, it ends like this."""
        if not self.is_claimed or self._end is not None:
            return
        self._end = how
        if self._rejoin is not None and not self._rejoin.done():
            self._rejoin.set_result(None)
        if self._exchange is not None:
            self._exchange.put((_NEWS, self._exchange.stream, None))

    async def cancel(self) -> None:
        """The caller does not want it any more: the app is told, and what it answers is the result, whatever that is."""
        if self._exchange is not None:
            await cancelling.ask_to_cancel(self._exchange, await self._known_head())

    def ended_runner(self, reason: str, crashed: bool) -> None:
        """Its runner has ended; `crashed`: by itself, which may have been this request's doing."""
        if not crashed:
            self.end(retry.Lost(reason))
            return
        code = fate.classify_disconnect(self._answer_began, process_gone=True)
        self.end(retry.Broken(code, f"the runner went away in the middle of the call: {reason}", death=True))

    # its beginning

    async def _claim(self) -> bool:
        ties, request = self._ties, self.request
        try:
            claimed = await ties.queue.claim(request, self._new_claim())
        except StoreClosed:
            return False
        except StoreError as error:
            # The queue reads that row again. If the claim is on disk after all, the engine finds an attempt that nobody carries, and takes it up.
            log.warning("request.claim_failed", request=request.id, error=str(error))
            if not isinstance(error, StoreClosed):
                # With the slot: at once it would be granted again, to fail again, as fast as the disk can fail.
                self.may_be_cut = True
                await asyncio.sleep(_WRITE_AGAIN_S)
            return False
        if claimed is None:
            return False
        self._claimed(claimed)
        return True

    def _new_claim(self) -> Claim:
        self._began_ms = self._ties.now_ms()
        return Claim(ids.request_id(), self.runner_id, self._began_ms + LEASE_MS, self._ties.log_size(self.runner_id))

    def _claimed(self, claimed: Claimed) -> None:
        self.is_claimed = True
        self.request, self._input = claimed.request, claimed.input
        self._head = self._head_of(claimed.input)

    def _head_of(self, input: Input) -> RequestHead:
        request = self.request
        endpoint = request.application + input.path.decode("latin-1")
        headers = fields.of_attempt(input.headers, request_id=request.id, endpoint=endpoint, caller=request.caller, attempt=request.attempt)
        return RequestHead(input.method, input.path, input.query, headers)

    async def _known_head(self) -> RequestHead:
        if self._head is None:
            sent = await self._ties.input(self.request.id)
            self._head = self._head_of(sent) if sent is not None else RequestHead("POST", b"/", b"", [])
        return self._head

    async def _send(self, exchange: QueuedExchange) -> bool:
        """Everything that the runner's window takes. False: it cannot be sent, to no runner."""
        assert self._head is not None and self._input is not None
        size = self._input.content.size
        try:
            first = self._body(0, WINDOW)
            exchange.keep(self.request.id, self.request.attempt)
            exchange.send(self._head, first, body_ended=len(first) == size)
        except (ValueError, RoostError) as error:
            code = error.code if isinstance(error, RoostError) else "bad_request"
            await self._settle(retry.Unusable(code, f"the request cannot be passed on: {error}"))
            return False
        self._sent = len(first)
        self._feed(exchange)
        return True

    def _feed(self, exchange: QueuedExchange) -> None:
        if self._input is None:
            return
        size = self._input.content.size
        while self._sent < size and exchange.connection.writable(exchange.stream):
            data = self._body(self._sent, frames.CHUNK)
            self._sent += len(data)
            exchange.send_body(data, end=self._sent >= size)

    def _body(self, start: int, limit: int) -> bytes:
        assert self._input is not None
        content = self._input.content
        if content.inline is None:
            return self._ties.payloads.read(content.file, start, limit)
        return content.inline if start == 0 and content.size <= limit else content.inline[start : start + limit]

    # under way

    async def _carry(self, exchange: QueuedExchange | None, limit_ms: int) -> None:
        timer = self._ties.timeouts.start(limit_ms / 1000, self._overran)
        self.may_be_cut = True
        try:
            outcome = await self._hear(exchange)
        finally:
            timer.cancel()
        self.may_be_cut = False
        await self._settle(outcome)

    def _timeout_ms(self) -> int:
        return self._ties.request_timeout_ms(self.request.application)

    def _overran(self) -> None:
        self._ties.timed_out(self.runner_id)
        self.end(retry.TimedOut(self._timeout_ms()))

    async def _hear(self, exchange: QueuedExchange | None) -> retry.Outcome:
        """How it ended, over however many connections that takes."""
        while self._end is None:
            if exchange is None:
                exchange = await self._rejoined()
                continue
            self._exchange = exchange
            answer = await read_answer(exchange, self._ties.payloads, self._begun_answering, self._feed)
            match answer:
                case Answer():
                    return self._outcome(answer)
                case retry.Broken() | retry.Moved():
                    return answer
                case NotKept(detail):
                    log.warning("request.answer_not_kept", request=self.request.id, error=detail)
                    await asyncio.sleep(_WRITE_AGAIN_S)
                    exchange = self._exchange = await self._asked(exchange.connection.resume(self.request.id, self.request.attempt))
                case None if self._end is None:
                    exchange = self._exchange = None
                case None:
                    pass
        if exchange is not None and not exchange.finished:
            self._aside(self._abandon(exchange))
        return self._end

    async def _rejoined(self) -> QueuedExchange | None:
        """Wait until the runner has dialled home and says that it knows the call. None: it could not say so, or the attempt was ended."""
        entry = self._ties.directory.get(self.runner_id)
        if entry is not None and not entry.connection.lost:
            exchange = entry.connection.resume(self.request.id, self.request.attempt)
        else:
            self._rejoin = asyncio.get_running_loop().create_future()
            try:
                exchange = await self._rejoin
            finally:
                self._rejoin = None
        if exchange is None or await self._asked(exchange) is None:
            return None
        self._exchange = exchange
        if self.request.cancel_asked:
            self._aside(self.cancel())
        return exchange

    async def _asked(self, exchange: QueuedExchange) -> QueuedExchange | None:
        """This exchange once the runner says that it knows the call."""
        kind = (await exchange.next())[0]
        if kind == frames.ACCEPT:
            return exchange
        if kind == frames.BUSY and not exchange.connection.lost:
            self.end(retry.Broken("runner_connection_error", "the connection to the runner broke, and it knows nothing of this call"))
        return None

    def _begun_answering(self, head: ResponseHead) -> None:
        self._answer_began = True
        verdict = fates.of_response(head)
        if not isinstance(verdict, fate.Keep):
            self._ties.fate(self.runner_id, verdict)
        entry = self._ties.directory.get(self.runner_id)
        hints = fields.runner_hints(head.headers)
        if entry is not None and hints is not None:
            entry.hints = hints

    def _outcome(self, answer: Answer) -> retry.Outcome:
        kept = fields.kept(answer.head.status, answer.head.headers, runner_id=self.runner_id)
        if kept is None:
            return retry.Unusable("response_headers_too_large", "the app's response headers are larger than 16 KB")
        output = Output(answer.head.status, tuple(kept), answer.content)
        return retry.Answered(output, self._ties.now_ms() - self._began_ms)

    async def _abandon(self, exchange: QueuedExchange) -> None:
        """Whatever it still says is late, and refused by the number of the attempt."""
        exchange.connection.drop([(self.request.id, self.request.attempt)])
        await cancelling.abandon(exchange, await self._known_head())

    # its end

    async def _settle(self, outcome: retry.Outcome) -> None:
        """Write down what follows. Back when it is on disk, or somebody else decided first."""
        ties, attempt = self._ties, self.request.attempt
        request = ties.queue.find(self.request.id) or self.request
        step = retry.next_step(outcome, request, ties.now_ms(), ties.dice(), ties.log_size(self.runner_id))
        while True:
            try:
                if isinstance(step, Again):
                    taken = await ties.queue.requeue(request.id, attempt, step)
                else:
                    taken = await ties.queue.finish(request.id, attempt, step.final)
                break
            except StoreClosed:
                raise
            except StoreError as error:
                # A full disk, say: the runner keeps the answer, and so do we.
                log.warning("request.settle_failed", request=request.id, error=str(error))
                await asyncio.sleep(_WRITE_AGAIN_S)
        entry = ties.directory.get(self.runner_id)
        if entry is not None:
            entry.connection.taken([(request.id, attempt)])
        if isinstance(outcome, retry.Answered) and outcome.output.content.file and (taken is None or isinstance(step, Again)):
            await ties.payloads.remove([outcome.output.content.file])


def _fail(accepted: asyncio.Future[Any], error: BaseException) -> None:
    if not accepted.done():
        accepted.set_exception(error if isinstance(error, Exception) else StoreClosed("The server is stopping.", code="server_stopping"))
        # Who submitted may have gone; asked for once, it is nobody's unheard error.
        accepted.exception()
