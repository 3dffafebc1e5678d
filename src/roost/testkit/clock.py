"""Time that moves only when it is told to: the clock of a `VirtualLoop`, and of everything that runs on it."""

from __future__ import annotations

from typing import Final

EPOCH_MS: Final = 1_700_000_000_000
"""Wall time at the beginning of every test: a number that nobody mistakes for a duration."""


class VirtualClock:
    """A `kit.clock.Clock` that stands still between two calls of `forward`."""

    def __init__(self, epoch_ms: int = EPOCH_MS) -> None:
        self._epoch_ms = epoch_ms
        self._now_us = 0

    def now_ms(self) -> int:
        return self._epoch_ms + self._now_us // 1000

    def seconds(self) -> float:
        """Since the beginning: what a loop calls its time."""
        return self._now_us / 1_000_000

    def forward(self, seconds: float) -> None:
        # Rounded up to a whole microsecond: a timer that was waited for must be due afterwards, or the loop would wait for ever shorter.
        self._now_us += max(1, -int(-seconds * 1_000_000 // 1))
