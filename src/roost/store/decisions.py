"""Decisions of the engines: stored when they change, counted while they stay the same. The last one's memory is what the next begins with."""

from __future__ import annotations

from typing import Any

from roost.core.model import DecisionRecord
from roost.store.columns import dump, load
from roost.store.driver import Driver, Row, Value, Writing


class Decisions:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def record(
        self, application: str, runners: int, reason: str, memory: dict[str, Any], now_ms: int, *, kind: str = "scaling"
    ) -> bool:
        """Note a decision for `application` ("owner/name"). True if it is another one than the last: other runners or another reason.

        The memory is that of the latest record in either case. Each call is a write: record what was decided, not that one looked.
        """
        owner, _, name = application.partition("/")
        args: dict[str, Value] = {
            "application": application,
            "kind": kind,
            "runners": runners,
            "reason": reason,
            "memory": dump(memory),
            "now": now_ms,
        }

        def write(tx: Writing) -> bool:
            last = tx.row(
                "SELECT seq, runners, reason FROM decisions WHERE application = :application AND kind = :kind ORDER BY seq DESC LIMIT 1",
                {"application": application, "kind": kind},
            )
            if last is not None and (last["runners"], last["reason"]) == (runners, reason):
                tx.run(
                    "UPDATE decisions SET times = times + 1, last_ms = :now, memory = :memory WHERE seq = :seq",
                    {"now": now_ms, "memory": args["memory"], "seq": last["seq"]},
                )
                return False
            tx.run(
                """
                INSERT INTO decisions (account, environment, application, kind, runners, reason, memory, first_ms, last_ms, times)
                VALUES (:owner, coalesce((SELECT environment FROM apps WHERE account = :owner AND name = :name), ''),
                    :application, :kind, :runners, :reason, :memory, :now, :now, 1)
                """,
                args | {"owner": owner, "name": name},
            )
            return True

        return await self._driver.write(write, "decisions.record")

    async def latest(self, application: str, *, kind: str = "scaling") -> DecisionRecord | None:
        found = await self.list(application, kind=kind, limit=1)
        return found[0] if found else None

    async def list(self, application: str, *, kind: str = "scaling", limit: int = 100) -> tuple[DecisionRecord, ...]:
        """Newest first."""
        rows = await self._driver.read(
            lambda tx: tx.rows(
                "SELECT * FROM decisions WHERE application = :application AND kind = :kind ORDER BY seq DESC LIMIT :limit",
                {"application": application, "kind": kind, "limit": limit},
            )
        )
        return tuple(_decision(row) for row in rows)

    async def delete_before(self, ms: int) -> int:
        """Forget what was last decided before `ms`, except the latest of each application; answers how many."""
        return await self._driver.write(
            lambda tx: tx.run(
                "DELETE FROM decisions WHERE last_ms < :ms AND seq NOT IN (SELECT max(seq) FROM decisions GROUP BY application, kind)",
                {"ms": ms},
            ),
            "decisions.delete_before",
        )


def _decision(row: Row) -> DecisionRecord:
    return DecisionRecord(
        seq=row["seq"],
        application=row["application"],
        kind=row["kind"],
        runners=row["runners"],
        reason=row["reason"],
        memory=load(row["memory"]),
        first_ms=row["first_ms"],
        last_ms=row["last_ms"],
        times=row["times"],
    )
