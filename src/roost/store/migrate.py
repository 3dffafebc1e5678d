"""The schema's steps: numbered SQL files, each applied in one transaction together with the row that records it.

A process killed in the middle leaves the step undone, and the next open does it again. Nothing is ever applied twice or half.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from roost.store.driver import Driver, Reading, Writing
from roost.store.errors import SchemaTooNew

_RECORD = """
CREATE TABLE IF NOT EXISTS migrations (
    account     TEXT NOT NULL DEFAULT '',
    environment TEXT NOT NULL DEFAULT '',
    version     INTEGER NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    applied_ms  INTEGER NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str


def known() -> tuple[Migration, ...]:
    """The migrations of this version of roost, in order."""
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in resources.files("roost.store").joinpath("sql").iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.version))


async def migrate(driver: Driver, migrations: Sequence[Migration], now_ms: int) -> None:
    """Bring the database to the last of `migrations`. Raises `SchemaTooNew`, having changed nothing, if it is further than that."""
    newest = max((migration.version for migration in migrations), default=0)
    await driver.write(lambda tx: tx.script(_RECORD), "migrate.record")
    found = await driver.write(_version, "migrate.version")
    if found > newest:
        raise SchemaTooNew(
            f"The database {driver.name} has schema {found}; this version of roost knows schemas up to {newest}.",
            hint="Start the newer roost again, or put back a backup from before the upgrade.",
        )
    for migration in migrations:
        await driver.write(lambda tx, step=migration: _apply(tx, step, now_ms), "migrate.apply")


def _apply(tx: Writing, migration: Migration, now_ms: int) -> None:
    # Asked inside the transaction: another process may be migrating the same file at this moment.
    if migration.version <= _version(tx):
        return
    tx.script(migration.sql)
    tx.run(
        "INSERT INTO migrations (version, name, applied_ms) VALUES (:version, :name, :now)",
        {"version": migration.version, "name": migration.name, "now": now_ms},
    )


def _version(tx: Reading) -> int:
    row = tx.row("SELECT coalesce(max(version), 0) AS version FROM migrations")
    return int(row["version"]) if row else 0
