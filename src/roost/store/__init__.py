"""The truth: what the server must not forget, one module an aggregate.

    store = await Store.open(state / "roost.db", clock)
    if not await store.runners.move(runner.id, {RunnerState.IDLE}, RunnerState.DRAINING, "scaled down", clock.now_ms()):
        return  # somebody else decided first

Frozen values of `core.model` go in and come out; an awaited write is on disk. Time is an argument. Which process may open the
database is the supervisor's to say (docs/internals/contracts.md): a second opener is slow, not harmful.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from roost.kit.clock import Clock
from roost.store.apps import Apps
from roost.store.decisions import Decisions
from roost.store.driver import Driver, Stats
from roost.store.environments import Environments
from roost.store.errors import (
    DatabaseBusy,
    DatabaseUnusable,
    DiskTrouble,
    SchemaTooNew,
    StoreClosed,
    StoreError,
    UnsuitableFolder,
    Violation,
)
from roost.store.events import Events
from roost.store.keys import Keys
from roost.store.meta import Meta
from roost.store.migrate import Migration, known, migrate
from roost.store.releases import Releases
from roost.store.request_reads import DamagedContent
from roost.store.requests import Requests
from roost.store.revisions import Revisions
from roost.store.runners import Runners
from roost.store.sqlite import MEMORY, SqliteDriver
from roost.store.webhooks import Webhooks

__all__ = [
    "MEMORY",
    "DamagedContent",
    "DatabaseBusy",
    "DatabaseUnusable",
    "DiskTrouble",
    "SchemaTooNew",
    "Store",
    "StoreClosed",
    "StoreError",
    "UnsuitableFolder",
    "Violation",
]


class Store:
    """All aggregates on one driver. Made by `open`; belongs to the event loop that it was opened on."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.apps = Apps(driver)
        self.revisions = Revisions(driver)
        self.releases = Releases(driver)
        self.runners = Runners(driver)
        self.requests = Requests(driver)
        self.webhooks = Webhooks(driver)
        self.environments = Environments(driver)
        self.decisions = Decisions(driver)
        self.keys = Keys(driver)
        self.events = Events(driver)
        self.meta = Meta(driver)

    @classmethod
    async def open(cls, path: Path | str, clock: Clock) -> Store:
        """Open the database at `path` (":memory:" for one that nobody else sees) and bring its schema up to date.

        Raises a `StoreError` that says what to do: `UnsuitableFolder`, `SchemaTooNew`, `DatabaseUnusable`, ...
        """
        return await cls.on(await SqliteDriver.open(path), clock, known())

    @classmethod
    async def on(cls, driver: Driver, clock: Clock, migrations: Sequence[Migration]) -> Store:
        """The store on a driver that is open; closes it if the schema cannot be brought up to date."""
        try:
            await migrate(driver, migrations, clock.now_ms())
        except BaseException:
            await driver.close()
            raise
        return cls(driver)

    def stats(self) -> Stats:
        return self._driver.stats()

    async def close(self) -> None:
        """Finish the writes that were handed over, then close. Afterwards everything raises `StoreClosed`. Closing twice is fine."""
        await self._driver.close()
