"""The webhooks engine: what is owed to receivers is sent, again and again until they have it or its time is over (docs/internals/front-door.md).

At least once: a try is written down after it, so that a server that is killed in between sends it again, with the same bytes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from roost.core.webhooks import Answered, Delivered, GiveUp, Outcome, RetryAt, Try, Unanswered, Webhook, is_trouble, next_try, told_of
from roost.engines.webhooks.courier import Courier
from roost.engines.webhooks.lanes import Lanes
from roost.kit import log
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.store.errors import StoreClosed, StoreError
from roost.store.webhooks import Webhooks

TOPIC: Final = "webhooks"
EACH: Final = 16
"""Of one receiver, read at a time."""
MOST: Final = 1_024
_MORE_S: Final = 0.5
"""Until the next receivers are read, when there are more than one read takes."""
_TOGETHER_S: Final = 0.01
"""Retries of so little time make one read."""
_POLL_S: Final = 5.0
_AFTER_TROUBLE_S: Final = 1.0
"""Between two tries to write down what became of a webhook."""
_PARTING_S: Final = 0.25
"""At a planned restart: what is answered within it is not sent a second time."""


class WebhooksEngine:
    """One loop, and a task for each try under way."""

    def __init__(self, store: Webhooks, hints: Hints, courier: Courier, a_second: float, dice: Callable[[], float] = random.random) -> None:
        """`a_second`: tries of one receiver at most."""
        self._store = store
        self._hints = hints
        self._courier = courier
        self._now_ms = courier.now_ms
        self._dice = dice
        self._lanes = Lanes(a_second)
        self._behind = ""
        """The receiver that the last read ended with, when there were more."""
        self._plenty: set[str] = set()
        """Receivers that the last read did not take all of."""
        self._settled: set[int] = set()
        """Ended since the read under way began: what that brings of them is old."""
        self._tries: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self.loop = Loop("webhooks", hints, (TOPIC,), self.read)

    async def read(self) -> float:
        """Take in what is due, begin what may begin, and say when to look again."""
        self._settled.clear()
        now_ms = self._now_ms()
        found = await self._store.due(now_ms, EACH, MOST, self._behind)
        counts: dict[str, int] = {}
        for webhook in found:
            counts[webhook.receiver] = counts.get(webhook.receiver, 0) + 1
            if webhook.seq not in self._settled:
                self._lanes.offer(webhook)
        self._plenty = {receiver for receiver, count in counts.items() if count >= EACH}
        before, self._behind = self._behind, found[-1].receiver if len(found) >= MOST else ""
        next_ms = await self._store.next_due(now_ms)
        self._begin()
        if self._behind or before:
            return _MORE_S
        return _POLL_S if next_ms is None else min(_POLL_S, max(0.001, (next_ms - self._now_ms()) / 1000))

    async def stop(self) -> None:
        """Begin nothing more. What is under way has a moment; what has not ended then, the next server sends again."""
        self._stopped = True
        await self.loop.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._tries:
            await asyncio.wait(self._tries, timeout=_PARTING_S)
        for task in self._tries:
            task.cancel()
        if self._tries:
            await asyncio.wait(self._tries)
        self._courier.fetch.close()

    def _begin(self) -> None:
        """Begin all that may begin now, and come back when more may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stopped:
            return
        loop, now_ms = asyncio.get_running_loop(), self._now_ms()
        while (webhook := self._lanes.take(now_ms)) is not None:
            task = loop.create_task(self._try(webhook, now_ms), name=f"webhook of {webhook.request_id}")
            self._tries.add(task)
            task.add_done_callback(self._tries.discard)
        moment = self._lanes.next_moment()
        if moment is not None:
            self._timer = loop.call_later(max(0.0, (moment - now_ms) / 1000), self._begin)

    async def _try(self, webhook: Webhook, began_ms: int) -> None:
        trouble: bool | None = None
        try:
            outcome = await self._carried(webhook)
            if outcome is not None:
                trouble = is_trouble(outcome)
                await self._write_down(webhook, outcome, began_ms)
        finally:
            self._settled.add(webhook.seq)
            self._lanes.ended(webhook, began_ms, self._now_ms(), trouble=trouble)
        if webhook.receiver in self._plenty and not self._lanes.waiting(webhook.receiver):
            self._hints.give(TOPIC)
        self._begin()

    async def _carried(self, webhook: Webhook) -> Outcome | None:
        """The end of one try; None: there was none."""
        try:
            return await self._courier.carry(webhook)
        except StoreClosed:
            return None
        except StoreError as error:
            log.exception("webhooks.unread", error, request=webhook.request_id)
            # It is read again at once when this answers.
            await asyncio.sleep(_AFTER_TROUBLE_S)
            return None
        except Exception as error:
            # It must come to an end some day, and nobody else must wait for it.
            log.exception("webhooks.try_failed", error, request=webhook.request_id)
            return Unanswered(f"the server itself failed ({error!r})")

    async def _write_down(self, webhook: Webhook, outcome: Outcome, began_ms: int) -> None:
        now_ms = self._now_ms()
        status = outcome.status if isinstance(outcome, Answered) else None
        tried = Try(webhook.request_id, webhook.logged + 1, began_ms, now_ms - began_ms, status, told_of(outcome))
        step = next_try(webhook, outcome, now_ms, self._dice())
        while True:
            try:
                written = await self._write(webhook, tried, step, now_ms)
                break
            except StoreClosed:
                return
            except StoreError as error:
                # Not sent again for that: a disk that fails must not become a storm of deliveries.
                log.exception("webhooks.unwritten", error, request=webhook.request_id)
                await asyncio.sleep(_AFTER_TROUBLE_S)
        if isinstance(step, RetryAt):
            self._hints.give_within(TOPIC, _TOGETHER_S)
        elif written and isinstance(step, GiveUp):
            log.warning("webhook.given_up", request=webhook.request_id, receiver=webhook.receiver, reason=step.reason)

    async def _write(self, webhook: Webhook, tried: Try, step: Delivered | RetryAt | GiveUp, now_ms: int) -> bool:
        match step:
            case Delivered():
                return await self._store.delivered(webhook, tried, now_ms)
            case RetryAt(ms, reason):
                return await self._store.failed(webhook, tried, ms, reason, now_ms)
            case GiveUp(reason):
                return await self._store.failed(webhook, tried, None, reason, now_ms)
