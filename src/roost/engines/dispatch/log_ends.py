"""Where the output of runners ends, which each attempt asks twice: looked up once for all that a runner said together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roost.link.directory import Directory

_RUNNERS: Final = 1_000
"""Remembered at a time."""


class LogEnds:
    """Of connected runners. What a call has printed is in the file before the link brings its end, so nothing new counts until more has come."""

    def __init__(self, directory: Directory, size: Callable[[str], int]) -> None:
        """`size` looks at the file."""
        self._directory = directory
        self._size = size
        self._known: dict[str, tuple[object, int, int]] = {}
        """By runner: its connection, how often that had brought something, and the size."""

    def of(self, runner_id: str) -> int:
        """At least where the output ended when the link last brought something of this runner."""
        entry = self._directory.get(runner_id)
        if entry is None:
            return self._size(runner_id)
        connection = entry.connection
        known = self._known.get(runner_id)
        if known is None and len(self._known) >= _RUNNERS:
            self._known.clear()
        if known is None or known[0] is not connection or known[1] != connection.arrivals:
            known = self._known[runner_id] = (connection, connection.arrivals, self._size(runner_id))
        return known[2]
