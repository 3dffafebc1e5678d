"""Runners: one row for each process, from the decision to start it until well after its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from roost.core.model import Event, Runner, RunnerState
from roost.core.stages import ColdStart
from roost.store.columns import any_of, dump, load
from roost.store.driver import Driver, Row, Value, Writing
from roost.store.events import SERVER, note

CHANGES = frozenset({"pid", "served", "ready_ms", "idle_since_ms", "ended_ms"})
"""What `move` and `update` may change besides the state."""


class Runners:
    """Each change of state appends an event to `runner:<id>`, whose kind is the new state. *Living* means: not TERMINATED."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def create(self, runner: Runner, *, actor: str = SERVER) -> None:
        """Raises `Violation` if its revision does not exist or there is a runner of this id."""

        def write(tx: Writing) -> None:
            row = tx.row(
                """
                INSERT INTO runners (id, account, environment, name, revision_id, state, pid, machine_type, token_hash, served,
                    created_ms, ready_ms, idle_since_ms, ended_ms, reason, gpus, cold_start)
                VALUES (:id, :account, coalesce((SELECT environment FROM revisions WHERE id = :revision_id), ''), :name, :revision_id, :state,
                    :pid, :machine_type, :token_hash, :served, :created_ms, :ready_ms, :idle_since_ms, :ended_ms, :reason, :gpus, :cold_start)
                RETURNING *
                """,
                _columns(runner),
            )
            assert row is not None, "INSERT ... RETURNING answers the row"
            _tell(tx, row, runner.created_ms, actor)

        await self._driver.write(write, "runners.create")

    async def get(self, id: str) -> Runner | None:
        row = await self._driver.read(lambda tx: tx.row("SELECT * FROM runners WHERE id = :id", {"id": id}))
        return _runner(row) if row else None

    async def living(self) -> tuple[Runner, ...]:
        """All of the server's, oldest first."""
        return await self._select("state <> 'TERMINATED'", {})

    async def of_app(self, owner: str, name: str) -> tuple[Runner, ...]:
        """The living ones of an application, oldest first."""
        return await self._select("account = :owner AND name = :name AND state <> 'TERMINATED'", {"owner": owner, "name": name})

    async def of_revision(self, revision_id: str) -> tuple[Runner, ...]:
        """The living ones of a revision, oldest first."""
        return await self._select("revision_id = :revision_id AND state <> 'TERMINATED'", {"revision_id": revision_id})

    async def never_ready(self, owner: str, name: str, limit: int = 10) -> tuple[Runner, ...]:
        """Runners of an application that ended before they were ready, the newest first."""
        where = "account = :owner AND name = :name AND state = 'TERMINATED' AND ready_ms IS NULL"
        args: dict[str, Value] = {"owner": owner, "name": name, "limit": limit}
        sql = f"SELECT * FROM runners WHERE {where} ORDER BY ended_ms DESC, id LIMIT :limit"
        rows = await self._driver.read(lambda tx: tx.rows(sql, args))
        return tuple(_runner(row) for row in rows)

    async def failed_starts(self, revision_id: str) -> tuple[Runner, ...]:
        """Runners of this revision that ended before they were ready."""
        return await self._select("revision_id = :id AND state = 'TERMINATED' AND ready_ms IS NULL", {"id": revision_id})

    async def ended_since(self, ms: int) -> tuple[Runner, ...]:
        """Those that ended at or after `ms`, oldest first."""
        return await self._select("ended_ms >= :ms", {"ms": ms})

    async def counts(self) -> Mapping[str, Mapping[RunnerState, int]]:
        """How many runners are living, by application ("owner/name") and state; what has none is left out."""
        rows = await self._driver.read(
            lambda tx: tx.rows(
                "SELECT account, name, state, count(*) AS runners FROM runners WHERE state <> 'TERMINATED' GROUP BY account, name, state"
            )
        )
        found: dict[str, dict[RunnerState, int]] = {}
        for row in rows:
            found.setdefault(f"{row['account']}/{row['name']}", {})[RunnerState(row["state"])] = row["runners"]
        return found

    async def move(
        self,
        id: str,
        from_states: Iterable[RunnerState],
        to_state: RunnerState,
        reason: str,
        now_ms: int,
        *,
        actor: str = SERVER,
        **changes: int | None,
    ) -> Runner | None:
        """Move it to `to_state` and answer it as it is then. None if it is in none of `from_states`: somebody else decided first.

        `changes` are columns of `CHANGES`. Moving to TERMINATED sets `ended_ms` to `now_ms` unless it is given.
        """
        if to_state is RunnerState.TERMINATED:
            changes.setdefault("ended_ms", now_ms)
        setters, args = _setters(changes)
        args |= {"id": id, "to": to_state.value, "reason": reason}
        listed = any_of(from_states, args)
        sql = f"UPDATE runners SET {', '.join(['state = :to', 'reason = :reason', *setters])} WHERE id = :id AND state IN {listed} RETURNING *"

        def write(tx: Writing) -> Runner | None:
            row = tx.row(sql, args)
            if row is None:
                return None
            _tell(tx, row, now_ms, actor)
            return _runner(row)

        return await self._driver.write(write, "runners.move")

    async def update(self, id: str, **changes: int | None) -> bool:
        """Change columns of `CHANGES` of a living runner, without a change of state and so without an event. False if it has ended."""
        setters, args = _setters(changes)
        sql = f"UPDATE runners SET {', '.join(setters)} WHERE id = :id AND state <> 'TERMINATED'"
        return await self._driver.write(lambda tx: tx.run(sql, args | {"id": id}), "runners.update") > 0

    async def keep_cold_start(self, id: str, start: ColdStart) -> bool:
        """What its start took. False if there is no such runner."""
        args: dict[str, Value] = {"id": id, "cold_start": _dump_start(start)}
        sql = "UPDATE runners SET cold_start = :cold_start WHERE id = :id"
        return await self._driver.write(lambda tx: tx.run(sql, args), "runners.keep_cold_start") > 0

    async def delete_ended_before(self, ms: int) -> int:
        """Forget runners that ended before `ms`; answers how many."""
        return await self._driver.write(
            lambda tx: tx.run("DELETE FROM runners WHERE state = 'TERMINATED' AND ended_ms < :ms", {"ms": ms}),
            "runners.delete_ended_before",
        )

    async def _select(self, where: str, args: dict[str, Value]) -> tuple[Runner, ...]:
        rows = await self._driver.read(lambda tx: tx.rows(f"SELECT * FROM runners WHERE {where} ORDER BY created_ms, id", args))
        return tuple(_runner(row) for row in rows)


