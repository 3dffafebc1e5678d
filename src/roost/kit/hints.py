"""Nudges between loops of one process. A hint carries nothing and may be lost: whoever is woken reads the truth in the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Hints:
    """Named topics. `give` wakes everybody who listens to the topic now."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._planned: set[str] = set()

    def give(self, topic: str) -> None:
        for event in self._listeners.get(topic, ()):
            event.set()

    def give_within(self, topic: str, seconds: float) -> None:
        """One hint at the end of this time for all that are given meanwhile: for what may happen with every call."""
        if topic not in self._planned:
            self._planned.add(topic)
            asyncio.get_running_loop().call_later(seconds, self._give_planned, topic)

    def _give_planned(self, topic: str) -> None:
        self._planned.discard(topic)
        self.give(topic)

    @contextlib.contextmanager
    def listen(self, *topics: str) -> Iterator[asyncio.Event]:
        """An event that is set by each hint on these topics; the listener clears it before it reads the store."""
        event = asyncio.Event()
        for topic in topics:
            self._listeners.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            for topic in topics:
                listeners = self._listeners[topic]
                listeners.discard(event)
                if not listeners:
                    del self._listeners[topic]


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for a hint at most so long. False: the time passed."""
    if event.is_set():
        return True
    # Not wait_for: before Python 3.12 it swallows a cancellation that comes in the same turn as the hint, and a stopped loop runs on.
    hinted = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([hinted], timeout=seconds)
    finally:
        hinted.cancel()
    return event.is_set()
