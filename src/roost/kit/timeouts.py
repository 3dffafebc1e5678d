"""Time limits of things that come by the thousand a second and hardly ever reach their limit.

A timer of the event loop costs 5 µs (uvloop), more than much of what it guards. Here a limit is one entry in a dict; as all entries of one
length end in the order in which they began, one timer of the loop per length is enough, and it is set anew only when it has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timeout:
    """One limit that is running. `cancel` may be called at any time, also twice."""

    __slots__ = ("_running", "callback", "due")

    def __init__(self, running: dict[Timeout, None], due: float, callback: Callable[[], object]) -> None:
        self._running = running
        self.due = due
        self.callback = callback

    def cancel(self) -> None:
        self._running.pop(self, None)
        # Who is called back mostly holds this: a circle per call would keep the garbage collector busy.
        self.callback = _nothing


def _nothing() -> None:
    """What a limit that was cancelled calls back."""


class Timeouts:
    """All limits of one event loop."""

    __slots__ = ("_loop", "_running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: dict[float, dict[Timeout, None]] = {}

    def start(self, seconds: float, callback: Callable[[], object]) -> Timeout:
        """Call back in so many seconds, unless it is cancelled before."""
        running = self._running.get(seconds)
        if running is None:
            running = self._running[seconds] = {}
            self._loop.call_later(seconds, self._ring, seconds)
        timeout = Timeout(running, self._loop.time() + seconds, callback)
        running[timeout] = None
        return timeout

    def _ring(self, seconds: float) -> None:
        """End what is due, and wait for the one that is next; forget a length that nobody uses any more."""
        running = self._running[seconds]
        now = self._loop.time()
        while running:
            timeout = next(iter(running))
            if timeout.due > now:
                self._loop.call_at(timeout.due, self._ring, seconds)
                return
            del running[timeout]
            try:
                timeout.callback()
            except Exception as error:
                # The others must ring all the same.
                self._loop.call_exception_handler({"message": "a timeout's callback failed", "exception": error})
        del self._running[seconds]
