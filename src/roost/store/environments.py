"""Package environments: what is built, being built, failed. The folder on disk is the builder's; which one may do what is decided here."""

from __future__ import annotations

from collections.abc import Sequence

from roost.core.model import Env, EnvState, Event, Recipe
from roost.store.columns import dump, dump_recipe, load, load_recipe
from roost.store.driver import Driver, Row, Value, Writing
from roost.store.events import SERVER, note

_IN_USE = """
    SELECT revisions.env_key FROM revisions
    WHERE revisions.id IN (SELECT revision_id FROM apps)
       OR revisions.state IN ('BUILDING', 'STARTING')
       OR revisions.id IN (SELECT revision_id FROM runners WHERE state <> 'TERMINATED')
       OR revisions.id IN (SELECT revision_id FROM releases WHERE state = 'UNDER_WAY')
       OR revisions.id IN (SELECT previous FROM releases WHERE state = 'UNDER_WAY')
"""
"""Keys that an alias, a deploy or rollback on its way, or a living runner needs."""


class Environments:
    """Each change of state appends an event to `env:<key>`, whose kind is the new state, or "deleted"."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def put_pending(self, key: str, recipe: Recipe, now_ms: int, *, actor: str = SERVER) -> Env:
        """See to it that there is a row for `key`, and answer it: PENDING if it is new, else in whatever state it is."""

        def write(tx: Writing) -> Row:
            row = tx.row(
                """
                INSERT INTO envs (key, recipe, state, reason, packages, size_bytes, build_ms, created_ms, used_ms)
                VALUES (:key, :recipe, 'PENDING', '', '[]', 0, 0, :now, :now)
                ON CONFLICT (key) DO NOTHING
                RETURNING *
                """,
                {"key": key, "recipe": dump_recipe(recipe), "now": now_ms},
            )
            if row is not None:
                _tell(tx, row, now_ms, actor)
                return row
            row = tx.row("SELECT * FROM envs WHERE key = :key", {"key": key})
            assert row is not None, "the insert met this row in the same transaction"
            return row

        return _env(await self._driver.write(write, "environments.put_pending"))

    async def get(self, key: str) -> Env | None:
        row = await self._driver.read(lambda tx: tx.row("SELECT * FROM envs WHERE key = :key", {"key": key}))
        return _env(row) if row else None

    async def list(self) -> tuple[Env, ...]:
        """Last used first."""
        rows = await self._driver.read(lambda tx: tx.rows("SELECT * FROM envs ORDER BY used_ms DESC, key"))
        return tuple(_env(row) for row in rows)

    async def in_use(self) -> frozenset[str]:
        """The keys that `delete` would refuse because something needs them."""
        rows = await self._driver.read(lambda tx: tx.rows(f"SELECT key FROM envs WHERE key IN ({_IN_USE})"))
        return frozenset(row["key"] for row in rows)

    async def claim_build(self, key: str, now_ms: int, *, actor: str = SERVER) -> Env | None:
        """PENDING or FAILED to BUILDING: the caller is the one who builds. None: somebody else does, it is ready, or there is no such row."""
        return await self._move(
            "state = 'BUILDING', reason = ''", "key = :key AND state IN ('PENDING', 'FAILED')", {"key": key}, now_ms, actor
        )

    async def finish(
        self,
        key: str,
        ok: bool,
        reason: str,
        packages: Sequence[str],
        size_bytes: int,
        build_ms: int,
        now_ms: int,
        *,
        actor: str = SERVER,
    ) -> bool:
        """BUILDING to READY or FAILED. False if it is not being built: the build was given up meanwhile."""
        state = EnvState.READY if ok else EnvState.FAILED
        moved = await self._move(
            "state = :state, reason = :reason, packages = :packages, size_bytes = :size, build_ms = :took, used_ms = :now",
            "key = :key AND state = 'BUILDING'",
            {
                "key": key,
                "state": state.value,
                "reason": reason,
                "packages": dump(list(packages)),
                "size": size_bytes,
                "took": build_ms,
                "now": now_ms,
            },
            now_ms,
            actor,
        )
        return moved is not None

    async def reset_building(self, now_ms: int, *, actor: str = SERVER) -> tuple[str, ...]:
        """At the start of a server, whose predecessor's builds died with it: BUILDING to PENDING. Answers their keys."""

        def write(tx: Writing) -> tuple[str, ...]:
            rows = tx.rows(
                """
                UPDATE envs SET state = 'PENDING', reason = 'the server ended during the build' WHERE state = 'BUILDING'
                RETURNING *
                """
            )
            for row in rows:
                _tell(tx, row, now_ms, actor)
            return tuple(sorted(row["key"] for row in rows))

        return await self._driver.write(write, "environments.reset_building")

    async def touch(self, key: str, now_ms: int) -> bool:
        """Note that it was used now. False if there is no such row (it was pruned: build again)."""
        changed = await self._driver.write(
            lambda tx: tx.run("UPDATE envs SET used_ms = max(used_ms, :now) WHERE key = :key", {"key": key, "now": now_ms}),
            "environments.touch",
        )
        return changed > 0

    async def delete(self, key: str, now_ms: int, *, reason: str = "", actor: str = SERVER) -> bool:
        """Forget it; then its folder may be removed. False if it is being built, is in use, or is gone."""

        def write(tx: Writing) -> bool:
            row = tx.row(f"DELETE FROM envs WHERE key = :key AND state <> 'BUILDING' AND key NOT IN ({_IN_USE}) RETURNING *", {"key": key})
            if row is None:
                return False
            _tell(tx, row | {"state": "deleted", "reason": reason}, now_ms, actor)
            return True

        return await self._driver.write(write, "environments.delete")

    async def _move(self, setters: str, guard: str, args: dict[str, Value], now_ms: int, actor: str) -> Env | None:
        def write(tx: Writing) -> Env | None:
            row = tx.row(f"UPDATE envs SET {setters} WHERE {guard} RETURNING *", args)
            if row is None:
                return None
            _tell(tx, row, now_ms, actor)
            return _env(row)

        return await self._driver.write(write, "environments.move")


def _tell(tx: Writing, row: Row, now_ms: int, actor: str) -> None:
    note(tx, row["account"], row["environment"], Event(0, now_ms, f"env:{row['key']}", row["state"], row["reason"], actor, {}))


def _env(row: Row) -> Env:
    return Env(
        key=row["key"],
        recipe=load_recipe(row["recipe"]),
        state=EnvState(row["state"]),
        reason=row["reason"],
        packages=tuple(load(row["packages"])),
        size_bytes=row["size_bytes"],
        build_ms=row["build_ms"],
        created_ms=row["created_ms"],
        used_ms=row["used_ms"],
    )
