"""Brings the numbers of what came to disk, every few seconds, and lets go of what is old."""

from __future__ import annotations

import asyncio

from roost.data.traffic import Traffic, portions
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.loop import Loop

_WRITE_EVERY_S = 3.0
_PRUNE_EVERY_MS = 600_000


class TrafficEngine:
    """One loop. `stop` writes what is left."""

    def __init__(self, traffic: Traffic, clock: Clock, hints: Hints, keep_ms: int) -> None:
        self._traffic = traffic
        self._clock = clock
        self._keep_ms = keep_ms
        self._pruned_ms = 0
        self._is_failing = False
        self.loop = Loop("traffic", hints, ("traffic",), self.round)

    async def round(self) -> float:
        """Write what was noted since the last one."""
        loop = asyncio.get_running_loop()
        try:
            for portion in portions(self._traffic.take()):
                await loop.run_in_executor(None, self._traffic.write, portion)
            now_ms = self._clock.now_ms()
            if now_ms - self._pruned_ms >= _PRUNE_EVERY_MS:
                self._pruned_ms = now_ms
                await loop.run_in_executor(None, self._traffic.prune, now_ms - self._keep_ms)
            self._is_failing = False
        except OSError as error:
            # It is no promise, and a full disk has louder witnesses.
            if not self._is_failing:
                log.warning("traffic.not_recorded", error=str(error))
            self._is_failing = True
        return _WRITE_EVERY_S

    async def stop(self) -> None:
        await self.loop.stop()
        await self.round()
