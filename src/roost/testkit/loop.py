"""An event loop without waiting: when nothing is ready, its clock jumps to the next timer, so that hours pass in milliseconds.

Threads would have to be waited for in real time, so work for an executor runs at once, on the loop, while the clock stands still.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

from roost.testkit.clock import VirtualClock

LONGEST_S: Final = 24 * 3600.0


class Stuck(RuntimeError):
    """The test waits for something that will never happen: it would hang, or spin for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """`clock` is its time. Sockets work, but only as far as what they bring is there already. Raises Stuck after `longest_s`."""

    def __init__(self, clock: VirtualClock | None = None, longest_s: float = LONGEST_S) -> None:
        self.clock = clock or VirtualClock()
        super().__init__(_Jumping(self.clock, longest_s))

    def time(self) -> float:
        return self.clock.seconds()

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]  # which selector it is depends on the machine
    """Asks the system what is ready now; instead of waiting for more it moves the clock."""

    def __init__(self, clock: VirtualClock, longest_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._longest_s = longest_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            raise Stuck("nothing is ready and no timer is set: whoever is awaited here will never come")
        if self._clock.seconds() > self._longest_s:
            raise Stuck(f"{self._longest_s:g} s have passed on the virtual clock: whoever is awaited here will never come")
        self._clock.forward(timeout)
        return []
