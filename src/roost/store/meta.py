"""Small facts about the server itself: the owner's name, the instance's id."""

from __future__ import annotations

from roost.store.driver import Driver, Writing

_READ = "SELECT value FROM meta WHERE account = '' AND environment = '' AND key = :key"


class Meta:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def get(self, key: str) -> str | None:
        row = await self._driver.read(lambda tx: tx.row(_READ, {"key": key}))
        return str(row["value"]) if row else None

    async def set(self, key: str, value: str) -> None:
        await self._driver.write(
            lambda tx: tx.run(
                """
                INSERT INTO meta (key, value) VALUES (:key, :value)
                ON CONFLICT (account, environment, key) DO UPDATE SET value = excluded.value
                """,
                {"key": key, "value": value},
            ),
            "meta.set",
        )

    async def set_once(self, key: str, value: str) -> str:
        """Set it if it has no value, and answer the value that it has then: of several who ask, all get the first one's."""

        def write(tx: Writing) -> str:
            tx.run(
                "INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (account, environment, key) DO NOTHING",
                {"key": key, "value": value},
            )
            row = tx.row(_READ, {"key": key})
            return str(row["value"]) if row else value

        return await self._driver.write(write, "meta.set_once")
