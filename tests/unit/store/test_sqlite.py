"""What only SQLite does: one commit for a batch, full and failing disks, files that cannot be opened."""

from __future__ import annotations

import asyncio
import os
import resource
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roost.store.driver import Writing
from roost.store.errors import DatabaseUnusable, DiskTrouble, StoreError
from roost.store.sqlite import SqliteDriver


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    driver = await SqliteDriver.open(tmp_path / "roost.db")
    await driver.write(lambda tx: tx.script("CREATE TABLE pages (page BLOB)"), "test")
    yield driver
    await driver.close()


async def write_page(driver: SqliteDriver, size: int = 1) -> int:
    return await driver.write(lambda tx: tx.run("INSERT INTO pages VALUES (:page)", {"page": b"x" * size}), "test")


async def pages(driver: SqliteDriver) -> int:
    return await driver.read(lambda tx: tx.rows("SELECT count(*) AS n FROM pages")[0]["n"])


class Gate:
    """A write that holds the writer until it is opened, so that others queue up behind it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.entered = threading.Event()

    def work(self, tx: Writing) -> None:
        self.entered.set()
        self._open.wait()

    def open(self) -> None:
        self._open.set()


async def behind(gate: Gate, driver: SqliteDriver, writes: int, size: int = 1) -> list[asyncio.Task[int]]:
    """Writes that are certain to be in one batch, which begins when the gate opens."""
    held = asyncio.ensure_future(driver.write(gate.work, "test"))
    await asyncio.to_thread(gate.entered.wait)
    waiting = [asyncio.ensure_future(write_page(driver, size)) for _ in range(writes)]
    await asyncio.sleep(0)
    gate.open()
    await held
    return waiting


async def test_all_writes_that_waited_are_one_commit(driver: SqliteDriver) -> None:
    before = driver.stats().commits
    await asyncio.gather(*await behind(Gate(), driver, writes=100))
    assert driver.stats().commits - before == 2
    assert await pages(driver) == 100


async def test_no_row_of_a_batch_can_be_read_before_its_commit(driver: SqliteDriver) -> None:
    gate = Gate()

    def write_and_wait(tx: Writing) -> None:
        tx.run("INSERT INTO pages VALUES (x'00')")
        gate.work(tx)

    held = asyncio.ensure_future(driver.write(write_and_wait, "test"))
    await asyncio.to_thread(gate.entered.wait)
    assert await pages(driver) == 0
    gate.open()
    await held
    assert await pages(driver) == 1


async def test_a_full_database_fails_the_whole_batch_and_recovers_when_there_is_room(driver: SqliteDriver) -> None:
    limit = await driver.read(lambda tx: tx.rows("PRAGMA page_count")[0]["page_count"]) + 3
    await driver.write(lambda tx: tx.rows(f"PRAGMA max_page_count = {limit}"), "test")
    waiting = await behind(Gate(), driver, writes=20, size=3_000)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, DiskTrouble) and "disk is full" in outcome.detail and outcome.hint for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 20
    assert outcomes[0].status == 503  # type: ignore[union-attr]
    assert await pages(driver) == 0

    await driver.write(lambda tx: tx.rows("PRAGMA max_page_count = 1000000"), "test")
    assert await write_page(driver, 3_000) == 1
    assert await pages(driver) == 1


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_fails_at_the_commit_is_told_to_each_caller_and_nothing_is_kept(driver: SqliteDriver, tmp_path: Path) -> None:
    await write_page(driver, 500_000)
    with no_file_grows_beyond((tmp_path / "roost.db-wal").stat().st_size):
        waiting = await behind(Gate(), driver, writes=10)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DiskTrouble] * 10
        assert await pages(driver) == 1
    assert await write_page(driver) == 1
    assert await pages(driver) == 2


async def test_the_database_is_for_the_servers_user_only(driver: SqliteDriver, tmp_path: Path) -> None:
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["roost.db", "roost.db-shm", "roost.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_each_commit_is_synced_and_foreign_keys_are_checked(driver: SqliteDriver) -> None:
    def settings(tx: Writing) -> list[object]:
        return [next(iter(tx.rows(f"PRAGMA {name}")[0].values())) for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert await driver.write(settings, "test") == ["wal", 2, 1]


async def test_a_reader_cannot_write(driver: SqliteDriver) -> None:
    with pytest.raises(StoreError, match="readonly"):
        await driver.read(lambda tx: tx.rows("DELETE FROM pages RETURNING page"))


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "roost.db"
    path.write_bytes(b"This is my diary. " * 100)
    with pytest.raises(DatabaseUnusable, match="no SQLite database"):
        await SqliteDriver.open(path)
    assert path.read_bytes() == b"This is my diary. " * 100


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match=r"nowhere/roost\.db cannot be opened: No such file"):
        await SqliteDriver.open(tmp_path / "nowhere" / "roost.db")


async def test_closing_leaves_one_file_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    for _ in range(3):
        driver = await SqliteDriver.open(tmp_path / "roost.db")
        await driver.write(lambda tx: tx.rows("SELECT 1"), "test")
        assert _held(tmp_path) and _lanes()
        await driver.close()
    assert [file.name for file in tmp_path.iterdir()] == ["roost.db"]
    assert (_held(tmp_path), _lanes()) == ([], [])


def _held(folder: Path) -> list[str]:
    """Descriptors of this process that lead into the folder: other tests' do not count."""
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [target for link in links if os.path.lexists(link) and (target := os.readlink(link)).startswith(str(folder))]


def _lanes() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("store-")]
