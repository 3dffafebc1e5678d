"""What must go when its time has come: ephemeral apps whose run ended, rows, bodies and logs past their retention."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from roost.data.logs import RunnerLogs
from roost.data.payloads import Payloads
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.store import Store

_HOUR_MS = 3_600_000
_REST_MS = 8_000
"""Leases that ran out while no server was there were not left by their authors, who need a moment to come back to this one."""
_TRIM_EVERY_S = 5.0
"""A runner that prints as fast as it can fills gigabytes in a minute."""
_FORGOTTEN_TOGETHER = 250
_BREATH_S = 0.01
"""Between two portions of requests that are forgotten: a submit must never wait behind a million of them."""
_REQUESTS_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what has ended stays visible."""

    runners_ms: int = 24 * _HOUR_MS
    logs_ms: int = 7 * 24 * _HOUR_MS
    decisions_ms: int = 7 * 24 * _HOUR_MS
    events_ms: int = 30 * 24 * _HOUR_MS


class UpkeepEngine:
    """Four loops: leases each second, the size of logs each few seconds, requests each minute, all other retention each ten.

    `reconcile` compares what the queue knows with what is stored.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        hints: Hints,
        logs: RunnerLogs,
        payloads: Payloads,
        reconcile: Callable[[], Awaitable[int]],
        retention: Retention,
    ) -> None:
        self._store = store
        self._clock = clock
        self._hints = hints
        self._logs = logs
        self._payloads = payloads
        self._reconcile = reconcile
        self._retention = retention
        self._rest_until_ms = clock.now_ms() + _REST_MS
        self.leases = Loop("leases", hints, ("leases",), self.end_leases)
        self.log_space = Loop("log space", hints, (), self.trim_logs)
        self.requests = Loop("requests", hints, (), self.end_requests)
        self.retention = Loop("retention", hints, (), self.end_retention)

    async def end_leases(self) -> float:
        now_ms = self._clock.now_ms()
        if now_ms < self._rest_until_ms:
            return (self._rest_until_ms - now_ms) / 1000
        for alias in await self._store.apps.expired(now_ms):
            if await self._store.apps.delete_expired(alias.owner, alias.name, now_ms, reason="its `roost run` ended"):
                log.info("run.ended", app=alias.application)
                for topic in ("apps", "fleet"):
                    self._hints.give(topic)
        return 1.0

    async def trim_logs(self) -> float:
        ended = await self._store.runners.ended_since(self._clock.now_ms() - 2 * int(_TRIM_EVERY_S * 1000))
        wrote = [runner.id for runner in (*await self._store.runners.living(), *ended)]
        await asyncio.get_running_loop().run_in_executor(None, self._trim_logs, wrote)
        return _TRIM_EVERY_S

    async def end_requests(self) -> float:
        """Forget requests past their retention, a portion at a time; each says itself how long it is kept."""
        forgotten = await self._store.requests.delete_expired(self._clock.now_ms(), _FORGOTTEN_TOGETHER)
        if forgotten.files:
            # After their rows: a file that is left over is swept at the next start, a row without its file would be damage.
            await self._payloads.remove(forgotten.files)
        if forgotten.ids:
            return _BREATH_S
        await self._reconcile()
        return _REQUESTS_EVERY_S

    async def end_retention(self) -> float:
        now_ms, keep = self._clock.now_ms(), self._retention
        await self._store.runners.delete_ended_before(now_ms - keep.runners_ms)
        await self._store.decisions.delete_before(now_ms - keep.decisions_ms)
        await self._store.events.delete_before(now_ms - keep.events_ms)
        living = {runner.id for runner in await self._store.runners.living()}
        await asyncio.get_running_loop().run_in_executor(None, self._logs.prune, now_ms - keep.logs_ms, living)
        return 600.0

    def _trim_logs(self, runner_ids: list[str]) -> None:
        for runner_id in runner_ids:
            self._logs.trim(runner_id)

    async def stop(self) -> None:
        await self.leases.stop()
        await self.log_space.stop()
        await self.requests.stop()
        await self.retention.stop()
