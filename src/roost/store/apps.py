"""Aliases: the names that callers use, each pointing to one revision, with its auth mode and its scale."""

from __future__ import annotations

from typing import Any

from roost.core.model import Alias, Event, Scale
from roost.store.columns import dump_scale, load_scale
from roost.store.driver import Driver, Row, Value, Writing
from roost.store.events import SERVER, note


class Apps:
    """Each change appends an event to `app:owner/name`: created, pointed, scaled, auth, deleted."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def get(self, owner: str, name: str) -> Alias | None:
        row = await self._driver.read(
            lambda tx: tx.row("SELECT * FROM apps WHERE account = :owner AND name = :name", {"owner": owner, "name": name})
        )
        return _alias(row) if row else None

    async def list(self, owner: str | None = None, environment: str | None = None) -> tuple[Alias, ...]:
        """By owner and name; of one owner or environment, or of all."""
        args: dict[str, Value] = {"owner": owner, "environment": environment}
        rows = await self._driver.read(
            lambda tx: tx.rows(
                """
                SELECT * FROM apps
                WHERE (:owner IS NULL OR account = :owner) AND (:environment IS NULL OR environment = :environment)
                ORDER BY account, name
                """,
                args,
            )
        )
        return tuple(_alias(row) for row in rows)

    async def point(self, alias: Alias, *, reason: str = "", actor: str = SERVER) -> Alias:
        """Make the alias as given, or make the one of this name so; answers it as stored (`created_ms` stays the first one's).

        Raises `Violation` if its revision does not exist.
        """

        def write(tx: Writing) -> Alias:
            args: dict[str, Value] = {
                "owner": alias.owner,
                "environment": alias.environment,
                "name": alias.name,
                "revision_id": alias.revision_id,
                "auth": alias.auth,
                "scale": dump_scale(alias.scale),
                "ephemeral": int(alias.ephemeral),
                "lease": alias.lease_until_ms,
                "created": alias.created_ms,
                "updated": alias.updated_ms,
            }
            before = tx.row(
                "SELECT revision_id FROM apps WHERE account = :owner AND name = :name", {"owner": alias.owner, "name": alias.name}
            )
            tx.run(
                """
                INSERT INTO apps (account, environment, name, revision_id, auth, scale, ephemeral, lease_until_ms, created_ms, updated_ms)
                VALUES (:owner, :environment, :name, :revision_id, :auth, :scale, :ephemeral, :lease, :created, :updated)
                ON CONFLICT (account, name) DO UPDATE SET
                    environment = excluded.environment, revision_id = excluded.revision_id, auth = excluded.auth, scale = excluded.scale,
                    ephemeral = excluded.ephemeral, lease_until_ms = excluded.lease_until_ms, updated_ms = excluded.updated_ms
                """,
                args,
            )
            row = tx.row("SELECT * FROM apps WHERE account = :owner AND name = :name", {"owner": alias.owner, "name": alias.name})
            assert row is not None, "the row was written in this transaction"
            data = {"revision_id": alias.revision_id} | ({"before": before["revision_id"]} if before else {})
            _tell(tx, row, alias.updated_ms, "pointed" if before else "created", reason, actor, data)
            return _alias(row)

        return await self._driver.write(write, "apps.point")

    async def set_scale(self, owner: str, name: str, scale: Scale, now_ms: int, *, reason: str = "", actor: str = SERVER) -> bool:
        """False if there is no such alias."""
        text = dump_scale(scale)
        return await self._set(owner, name, "scaled", ("scale", text), now_ms, reason, actor)

    async def set_auth(self, owner: str, name: str, auth: str, now_ms: int, *, reason: str = "", actor: str = SERVER) -> bool:
        """False if there is no such alias."""
        return await self._set(owner, name, "auth", ("auth", auth), now_ms, reason, actor)

    async def renew_lease(self, owner: str, name: str, until_ms: int) -> bool:
        """Let an ephemeral alias live until then. False if it has ended meanwhile, or is a permanent one. Not an event: it comes every few seconds."""
        changed = await self._driver.write(
            lambda tx: tx.run(
                "UPDATE apps SET lease_until_ms = :until WHERE account = :owner AND name = :name AND ephemeral = 1",
                {"until": until_ms, "owner": owner, "name": name},
            ),
            "apps.renew_lease",
        )
        return changed > 0

    async def expired(self, now_ms: int) -> tuple[Alias, ...]:
        """The ephemeral aliases whose lease has passed. `delete_expired` ends one, unless it was renewed after this was asked."""
        rows = await self._driver.read(
            lambda tx: tx.rows("SELECT * FROM apps WHERE ephemeral = 1 AND lease_until_ms <= :now ORDER BY lease_until_ms", {"now": now_ms})
        )
        return tuple(_alias(row) for row in rows)

    async def delete(self, owner: str, name: str, now_ms: int, *, reason: str = "", actor: str = SERVER) -> bool:
        """End the alias; its revisions stay. False if it was gone already."""
        return await self._delete(owner, name, "1 = 1", now_ms, reason, actor)

    async def delete_expired(self, owner: str, name: str, now_ms: int, *, reason: str = "its lease ended", actor: str = SERVER) -> bool:
        """End an ephemeral alias whose lease has passed. False if it was renewed, made permanent or is gone."""
        return await self._delete(owner, name, "ephemeral = 1 AND lease_until_ms <= :now", now_ms, reason, actor)

    async def _set(self, owner: str, name: str, kind: str, column: tuple[str, str], now_ms: int, reason: str, actor: str) -> bool:
        def write(tx: Writing) -> bool:
            row = tx.row(
                f"UPDATE apps SET {column[0]} = :value, updated_ms = :now WHERE account = :owner AND name = :name RETURNING *",
                {"value": column[1], "now": now_ms, "owner": owner, "name": name},
            )
            if row is None:
                return False
            _tell(tx, row, now_ms, kind, reason, actor, {column[0]: column[1]})
            return True

        return await self._driver.write(write, "apps.set")

    async def _delete(self, owner: str, name: str, guard: str, now_ms: int, reason: str, actor: str) -> bool:
        def write(tx: Writing) -> bool:
            # `:now` is named even where the guard does not, so that one set of arguments fits both.
            row = tx.row(
                f"DELETE FROM apps WHERE account = :owner AND name = :name AND {guard} RETURNING *",
                {"owner": owner, "name": name, "now": now_ms},
            )
            if row is None:
                return False
            _tell(tx, row, now_ms, "deleted", reason, actor, {"revision_id": row["revision_id"]})
            return True

        return await self._driver.write(write, "apps.delete")


def _tell(tx: Writing, row: Row, now_ms: int, kind: str, reason: str, actor: str, data: dict[str, Any]) -> None:
    subject = f"app:{row['account']}/{row['name']}"
    note(tx, row["account"], row["environment"], Event(0, now_ms, subject, kind, reason, actor, data))


def _alias(row: Row) -> Alias:
    return Alias(
        owner=row["account"],
        name=row["name"],
        environment=row["environment"],
        revision_id=row["revision_id"],
        auth=row["auth"],
        scale=load_scale(row["scale"]),
        ephemeral=bool(row["ephemeral"]),
        lease_until_ms=row["lease_until_ms"],
        created_ms=row["created_ms"],
        updated_ms=row["updated_ms"],
    )
