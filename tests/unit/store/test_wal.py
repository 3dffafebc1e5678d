"""The log stays short while readers behave, and says so when one does not (faults.md F-33)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from roost.kit.clock import SystemClock
from roost.store import DatabaseBusy, Store
from roost.store.driver import Reading
from roost.store.sqlite import SqliteDriver
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
    fill(connection, 2 * PAGES)
    assert "store.log_long" not in capsys.readouterr().err
    fill(connection, 3 * PAGES)
    assert capsys.readouterr().err.count("store.log_long") == 1
    long = log_pages(path)
    reader.execute("ROLLBACK")
    fill(connection, 20 * PAGES)
    # It is not written any further than it was: it begins anew as soon as nobody reads it.
    assert log_pages(path) <= long + PAGES
    assert connection.execute("SELECT count(*) FROM pages").fetchall() == [(25 * PAGES,)]
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


@pytest.fixture
async def driver(path: Path) -> AsyncIterator[SqliteDriver]:
    driver = await SqliteDriver.open(path)
    yield driver
    await driver.close()


async def test_a_read_that_lasts_too_long_is_ended_and_its_caller_told(driver: SqliteDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.store.sqlite.READ_S", 0.0)
    begun = threading.Event()

    def count_for_ever(tx: Reading) -> object:
        begun.set()
        return tx.rows("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")

    reading = asyncio.ensure_future(driver.read(count_for_ever))
    await asyncio.to_thread(begun.wait)
    while not reading.done():
        for reader in driver._reads._workers:  # type: ignore[attr-defined]
            reader.end_if_long()
        await asyncio.sleep(0)
    with pytest.raises(DatabaseBusy, match="This read was ended"):
        await reading
    assert await driver.read(lambda tx: tx.rows("SELECT 1 AS one")) == [{"one": 1}]


async def test_the_store_keeps_its_log_short(path: Path) -> None:
    store = await Store.open(path, SystemClock())
    for _ in range(30):
        await asyncio.gather(*(store.meta.set(f"key-{n}", "x" * 3_000) for n in range(200)))
    assert log_pages(path) < 3 * 2_000
    await store.close()