def _setters(changes: Mapping[str, int | None]) -> tuple[list[str], dict[str, Value]]:
    if unknown := sorted(set(changes) - CHANGES):
        raise TypeError(f"a runner has no column {unknown[0]!r} that may be changed like this; there are {', '.join(sorted(CHANGES))}")
    return [f"{column} = :{column}" for column in changes], dict(changes)


def _tell(tx: Writing, row: Row, now_ms: int, actor: str) -> None:
    data = {"application": f"{row['account']}/{row['name']}", "pid": row["pid"]}
    note(tx, row["account"], row["environment"], Event(0, now_ms, f"runner:{row['id']}", row["state"], row["reason"], actor, data))


def _columns(runner: Runner) -> dict[str, Value]:
    return {
        "id": runner.id,
        "account": runner.owner,
        "name": runner.name,
        "revision_id": runner.revision_id,
        "state": runner.state.value,
        "pid": runner.pid,
        "machine_type": runner.machine_type,
        "token_hash": runner.token_hash,
        "served": runner.served,
        "created_ms": runner.created_ms,
        "ready_ms": runner.ready_ms,
        "idle_since_ms": runner.idle_since_ms,
        "ended_ms": runner.ended_ms,
        "reason": runner.reason,
        "gpus": dump(list(runner.gpus)),
        "cold_start": _dump_start(runner.cold_start),
    }


def _dump_start(start: ColdStart | None) -> str:
    return dump({"stages": start.stages, "why_spawned": start.why_spawned}) if start is not None else ""


def _load_start(text: str) -> ColdStart | None:
    if not text:
        return None
    kept = load(text)
    return ColdStart(tuple((str(name), float(ms)) for name, ms in kept["stages"]), str(kept["why_spawned"]))


def _runner(row: Row) -> Runner:
    return Runner(
        id=row["id"],
        owner=row["account"],
        name=row["name"],
        revision_id=row["revision_id"],
        state=RunnerState(row["state"]),
        pid=row["pid"],
        machine_type=row["machine_type"],
        token_hash=row["token_hash"],
        served=row["served"],
        created_ms=row["created_ms"],
        ready_ms=row["ready_ms"],
        idle_since_ms=row["idle_since_ms"],
        ended_ms=row["ended_ms"],
        reason=row["reason"],
        gpus=tuple(load(row["gpus"])),
        cold_start=_load_start(row["cold_start"]),
    )
