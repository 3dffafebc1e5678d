"""Log lines of an app or a runner, once or as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic, sleep

from roost.control.api import Stream
from roost.control.errors import LostContact
from roost.control.events import Attached, LogLine, Lost, log_line
from roost.control.patience import Broken, Mended, with_patience

Fetch = Callable[[int | None, int | None], Stream]
"""(lines, since_ms) -> stream: `Api.app_logs` or `Api.runner_logs` with the rest filled in."""


def follow(
    fetch: Fetch,
    *,
    lines: int | None,
    since_ms: int | None,
    clock: Callable[[], float] = monotonic,
    pause: Callable[[float], None] = sleep,
) -> Iterator[LogLine | Lost | Attached]:
    """Lines as they are written, through restarts of the server, without end.

    After a break it asks for what is newer than the last line it saw; lines of that same millisecond may be missed.
    """
    seen_ms: int | None = None

    def attach() -> Iterator[LogLine]:
        return read(fetch(lines, since_ms) if seen_ms is None else fetch(None, seen_ms + 1))

    def read(stream: Stream) -> Iterator[LogLine]:
        nonlocal seen_ms
        for line in once(stream):
            seen_ms = line.at_ms or seen_ms
            yield line
        raise LostContact("The server ended the log.")

    for item in with_patience(attach, clock=clock, pause=pause):
        match item:
            case Broken(reason):
                yield Lost(reason)
            case Mended():
                yield Attached()
            case _:
                yield item


def once(stream: Stream) -> Iterator[LogLine]:
    """The lines that a log stream has, until its end."""
    try:
        for value in stream:
            # Beats, and the word that the server restarts, are not lines.
            if value.get("event") in (None, "log"):
                yield log_line(value)
    finally:
        stream.close()
