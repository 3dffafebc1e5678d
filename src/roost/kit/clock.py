"""The clock as a value that is passed in: real in a server, virtual in tests."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """`now_ms` is wall time in milliseconds since the epoch, for rows and people."""

    def now_ms(self) -> int: ...


class SystemClock:
    """Wall time that never runs backwards within this process: a clock that an operator sets back must not expire or revive leases.

    It follows the monotonic clock from the wall time at its start.
    """

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000
