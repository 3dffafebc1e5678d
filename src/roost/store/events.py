"""The timeline: what changed, when, why, by whom. Written in the transaction of the change itself, so the two never disagree."""

from __future__ import annotations

from roost.core.model import Event
from roost.store.columns import dump, load
from roost.store.driver import Driver, Reading, Row, Writing

SERVER = "server"
"""The actor when no caller asked for the change."""
_REQUEST = "request:"


class Events:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def append(self, event: Event, *, owner: str = "", environment: str = "") -> int:
        """Add one line and answer its `seq` (that of `event` is ignored)."""
        return await self._driver.write(lambda tx: note(tx, owner, environment, event), "events.append")

    async def list(self, subject: str | None = None, *, since_ms: int = 0, limit: int = 100) -> tuple[Event, ...]:
        """The newest `limit` events at or after `since_ms`, of one subject or of all; oldest first.

        All means: without those of queued requests (`request:<id>`), which are kept apart and go with their request.
        """
        if subject is not None and subject.startswith(_REQUEST):
            return await self._of_request(subject, since_ms, limit)

        def read(tx: Reading) -> list[Row]:
            where = "at_ms >= :since" + (" AND subject = :subject" if subject is not None else "")
            args = {"since": since_ms, "limit": limit} | ({"subject": subject} if subject is not None else {})
            return tx.rows(f"SELECT * FROM events WHERE {where} ORDER BY seq DESC LIMIT :limit", args)

        rows = await self._driver.read(read)
        return tuple(_event(row) for row in reversed(rows))

    async def _of_request(self, subject: str, since_ms: int, limit: int) -> tuple[Event, ...]:
        sql = """
            SELECT version, at_ms, kind, reason, actor, attempt FROM request_events
            WHERE request = (SELECT seq FROM requests WHERE id = ?) AND at_ms >= ? ORDER BY version DESC LIMIT ?
        """
        args = (subject.removeprefix(_REQUEST), since_ms, limit)
        rows = await self._driver.read(lambda tx: tx.records(sql, args))
        return tuple(
            Event(seq, at, subject, kind, reason, by, {"attempt": attempt}) for seq, at, kind, reason, by, attempt in reversed(rows)
        )

    async def delete_before(self, ms: int) -> int:
        """Forget what is older; answers how many lines."""
        return await self._driver.write(lambda tx: tx.run("DELETE FROM events WHERE at_ms < :ms", {"ms": ms}), "events.delete_before")


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
