"""A driver whose writes and reads can be made to fail, before they are done or after they are on disk."""

from __future__ import annotations

from roost.store import DiskTrouble
from roost.store.driver import Driver, Read, Stats, T, Write


class FlakyDriver:
    """Another driver with faults: what it writes is written, unless it says so."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.name = driver.name
        self.fault = ""
        """Of the next write: "before" (nothing is written), "after" (it is, and nobody hears of it) or "" for none."""
        self.cannot_read = False

    async def write(self, work: Write[T], point: str, *, quick: bool = False) -> T:
        fault, self.fault = self.fault, ""
        if fault == "before":
            raise DiskTrouble("The disk fails.")
        done = await self._driver.write(work, point, quick=quick)
        if fault == "after":
            raise DiskTrouble("The disk fails.")
        return done

    async def read(self, work: Read[T]) -> T:
        if self.cannot_read:
            raise DiskTrouble("The disk fails.")
        return await self._driver.read(work)

    def stats(self) -> Stats:
        return self._driver.stats()

    async def close(self) -> None:
        await self._driver.close()
