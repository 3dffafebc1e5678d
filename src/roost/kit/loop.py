"""The one shape of every engine: wait for a hint or a deadline, do one round, wait again. Nothing that a round raises ends the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from roost.kit import hints, log

_AFTER_ERROR_S = 0.5


class Loop:
    """Runs `round` when hinted, and at the latest after the seconds that the last round answered."""

    def __init__(self, name: str, source: hints.Hints, topics: tuple[str, ...], round: Callable[[], Awaitable[float]]) -> None:
        self.name = name
        self._source = source
        self._topics = topics
        self._round = round
        self._task: asyncio.Task[None] | None = None
        self.errors = 0

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"engine {self.name}")

    async def stop(self) -> None:
        """End it; a round in progress is cancelled at its next wait."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        with self._source.listen(*self._topics) as nudge:
            while True:
                # Cleared before the round reads: a hint that comes during the round makes another one.
                nudge.clear()
                try:
                    pause_s = await self._round()
                except Exception as error:
                    self.errors += 1
                    pause_s = _AFTER_ERROR_S
                    log.exception("engine.failed", error, engine=self.name)
                await hints.wait(nudge, pause_s)
