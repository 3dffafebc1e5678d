"""Reading requests of the durable queue: as they are now, with what was sent, what was answered and how each attempt went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final as Constant

from roost.core.requests import Attempt, AttemptState, Input, Output, Request, RequestState
from roost.store.driver import Driver, Reading, T, Value
from roost.store.errors import StoreError
from roost.store.request_rows import (
    ATTEMPT_COLUMNS,
    CHANGED,
    COLUMNS,
    INPUT_COLUMNS,
    LOG_FROM,
    OUTPUT_COLUMNS,
    RUNNER_ID,
    Damaged,
    Record,
    attempts_of,
    input_of,
    output_of,
    request,
)

WITH_KEY: Constant = f"SELECT {COLUMNS}, fingerprint FROM requests WHERE caller = ? AND account = ? AND name = ? AND idempotency_key = ?"


class DamagedContent(StoreError):
    """What was kept of a body cannot be read any more."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, status=500)


class RequestReads:
    """What `Requests` answers without changing anything."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def get(self, id: str) -> Request | None:
        row = await self._driver.read(lambda tx: tx.record(f"SELECT {COLUMNS} FROM requests WHERE id = ?", (id,)))
        return request(row) if row else None

    async def with_key(self, caller: str, owner: str, name: str, key: str) -> Request | None:
        """What this caller has submitted to this app under this idempotency key."""
        row = await self._driver.read(lambda tx: tx.record(WITH_KEY, (caller, owner, name, key)))
        return request(row) if row else None

    async def list(
        self,
        owner: str | None = None,
        name: str | None = None,
        caller: str | None = None,
        state: RequestState | None = None,
        limit: int = 100,
        before_seq: int | None = None,
    ) -> tuple[Request, ...]:
        """The newest first, below `before_seq`."""
        wanted: dict[str, Value] = {"account": owner, "name": name, "caller": caller, "state": state.value if state else None}
        args = {column: value for column, value in wanted.items() if value is not None}
        tests = [f"{column} = :{column}" for column in args] + (["seq < :before"] if before_seq is not None else [])
        if owner is not None and name is None and caller is None:
            # With its plus: from the newest on until there are enough, in place of sorting all that this account has by the index of its apps.
            tests[0] = f"+{tests[0]}"
        if state not in (None, RequestState.COMPLETED):
            tests.append("state <> 'COMPLETED'")  # SQLite does not see by itself that the index of the living has them all
        sql = f"SELECT {COLUMNS} FROM requests WHERE {' AND '.join(tests) or '1'} ORDER BY seq DESC LIMIT :limit"
        args |= {"limit": limit} | ({} if before_seq is None else {"before": before_seq})
        return tuple(request(row) for row in await self._driver.read(lambda tx: tx.records(sql, args)))

    async def counts(self) -> Mapping[tuple[str, RequestState], int]:
        """How many are not COMPLETED, by application ("owner/name") and state; what has none is left out."""
        sql = "SELECT account, name, state, count(*) FROM requests WHERE state <> 'COMPLETED' GROUP BY account, name, state"
        rows = await self._driver.read(lambda tx: tx.records(sql))
        return {(f"{row[0]}/{row[1]}", RequestState(row[2])): row[3] for row in rows}

    async def input(self, id: str) -> Input | None:
        """What its caller sent. Raises `DamagedContent`."""
        row = await self._of("inputs", INPUT_COLUMNS, id)
        return _readable(input_of, row, id) if row else None

    async def output(self, id: str) -> Output | None:
        """The response that is its result; None when its result is an error of ours, or it has none yet. Raises `DamagedContent`."""
        row = await self._of("outputs", OUTPUT_COLUMNS, id)
        return _readable(output_of, row, id) if row else None

    async def attempts(self, id: str) -> tuple[Attempt, ...]:
        """All of them, the one under way last."""

        def read(tx: Reading) -> tuple[Record | None, list[Record]]:
            now = tx.record(f"SELECT {CHANGED} FROM requests WHERE id = ?", (id,))
            sql = f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE request = ? ORDER BY number"
            return now, tx.records(sql, (now[0],)) if now else []

        row, ended = await self._driver.read(read)
        if row is None or row[6] != RequestState.IN_PROGRESS.value:
            return attempts_of(id, ended)
        under_way = Attempt(id, row[8], row[20], row[RUNNER_ID], AttemptState.RUNNING, row[23], None, "", "", row[LOG_FROM])
        return (*attempts_of(id, ended), under_way)

    async def _of(self, table: str, columns: str, id: str) -> Record | None:
        sql = f"SELECT {columns} FROM {table} WHERE request = (SELECT seq FROM requests WHERE id = ?)"
        return await self._driver.read(lambda tx: tx.record(sql, (id,)))

    async def payload_files(self) -> set[str]:
        """Names of all files of data/payloads that a row needs."""
        sql = "SELECT file FROM inputs WHERE file <> '' UNION SELECT file FROM outputs WHERE file <> ''"
        return {row[0] for row in await self._driver.read(lambda tx: tx.records(sql))}


def _readable(read: Callable[[Record], T], row: Record, id: str) -> T:
    try:
        return read(row)
    except Damaged as error:
        raise DamagedContent(f"What the server kept of request {id} is damaged: {error}.") from error
