"""One piece of work that several callers wait for: each sees its whole output, all get its end, the last to leave ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Say = Callable[[str], None]


class Stopped(Exception):
    """The work was ended by `Joined.stop`, not by the caller that sees this."""


class Joined(Generic[T]):
    """Starts `work` at once, in a task of its own, with a function that takes its lines."""

    def __init__(self, work: Callable[[Say], Coroutine[Any, Any, T]], name: str) -> None:
        self._lines: list[str] = []
        self._listeners: list[Say] = []
        self.abandoned = False
        """Everybody left: the work is being undone, and nobody may join any more."""
        self._cancelled = False
        self._task = asyncio.get_running_loop().create_task(work(self._say), name=name)

    async def join(self, on_line: Say) -> T:
        """Wait for the end of the work; `on_line` gets every line, those said before included. Raises Stopped, and what the work raises."""
        for line in self._lines:
            on_line(line)
        self._listeners.append(on_line)
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._task.cancelled() and not self.abandoned:
                raise Stopped from None
            raise
        finally:
            self._listeners.remove(on_line)
            if not self._listeners and not self._task.done():
                self.abandoned = True
                self._cancel()

    async def stop(self) -> None:
        """End the work now and wait until it has cleaned up."""
        self._cancel()
        await self.ended()

    async def ended(self) -> None:
        await asyncio.wait({self._task})

    def then(self, callback: Callable[[], None]) -> None:
        """Call back once the work has ended, before those who wait for it go on."""

        def done(task: asyncio.Task[T]) -> None:
            # Looked at here, so that the error of a work that everybody left is not reported as lost.
            if not task.cancelled():
                task.exception()
            callback()

        self._task.add_done_callback(done)

    def _cancel(self) -> None:
        # Once: a second cancellation would break off the clean-up that the first one began.
        if not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def _say(self, line: str) -> None:
        self._lines.append(line)
        for listener in list(self._listeners):
            listener(line)
