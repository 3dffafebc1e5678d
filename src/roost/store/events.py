"""The timeline: what changed, when, why, by whom. Written in the transaction of the change itself, so the two never disagree."""

from __future__ import annotations

from roost.core.model import Event
from roost.store.columns import dump, load
from roost.store.driver import Driver, Reading, Row, Writing

SERVER = "server"
"""The actor when no caller asked for the change."""


class Events:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def append(self, event: Event, *, owner: str = "", environment: str = "") -> int:
        """Add one line and answer its `seq` (that of `event` is ignored)."""
        return await self._driver.write(lambda tx: note(tx, owner, environment, event))

    async def list(self, subject: str | None = None, *, since_ms: int = 0, limit: int = 100) -> tuple[Event, ...]:
        """The newest `limit` events at or after `since_ms`, of one subject or of all; oldest first."""

        def read(tx: Reading) -> list[Row]:
            where = "at_ms >= :since" + (" AND subject = :subject" if subject is not None else "")
            args = {"since": since_ms, "limit": limit} | ({"subject": subject} if subject is not None else {})
            return tx.rows(f"SELECT * FROM events WHERE {where} ORDER BY seq DESC LIMIT :limit", args)

        rows = await self._driver.read(read)
        return tuple(_event(row) for row in reversed(rows))

    async def delete_before(self, ms: int) -> int:
        """Forget what is older; answers how many lines."""
        return await self._driver.write(lambda tx: tx.run("DELETE FROM events WHERE at_ms < :ms", {"ms": ms}))


def note(tx: Writing, owner: str, environment: str, event: Event) -> int:
    """Add one line inside the transaction of the change that it tells of."""
    row = tx.row(
        """
        INSERT INTO events (account, environment, at_ms, subject, kind, reason, actor, data)
        VALUES (:account, :environment, :at, :subject, :kind, :reason, :actor, :data)
        RETURNING seq
        """,
        {
            "account": owner,
            "environment": environment,
            "at": event.at_ms,
            "subject": event.subject,
            "kind": event.kind,
            "reason": event.reason,
            "actor": event.actor,
            "data": dump(event.data),
        },
    )
    return int(row["seq"]) if row else 0


def _event(row: Row) -> Event:
    return Event(
        seq=row["seq"],
        at_ms=row["at_ms"],
        subject=row["subject"],
        kind=row["kind"],
        reason=row["reason"],
        actor=row["actor"],
        data=load(row["data"]),
    )
