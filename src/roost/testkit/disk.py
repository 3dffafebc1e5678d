"""A database that outlives the servers on it, as a file does: in memory, and each server gets a store that only it can close."""

from __future__ import annotations

from roost.kit.clock import Clock
from roost.store import MEMORY, Store, StoreClosed, known
from roost.store.driver import Driver, Read, Stats, T, Write
from roost.store.sqlite import SqliteDriver


class Disk:
    """Made by `Disk.open`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @classmethod
    async def open(cls) -> Disk:
        return cls(await SqliteDriver.open(MEMORY))

    async def store(self, clock: Clock) -> Store:
        """A store for one server. After its `close` it raises StoreClosed; what it wrote is there for the next."""
        return await Store.on(_Handle(self._driver), clock, known())

    async def close(self) -> None:
        await self._driver.close()


class _Handle:
    """One opening of the database."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._closed = False
        self.name = driver.name

    async def write(self, work: Write[T], point: str, *, quick: bool = False) -> T:
        self._refuse_closed()
        return await self._driver.write(work, point, quick=quick)

    async def read(self, work: Read[T]) -> T:
        self._refuse_closed()
        return await self._driver.read(work)

    def stats(self) -> Stats:
        return self._driver.stats()

    async def close(self) -> None:
        self._closed = True

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreClosed("The store is closed: the server is gone.", code="server_stopping")
