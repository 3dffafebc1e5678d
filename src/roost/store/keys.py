"""API keys: hashes, never secrets."""

from __future__ import annotations

from roost.core.model import Event, Key
from roost.store.driver import Driver, Row, Writing
from roost.store.events import SERVER, note


class Keys:
    """Making and revoking a key appends an event to `key:<id>`. A runner's key has none: it lives and ends with its runner."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def create(self, key: Key, *, actor: str = SERVER) -> None:
        """Raises `Violation` if there is a key of this id, or another of the same runner."""

        def write(tx: Writing) -> None:
            tx.run(
                """
                INSERT INTO keys (id, account, scope, alias, secret_hash, created_ms, revoked_ms, runner_id)
                VALUES (:id, :account, :scope, :alias, :secret_hash, :created_ms, :revoked_ms, :runner_id)
                """,
                {
                    "id": key.id,
                    "account": key.owner,
                    "scope": key.scope,
                    "alias": key.alias,
                    "secret_hash": key.secret_hash,
                    "created_ms": key.created_ms,
                    "revoked_ms": key.revoked_ms,
                    "runner_id": key.runner_id,
                },
            )
            if key.runner_id is None:
                note(
                    tx,
                    key.owner,
                    "",
                    Event(0, key.created_ms, f"key:{key.id}", "created", "", actor, {"scope": key.scope, "alias": key.alias}),
                )

        await self._driver.write(write, "keys.create")

    async def get(self, id: str) -> Key | None:
        """Also a revoked one: whoever asks must look at `revoked_ms`."""
        row = await self._driver.read(lambda tx: tx.row("SELECT * FROM keys WHERE id = :id", {"id": id}))
        return _key(row) if row else None

    async def list(self, owner: str) -> tuple[Key, ...]:
        """The keys that people hold and that are valid (neither revoked nor a runner's), oldest first."""
        rows = await self._driver.read(
            lambda tx: tx.rows(
                "SELECT * FROM keys WHERE account = :owner AND revoked_ms IS NULL AND runner_id IS NULL ORDER BY created_ms, id",
                {"owner": owner},
            )
        )
        return tuple(_key(row) for row in rows)

    async def valid(self) -> tuple[Key, ...]:
        """Every key that opens something now, runners' own included, of whatever owner."""
        rows = await self._driver.read(lambda tx: tx.rows("SELECT * FROM keys WHERE revoked_ms IS NULL ORDER BY created_ms, id"))
        return tuple(_key(row) for row in rows)

    async def revoke(self, id: str, now_ms: int, *, reason: str = "", actor: str = SERVER) -> bool:
        """False if it was revoked before or never existed."""

        def write(tx: Writing) -> bool:
            row = tx.row("UPDATE keys SET revoked_ms = :now WHERE id = :id AND revoked_ms IS NULL RETURNING *", {"id": id, "now": now_ms})
            if row is None:
                return False
            if row["runner_id"] is None:
                note(tx, row["account"], "", Event(0, now_ms, f"key:{id}", "revoked", reason, actor, {}))
            return True

        return await self._driver.write(write, "keys.revoke")

    async def of_runner(self, runner_id: str) -> Key | None:
        row = await self._driver.read(lambda tx: tx.row("SELECT * FROM keys WHERE runner_id = :runner_id", {"runner_id": runner_id}))
        return _key(row) if row else None

    async def delete_for_runner(self, runner_id: str) -> bool:
        """Forget the key of a runner that has ended. False if it had none."""
        return (
            await self._driver.write(
                lambda tx: tx.run("DELETE FROM keys WHERE runner_id = :runner_id", {"runner_id": runner_id}), "keys.delete_for_runner"
            )
            > 0
        )


def _key(row: Row) -> Key:
    return Key(
        id=row["id"],
        owner=row["account"],
        scope=row["scope"],
        alias=row["alias"],
        secret_hash=row["secret_hash"],
        created_ms=row["created_ms"],
        revoked_ms=row["revoked_ms"],
        runner_id=row["runner_id"],
    )
