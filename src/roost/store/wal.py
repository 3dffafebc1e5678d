"""Keeps the write-ahead log short, whatever readers do (faults.md F-33).

The log can begin anew only when what it holds is in the database file and nobody reads it. So its length is bounded by: a checkpoint each
PAGES pages; from twice that on one that waits a moment for readers; from three times on a warning, and the end of reads that last too long.
A transaction of another program cannot be ended from here: the warning is for whoever opened it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import apsw

from roost.kit import log

PAGES: Final = 2_000
"""Normal length: 8 MB. A page that changes often is written to the database once for all its changes in between."""
READERS_WAIT_MS: Final = 20
"""The writer holds still for so long, at most each PAGES // 2 pages."""
_WARN_AGAIN_S: Final = 60.0


class LogKeeper:
    """Called by SQLite after each commit, with the log's length."""

    def __init__(self, usual_wait_ms: int, end_long_reads: Callable[[], int], pages: int = PAGES) -> None:
        self._usual_wait_ms = usual_wait_ms
        self._end_long_reads = end_long_reads
        self._pages = pages
        self._waited_at = 0
        self._warned_s = -_WARN_AGAIN_S

    def __call__(self, connection: apsw.Connection, database: str, pages: int) -> int:
        # An error from here would be the commit's, which has happened; the log holds everything until a later checkpoint succeeds.
        try:
            self._keep_short(connection, pages)
        except apsw.Error as error:
            log.warning("store.checkpoint_failed", error=str(error), log_pages=pages)
        return apsw.SQLITE_OK

    def _keep_short(self, connection: apsw.Connection, pages: int) -> None:
        if pages < self._pages:
            self._waited_at = 0
            return
        if pages >= 3 * self._pages:
            self._warn(pages)
        if pages < max(2 * self._pages, self._waited_at + self._pages // 2):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            return
        self._waited_at = pages
        connection.set_busy_timeout(READERS_WAIT_MS)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            pass  # somebody still reads; the next one tries again
        finally:
            connection.set_busy_timeout(self._usual_wait_ms)

    def _warn(self, pages: int) -> None:
        now_s = time.monotonic()
        if now_s - self._warned_s < _WARN_AGAIN_S:
            return
        self._warned_s = now_s
        log.warning(
            "store.log_long", log_pages=pages, usual=self._pages, reads_ended=self._end_long_reads(), why="a read has lasted too long"
        )
