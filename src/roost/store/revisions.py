"""Revisions: immutable versions of apps. Only their state and its reason change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from roost.core.model import DeployPlan, Event, Revision, RevisionState
from roost.store.columns import any_of, dump, load
from roost.store.driver import Driver, Row, Value, Writing
from roost.store.events import SERVER, note
from roost.wire.spec import AppSpec


class Revisions:
    """Each change of state appends an event to `revision:<id>`, whose kind is the new state."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def create(self, revision: Revision, *, actor: str = SERVER) -> None:
        """Raises `Violation` if there is one of this id."""

        def write(tx: Writing) -> None:
            tx.run(
                """
                INSERT INTO revisions (id, account, environment, name, state, reason, spec, bundle, working_dir, runtime, env_key, openapi,
                    message, annotations, created_by, created_ms, plan)
                VALUES (:id, :account, :environment, :name, :state, :reason, :spec, :bundle, :working_dir, :runtime, :env_key, :openapi,
                    :message, :annotations, :created_by, :created_ms, :plan)
                """,
                _columns(revision),
            )
            _tell(tx, _columns(revision), revision.created_ms, actor)

        await self._driver.write(write, "revisions.create")

    async def get(self, id: str) -> Revision | None:
        row = await self._driver.read(lambda tx: tx.row("SELECT * FROM revisions WHERE id = :id", {"id": id}))
        return _revision(row) if row else None

    async def list(self, owner: str, name: str) -> tuple[Revision, ...]:
        """Newest first."""
        rows = await self._driver.read(
            lambda tx: tx.rows(
                "SELECT * FROM revisions WHERE account = :owner AND name = :name ORDER BY created_ms DESC, id",
                {"owner": owner, "name": name},
            )
        )
        return tuple(_revision(row) for row in rows)

    async def in_state(self, *states: RevisionState) -> tuple[Revision, ...]:
        """Those in one of these states, oldest first: what a server that starts finds half-done."""
        args: dict[str, Value] = {}
        listed = any_of(states, args)
        rows = await self._driver.read(lambda tx: tx.rows(f"SELECT * FROM revisions WHERE state IN {listed} ORDER BY created_ms, id", args))
        return tuple(_revision(row) for row in rows)

    async def set_state(
        self, id: str, from_states: Iterable[RevisionState], to_state: RevisionState, reason: str, now_ms: int, *, actor: str = SERVER
    ) -> bool:
        """False if it is in none of `from_states`: somebody else decided first."""
        args: dict[str, Value] = {"id": id, "to": to_state.value, "reason": reason}
        listed = any_of(from_states, args)

        def write(tx: Writing) -> bool:
            row = tx.row(f"UPDATE revisions SET state = :to, reason = :reason WHERE id = :id AND state IN {listed} RETURNING *", args)
            if row is None:
                return False
            _tell(tx, row, now_ms, actor)
            return True

        return await self._driver.write(write, "revisions.set_state")

    async def delete(self, id: str, now_ms: int, *, reason: str = "", actor: str = SERVER) -> bool:
        """Forget it, with its runners that have ended. False if it is under way, something needs it, or it is gone."""

        def write(tx: Writing) -> bool:
            row = tx.row(
                """
                SELECT * FROM revisions WHERE id = :id AND state IN ('DEPLOYED', 'FAILED')
                    AND id NOT IN (SELECT revision_id FROM apps WHERE revision_id IS NOT NULL)
                    AND id NOT IN (SELECT revision_id FROM runners WHERE state <> 'TERMINATED')
                    AND id NOT IN (SELECT revision_id FROM releases WHERE state = 'UNDER_WAY')
                    AND id NOT IN (SELECT previous FROM releases WHERE state = 'UNDER_WAY')
                """,
                {"id": id},
            )
            if row is None:
                return False
            tx.run("DELETE FROM runners WHERE revision_id = :id", {"id": id})
            tx.run("DELETE FROM revisions WHERE id = :id", {"id": id})
            _tell(tx, row | {"state": "deleted", "reason": reason}, now_ms, actor)
            return True

        return await self._driver.write(write, "revisions.delete")


def _tell(tx: Writing, row: Row, now_ms: int, actor: str) -> None:
    data = {"application": f"{row['account']}/{row['name']}"}
    note(tx, row["account"], row["environment"], Event(0, now_ms, f"revision:{row['id']}", row["state"], row["reason"], actor, data))


def _columns(revision: Revision) -> dict[str, Value]:
    return {
        "id": revision.id,
        "account": revision.owner,
        "environment": revision.environment,
        "name": revision.name,
        "state": revision.state.value,
        "reason": revision.reason,
        "spec": dump(revision.spec.to_json()),
        "bundle": revision.bundle,
        "working_dir": revision.working_dir,
        "runtime": revision.runtime,
        "env_key": revision.env_key,
        "openapi": dump(revision.openapi),
        "message": revision.message,
        "annotations": dump(revision.annotations),
        "created_by": revision.created_by,
        "created_ms": revision.created_ms,
        "plan": dump(dataclasses.asdict(revision.plan)),
    }


def _revision(row: Row) -> Revision:
    return Revision(
        id=row["id"],
        owner=row["account"],
        name=row["name"],
        environment=row["environment"],
        state=RevisionState(row["state"]),
        reason=row["reason"],
        spec=AppSpec.from_json(load(row["spec"])),
        bundle=row["bundle"],
        working_dir=row["working_dir"],
        runtime=row["runtime"],
        env_key=row["env_key"],
        openapi=load(row["openapi"]),
        message=row["message"],
        annotations=tuple((str(key), str(value)) for key, value in load(row["annotations"])),
        created_by=row["created_by"],
        created_ms=row["created_ms"],
        plan=DeployPlan(**load(row["plan"])),
    )
