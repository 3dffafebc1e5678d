"""The log stays short while readers behave, and says so when one does not (faults.md F-33)."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import apsw
import pytest

from roost.kit.clock import SystemClock
from roost.store import DatabaseBusy, Store
from roost.store.driver import Reading
from roost.store.lanes import Done, Failed
from roost.store.sqlite import Reader
from roost.store.wal import LogKeeper

PAGES = 20
BYTES_A_PAGE = 4096 + 24


def fill(connection: apsw.Connection, pages: int) -> None:
    for _ in range(pages):
        connection.execute("INSERT INTO pages VALUES (?)", (b"x" * 3_000,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture
def connection(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # this is about lengths
    connection.execute("CREATE TABLE pages (page BLOB)")
    return connection


def log_pages(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size // BYTES_A_PAGE


def test_a_log_that_nobody_reads_is_begun_anew(connection: apsw.Connection, path: Path) -> None:
    connection.set_wal_hook(LogKeeper(1_000, lambda: 0, PAGES))
    fill(connection, 50 * PAGES)
    assert log_pages(path) <= PAGES + 5
    connection.close()


def test_a_reader_that_stays_makes_it_warn_once_and_end_what_lasts_too_long(
    connection: apsw.Connection, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    connection.set_wal_hook(LogKeeper(1_000, lambda: len(ended), PAGES))
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM pages").fetchall()
    fill(connection, PAGES // 4)
    assert "store.log_long" not in capsys.readouterr().err
    fill(connection, 3 * PAGES)
    assert capsys.readouterr().err.count("store.log_long") == 1
    long = log_pages(path)
    reader.execute("ROLLBACK")
    fill(connection, 20 * PAGES)
    # It is not written any further than it was: it begins anew as soon as nobody reads it.
    assert log_pages(path) <= long + PAGES
    assert connection.execute("SELECT count(*) FROM pages").fetchall() == [(23 * PAGES + PAGES // 4,)]
    reader.close()
    connection.close()


def test_a_checkpoint_that_fails_does_not_make_a_commit_fail(connection: apsw.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing:
        def set_busy_timeout(self, ms: int) -> None: ...

        def wal_checkpoint(self, *, mode: int) -> None:
            raise apsw.IOError("the disk is unwell")

    assert LogKeeper(1_000, lambda: 0, PAGES)(Failing(), "main", PAGES) == apsw.SQLITE_OK  # type: ignore[arg-type]
    assert "store.checkpoint_failed" in capsys.readouterr().err
    connection.close()


def test_a_read_that_lasts_too_long_is_ended_and_its_caller_told(connection: apsw.Connection) -> None:
    reader = Reader(connection)
    begun, ended = threading.Event(), threading.Event()

    def count_for_ever(tx: Reading) -> object:
        begun.set()
        return tx.rows("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")

    def end() -> None:
        begun.wait()
        assert not reader.end_if_long(3_600)
        while not ended.wait(0.001):  # the statement may not have begun
            reader.end_if_long(0)

    other = threading.Thread(target=end)
    other.start()
    (outcome,) = reader.run([count_for_ever])
    ended.set()
    other.join()
    assert isinstance(outcome, Failed) and isinstance(outcome.error, DatabaseBusy)
    assert "took too long" in outcome.error.detail
    assert not reader.end_if_long(0)
    assert reader.run([lambda tx: tx.rows("SELECT 1 AS one")]) == [Done([{"one": 1}])]
    connection.close()


async def test_the_store_keeps_its_log_short(path: Path) -> None:
    store = await Store.open(path, SystemClock())
    for _ in range(20):
        await asyncio.gather(*(store.meta.set(f"key-{n}", "x" * 3_000) for n in range(200)))
    assert log_pages(path) < 3 * 2_000
    await store.close()
