"""Releases: what was asked of an alias after its deploy, and how it ended."""

from __future__ import annotations

from roost.core.lifecycle import RELEASE, ReleaseEvent, advance, sources
from roost.core.model import Event, Release, ReleaseKind, ReleaseState
from roost.store.columns import any_of
from roost.store.driver import Driver, Row, Value, Writing
from roost.store.events import SERVER, note


class Releases:
    """Each change appends an event to `app:owner/name`: release_begun, release_done, release_failed."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def create(self, release: Release) -> None:
        """Raises `Violation` if there is one of this id."""

        def write(tx: Writing) -> None:
            tx.run(
                """
                INSERT INTO releases (id, account, environment, name, kind, revision_id, strategy, auth, state, reason, actor, begun_ms, ended_ms, previous)
                VALUES (:id, :account, :environment, :name, :kind, :revision_id, :strategy, :auth, :state, :reason, :actor, :begun_ms, :ended_ms, :previous)
                """,
                _columns(release),
            )
            _tell(tx, release, "release_begun", release.begun_ms, release.actor)

        await self._driver.write(write, "releases.create")

    async def get(self, id: str) -> Release | None:
        row = await self._driver.read(lambda tx: tx.row("SELECT * FROM releases WHERE id = :id", {"id": id}))
        return _release(row) if row else None

    async def under_way(self) -> tuple[Release, ...]:
        """Oldest first."""
        rows = await self._driver.read(lambda tx: tx.rows("SELECT * FROM releases WHERE state = 'UNDER_WAY' ORDER BY begun_ms, id"))
        return tuple(_release(row) for row in rows)

    async def list(self, owner: str, name: str, limit: int = 100) -> tuple[Release, ...]:
        """Newest first."""
        rows = await self._driver.read(
            lambda tx: tx.rows(
                "SELECT * FROM releases WHERE account = :owner AND name = :name ORDER BY begun_ms DESC, id DESC LIMIT :limit",
                {"owner": owner, "name": name, "limit": limit},
            )
        )
        return tuple(_release(row) for row in rows)

    async def end(self, id: str, event: ReleaseEvent, reason: str, now_ms: int) -> bool:
        """False if it has ended already."""
        to = advance(RELEASE, ReleaseState.UNDER_WAY, event)
        args: dict[str, Value] = {"id": id, "to": to.value, "reason": reason, "now": now_ms}
        listed = any_of(sources(RELEASE, event), args)

        def write(tx: Writing) -> bool:
            row = tx.row(
                f"UPDATE releases SET state = :to, reason = :reason, ended_ms = :now WHERE id = :id AND state IN {listed} RETURNING *", args
            )
            if row is None:
                return False
            _tell(tx, _release(row), f"release_{to.value.lower()}", now_ms, SERVER)
            return True

        return await self._driver.write(write, "releases.end")


def _tell(tx: Writing, release: Release, kind: str, now_ms: int, actor: str) -> None:
    data = {"release": release.id, "kind": release.kind.value, "revision_id": release.revision_id, "strategy": release.strategy}
    note(tx, release.owner, release.environment, Event(0, now_ms, f"app:{release.application}", kind, release.reason, actor, data))


def _columns(release: Release) -> dict[str, Value]:
    return {
        "id": release.id,
        "account": release.owner,
        "environment": release.environment,
        "name": release.name,
        "kind": release.kind.value,
        "revision_id": release.revision_id,
        "strategy": release.strategy,
        "auth": release.auth,
        "state": release.state.value,
        "reason": release.reason,
        "actor": release.actor,
        "begun_ms": release.begun_ms,
        "ended_ms": release.ended_ms,
        "previous": release.previous,
    }


def _release(row: Row) -> Release:
    return Release(
        id=row["id"],
        owner=row["account"],
        name=row["name"],
        environment=row["environment"],
        kind=ReleaseKind(row["kind"]),
        revision_id=row["revision_id"],
        strategy=row["strategy"],
        auth=row["auth"],
        state=ReleaseState(row["state"]),
        reason=row["reason"],
        actor=row["actor"],
        begun_ms=row["begun_ms"],
        ended_ms=row["ended_ms"],
        previous=row["previous"],
    )
