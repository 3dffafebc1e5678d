"""Requests of the durable queue: the truth about each from its submit to the end of its retention (docs/internals/durable-queue.md).

    claimed = await store.requests.claim(request.id, request.attempt, Claim(...), now_ms)
    if claimed is None:
        return  # somebody else decided first

An answered verb is on disk. Everything that happens to a request that is IN_PROGRESS is guarded by the number of its attempt, so that an older
attempt changes nothing. Few statements a verb, each by place: several thousand requests a second pass here, through one writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final as Constant

from roost.core.lifecycle import RequestEvent
from roost.core.requests import (
    Again,
    AttemptState,
    Claim,
    Claimed,
    Deleted,
    Final,
    Input,
    NewRequest,
    OtherBody,
    Output,
    Request,
    SameKey,
    Submitted,
)
from roost.store.columns import dump
from roost.store.driver import Reading, Value, Writing
from roost.store.events import SERVER
from roost.store.request_reads import WITH_KEY, RequestReads
from roost.store.request_rows import (
    ATTEMPT_COLUMNS,
    CHANGED,
    COLUMNS,
    INPUT_COLUMNS,
    LOG_FROM,
    OUTPUT_COLUMNS,
    RUNNER_ID,
    VERSION,
    WEBHOOK,
    Damaged,
    Record,
    accepted,
    begun,
    content_args,
    damaged_text,
    dump_counts,
    dump_headers,
    dump_rules,
    input_of,
    load_counts,
    request,
    sound_request,
)
from roost.store.webhook_rows import owe

FLUSHED_TOGETHER: Constant = 200
"""So many requests are flushed in one work: others that write meanwhile wait no longer than that takes."""
DELETED_BYTES: Constant = 8 * 1024 * 1024
"""A work of `delete_expired` ends early at so many bytes of bodies: a large one costs as much as hundreds of small ones."""
DAMAGED_KEPT_MS: Constant = 30 * 24 * 3_600_000
DAMAGED_TOLD_MS: Constant = 3_600_000
"""How long the webhook of one that ended so is tried."""

_INSERT: Constant = """
    INSERT INTO requests (id, account, environment, name, caller, state, priority, attempt, version, deaths, used, created_ms, due_ms, deadline_ms,
        hint, rules, store_io, endpoint, method, cancel_asked, gateway_request_id, log_from, error, error_type, timeout_type, retry_of,
        idempotency_key, fingerprint, webhook)
    VALUES (?, ?, ?, ?, ?, 'IN_QUEUE', ?, 0, 1, 0, '', ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, '', '', '', ?, ?, ?, ?)
    RETURNING seq
"""
_INSERT_CLAIMED: Constant = """
    INSERT INTO requests (id, account, environment, name, caller, state, priority, attempt, version, deaths, used, created_ms, due_ms, deadline_ms,
        hint, rules, store_io, endpoint, method, cancel_asked, gateway_request_id, retry_of, idempotency_key, fingerprint, webhook,
        error, error_type, timeout_type, runner_id, lease_until_ms, log_from, started_ms)
    VALUES (?, ?, ?, ?, ?, 'IN_PROGRESS', ?, 1, 2, 0, '', ?, NULL, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, '', '', '', ?, ?, ?, ?)
    RETURNING seq
"""
_INSERT_INPUT: Constant = f"INSERT INTO inputs (request, account, environment, {INPUT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_OUTPUT: Constant = f"INSERT INTO outputs (request, account, environment, {OUTPUT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_ATTEMPT: Constant = f"""
    INSERT INTO attempts (request, account, environment, {ATTEMPT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_EVENT: Constant = """
    INSERT INTO request_events (request, version, account, environment, at_ms, kind, reason, actor, attempt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_RETURNING: Constant = f"RETURNING {CHANGED}"
"""What `_tell` and `_end_attempt` take."""
_CLAIM: Constant = f"""
    UPDATE requests SET state = 'IN_PROGRESS', attempt = attempt + 1, version = version + 1, gateway_request_id = ?, runner_id = ?,
        lease_until_ms = ?, log_from = ?, started_ms = ?, due_ms = NULL
    WHERE id = ? AND attempt = ? AND state = 'IN_QUEUE' AND cancel_asked = 0
    {_RETURNING}
"""
_COMPLETE: Constant = """
    UPDATE requests SET state = 'COMPLETED', version = version + 1, due_ms = NULL, finished_ms = ?, expires_ms = ?, status = ?, error = ?,
        error_type = ?, timeout_type = ?, inference_ms = ?
"""
_FINISH: Constant = f"{_COMPLETE} WHERE id = ? AND attempt = ? AND state = 'IN_PROGRESS' {_RETURNING}"
_END_WAITING: Constant = f"{_COMPLETE} WHERE id = ? AND state = 'IN_QUEUE' {_RETURNING}"
_REQUEUE: Constant = f"""
    UPDATE requests SET state = 'IN_QUEUE', version = version + 1, due_ms = ?, deaths = deaths + ?, used = ?
    WHERE id = ? AND attempt = ? AND state = 'IN_PROGRESS'
    {_RETURNING}
"""
_ASK_CANCEL: Constant = f"""
    UPDATE requests SET cancel_asked = 1, version = version + 1 WHERE id = ? AND state = 'IN_PROGRESS' AND cancel_asked = 0 {_RETURNING}
"""
_END_DAMAGED: Constant = f"""
    {_COMPLETE}, priority = 0, used = '', rules = '' WHERE seq = ? AND state <> 'COMPLETED' {_RETURNING}
"""


class Requests(RequestReads):
    """Each change of state is one row of the timeline of `request:<id>` (`Events.list`), whose kind is the new state.

    Whatever ends a request that has a webhook puts that into the outbox, in the same transaction.
    """

    # --- the verbs

    async def submit(self, new: NewRequest, now_ms: int) -> Submitted | SameKey | OtherBody:
        """Accept it. When this answers `Submitted` the request is on disk, and has the place that it keeps.

        An idempotency key holds among the requests of one caller to one app, as long as the first of them is kept. Raises `Violation` if there
        is a request of this id.
        """
        asked, sent = new.request, new.input
        if not asked.gateway_request_id:
            asked = asked._replace(gateway_request_id=asked.id)
        row: tuple[Value, ...] = (
            asked.id,
            asked.owner,
            asked.environment,
            asked.name,
            asked.caller,
            asked.priority.value,
            asked.created_ms,
            asked.due_ms,
            asked.deadline_ms,
            asked.hint,
            dump_rules(asked.rules),
            int(asked.store_io),
            asked.endpoint,
            asked.method,
            asked.gateway_request_id,
            asked.retry_of,
            new.idempotency_key or None,
            new.fingerprint,
            asked.webhook,
        )
        kept, reason = _input_args(asked, sent), _why_new(asked)

        def write(tx: Writing) -> Submitted | SameKey | OtherBody:
            if new.idempotency_key and (known := _with_key(tx, new)):
                return known
            made = tx.record(_INSERT, row)
            assert made is not None, "INSERT ... RETURNING answers the row"
            seq = int(made[0])
            tx.run(_INSERT_INPUT, (seq, *kept))
            tx.run(_INSERT_EVENT, (seq, 1, asked.owner, asked.environment, now_ms, "IN_QUEUE", reason, asked.caller, 0))
            return Submitted(accepted(asked, seq))

        return await self._driver.write(write, "requests.submit", quick=True)

    async def submit_and_claim(self, new: NewRequest, claim: Claim, now_ms: int) -> Claimed | SameKey | OtherBody:
        """Accept it and begin its first attempt, in one write: for a request that waits for nobody. Otherwise as `submit`."""
        asked, sent = new.request, new.input
        row: tuple[Value, ...] = (
            *(asked.id, asked.owner, asked.environment, asked.name, asked.caller, asked.priority.value),
            *(asked.created_ms, asked.deadline_ms, asked.hint, dump_rules(asked.rules), int(asked.store_io)),
            *(asked.endpoint, asked.method, claim.gateway_request_id, asked.retry_of, new.idempotency_key or None, new.fingerprint),
            *(asked.webhook, claim.runner_id, claim.lease_until_ms, claim.log_from, now_ms),
        )
        kept, reason = _input_args(asked, sent), _why_new(asked)

        def write(tx: Writing) -> Claimed | SameKey | OtherBody:
            if new.idempotency_key and (known := _with_key(tx, new)):
                return known
            made = tx.record(_INSERT_CLAIMED, row)
            assert made is not None, "INSERT ... RETURNING answers the row"
            seq = int(made[0])
            tx.run(_INSERT_INPUT, (seq, *kept))
            tx.run(_INSERT_EVENT, (seq, 1, asked.owner, asked.environment, now_ms, "IN_QUEUE", reason, asked.caller, 0))
            why = f"runner {claim.runner_id}"
            tx.run(_INSERT_EVENT, (seq, 2, asked.owner, asked.environment, now_ms, "IN_PROGRESS", why, SERVER, 1))
            return Claimed(begun(asked, seq, claim, now_ms), sent)

        return await self._driver.write(write, "requests.submit_and_claim", quick=True)

    async def claim(self, id: str, attempt: int, claim: Claim, now_ms: int) -> Claimed | None:
        """Begin attempt `attempt + 1`. None if it does not wait as attempt `attempt` any more, if its cancellation was asked for, or if what was
        kept of it turns out to be damaged; then it has ended.
        """
        args = (claim.gateway_request_id, claim.runner_id, claim.lease_until_ms, claim.log_from, now_ms, id, attempt)

        def write(tx: Writing) -> Claimed | None:
            row = tx.record(_CLAIM, args)
            if row is None:
                return None
            try:
                claimed = Claimed(
                    sound_request(row), input_of(tx.record(f"SELECT {INPUT_COLUMNS} FROM inputs WHERE request = ?", (row[0],)))
                )
            except Damaged as error:
                _end_damaged(tx, row, str(error), now_ms)
                return None
            _tell(tx, row, now_ms, f"runner {claim.runner_id}")
            return claimed

        return await self._driver.write(write, "requests.claim", quick=True)

    async def finish(self, id: str, attempt: int, final: Final, now_ms: int) -> Request | None:
        """Take this attempt's end as the request's. None if another one did, or the request went on to a later attempt."""
        args = (*_final_args(final, now_ms), id, attempt)
        output = _output_args(final.output)

        def write(tx: Writing) -> Request | None:
            row = tx.record(_FINISH, args)
            if row is None:
                return None
            if output:
                tx.run(_INSERT_OUTPUT, (row[0], row[2], row[4], *output))
            _end_attempt(tx, row, final.attempt_state, final.outcome, final.condition, final.log_to, now_ms)
            _tell(tx, row, now_ms, final.outcome or final.error)
            if row[WEBHOOK]:
                owe(tx, row, now_ms, final.webhook_until_ms)
            return request(row)

        return await self._driver.write(write, "requests.finish", quick=True)

    async def requeue(self, id: str, attempt: int, again: Again, now_ms: int) -> Request | None:
        """Put it back to its place, to be tried again at `again.due_ms`. None if this attempt is not under way any more."""

        def write(tx: Writing) -> Request | None:
            before = tx.record("SELECT used FROM requests WHERE id = ? AND attempt = ? AND state = 'IN_PROGRESS'", (id, attempt))
            if before is None:
                return None
            used = _spend(before[0], again.condition) if again.counted else before[0]
            row = tx.record(_REQUEUE, (again.due_ms, int(again.death), used, id, attempt))
            assert row is not None, "nothing came between two statements of one transaction"
            _end_attempt(tx, row, again.attempt_state, again.outcome, again.condition, again.log_to, now_ms)
            return _sound(tx, row, now_ms, again.outcome)

        return await self._driver.write(write, "requests.requeue", quick=True)

    async def end_waiting(self, id: str, final: Final, now_ms: int, event: RequestEvent) -> Request | None:
        """End a request that waits: CANCELLED or EXPIRED. None if it does not wait (any more)."""
        args = (*_final_args(final, now_ms), id)

        def write(tx: Writing) -> Request | None:
            row = tx.record(_END_WAITING, args)
            return _ended(tx, row, final, now_ms, event.value) if row else None

        return await self._driver.write(write, "requests.end_waiting", quick=True)

    async def ask_cancel(self, id: str, now_ms: int) -> Request | None:
        """Note that its cancellation is wanted, so that no further attempt begins. None if it is not IN_PROGRESS."""

        def write(tx: Writing) -> Request | None:
            row = tx.record(_ASK_CANCEL, (id,))
            if row is None:  # it is not under way, or was asked before
                row = tx.record(f"SELECT {COLUMNS} FROM requests WHERE id = ? AND state = 'IN_PROGRESS'", (id,))
                return request(row) if row else None
            _tell(tx, row, now_ms, "its cancellation was asked for", kind="CANCELLATION_REQUESTED")
            return request(row)

        return await self._driver.write(write, "requests.ask_cancel", quick=True)

    async def flush(self, owner: str, name: str, caller: str | None, final: Final, now_ms: int) -> tuple[Request, ...]:
        """End all that wait for this app, or those of one caller. Requests that are submitted meanwhile stay.

        Not one transaction but many: when it fails in the middle, those that were ended stay so.
        """
        sql = """
            SELECT id FROM requests INDEXED BY requests_living
            WHERE state = 'IN_QUEUE' AND state <> 'COMPLETED' AND account = :owner AND name = :name AND (:caller IS NULL OR caller = :caller) ORDER BY seq
        """
        args: dict[str, Value] = {"owner": owner, "name": name, "caller": caller}
        waiting = [row[0] for row in await self._driver.read(lambda tx: tx.records(sql, args))]
        ended: list[Request] = []
        for at in range(0, len(waiting), FLUSHED_TOGETHER):
            ended += await self._end_all(waiting[at : at + FLUSHED_TOGETHER], final, now_ms)
        return tuple(ended)

    async def _end_all(self, ids: Sequence[str], final: Final, now_ms: int) -> list[Request]:
        args = _final_args(final, now_ms)

        def write(tx: Writing) -> list[Request]:
            rows = [row for one in ids if (row := tx.record(_END_WAITING, (*args, one)))]
            return [_ended(tx, row, final, now_ms, "flushed") for row in rows]

        return await self._driver.write(write, "requests.flush")

    async def renew(self, ids_and_attempts: Iterable[tuple[str, int]], lease_until_ms: int) -> int:
        """Give these attempts more time; answers how many of them are still under way."""
        args = [(lease_until_ms, request_id, attempt) for request_id, attempt in ids_and_attempts]
        sql = "UPDATE requests SET lease_until_ms = ? WHERE id = ? AND attempt = ? AND state = 'IN_PROGRESS'"
        return await self._driver.write(lambda tx: sum(tx.run(sql, one) for one in args), "requests.renew", quick=True)

    # --- reading

    async def living(self, now_ms: int) -> tuple[Request, ...]:
        """All that are not COMPLETED, by seq. Those that cannot be read are ended with `internal_error` and left out (faults.md F-11)."""
        # Without the word SQLite reads all rows instead, since that spares it the sorting.
        sql = f"SELECT {COLUMNS} FROM requests INDEXED BY requests_living WHERE state <> 'COMPLETED' ORDER BY seq"
        rows = await self._driver.read(lambda tx: tx.records(sql))
        found: list[Request] = []
        for row in rows:
            try:
                found.append(sound_request(row))
            except Damaged as error:
                await self._driver.write(lambda tx, row=row, why=str(error): _end_damaged(tx, row, why, now_ms), "requests.end_damaged")
        return tuple(found)

    # --- the end of their time

    async def delete_expired(self, now_ms: int, limit: int) -> Deleted:
        """Forget up to `limit` requests whose retention is over, with all that hangs on them. Fewer when their bodies are large; none is the end."""

        def write(tx: Writing) -> Deleted:
            sql = """
                SELECT seq, id, coalesce(inputs.size, 0) + coalesce(outputs.size, 0) AS size, inputs.file, outputs.file FROM requests
                LEFT JOIN inputs ON inputs.request = seq LEFT JOIN outputs ON outputs.request = seq
                WHERE state = 'COMPLETED' AND expires_ms <= ? ORDER BY expires_ms LIMIT ?
            """
            chosen = _first_of(tx.records(sql, (now_ms, limit)))
            listed = dump([row[0] for row in chosen])
            for table in ("inputs", "outputs", "attempts", "request_events", "webhooks", "webhook_tries"):
                tx.run(f"DELETE FROM {table} WHERE request IN (SELECT value FROM json_each(?))", (listed,))
            tx.run("DELETE FROM requests WHERE seq IN (SELECT value FROM json_each(?))", (listed,))
            return Deleted(tuple(row[1] for row in chosen), tuple(file for row in chosen for file in row[3:5] if file))

        return await self._driver.write(write, "requests.delete_expired")


# --- inside a transaction


def _with_key(tx: Reading, new: NewRequest) -> SameKey | OtherBody | None:
    asked = new.request
    row = tx.record(WITH_KEY, (asked.caller, asked.owner, asked.name, new.idempotency_key))
    if row is None:
        return None
    *known, fingerprint = row
    return SameKey(request(tuple(known))) if fingerprint == new.fingerprint else OtherBody(request(tuple(known)), fingerprint)


def _input_args(asked: Request, sent: Input) -> tuple[Value, ...]:
    """Values of the columns of `_INSERT_INPUT`, behind the first."""
    fields = dump_headers(sent.headers)
    return (asked.owner, asked.environment, sent.method, sent.path, sent.query, fields, *content_args(sent.content))


def _why_new(asked: Request) -> str:
    return f"a new try of {asked.retry_of}" if asked.retry_of else "submitted"


def _tell(tx: Writing, row: Record, now_ms: int, reason: str, kind: str = "") -> None:
    """Add to its timeline how this row of `_RETURNING` came about."""
    tx.run(_INSERT_EVENT, (row[0], row[VERSION], row[2], row[4], now_ms, kind or row[6], reason, SERVER, row[8]))


def _end_attempt(tx: Writing, row: Record, state: AttemptState, outcome: str, condition: str, log_to: int | None, now_ms: int) -> None:
    """Add the attempt that this row of `_RETURNING` was in to those that have ended."""
    number, gateway_request_id, runner_id, started_ms, log_from = row[8], row[20], row[RUNNER_ID], row[23], row[LOG_FROM]
    ended = (number, gateway_request_id, runner_id, state.value, started_ms, now_ms, outcome, condition, log_from, log_to)
    tx.run(_INSERT_ATTEMPT, (row[0], row[2], row[4], *ended))


def _ended(tx: Writing, row: Record, final: Final, now_ms: int, reason: str) -> Request:
    if output := _output_args(final.output):
        tx.run(_INSERT_OUTPUT, (row[0], row[2], row[4], *output))
    _tell(tx, row, now_ms, f"{reason}: {final.error}" if final.error else reason)
    if row[WEBHOOK]:
        owe(tx, row, now_ms, final.webhook_until_ms)
    return request(row)


def _sound(tx: Writing, row: Record, now_ms: int, reason: str) -> Request:
    """Its request; a row that cannot be read is ended, so that nobody waits for it for ever."""
    _tell(tx, row, now_ms, reason)
    try:
        return sound_request(row)
    except Damaged as error:
        return _end_damaged(tx, row, str(error), now_ms)


def _end_damaged(tx: Writing, row: Record, why: str, now_ms: int) -> Request:
    final = Final(500, damaged_text(why), "internal_error", expires_ms=now_ms + DAMAGED_KEPT_MS, webhook_until_ms=now_ms + DAMAGED_TOLD_MS)
    after = tx.record(_END_DAMAGED, (*_final_args(final, now_ms), row[0]))
    if after is None:
        return request(row)
    _tell(tx, after, now_ms, final.error)
    if after[WEBHOOK]:
        owe(tx, after, now_ms, final.webhook_until_ms)
    return request(after)


def _final_args(final: Final, now_ms: int) -> tuple[Value, ...]:
    """Values of the columns that `_COMPLETE` sets, in its order."""
    return (now_ms, final.expires_ms, final.status, final.error, final.error_type, final.timeout_type, final.inference_ms)


def _output_args(output: Output | None) -> tuple[Value, ...]:
    return (output.status, dump_headers(output.headers), *content_args(output.content)) if output else ()


def _spend(used: str, condition: str) -> str:
    try:
        counts = dict(load_counts(used)) if used else {}
    except Damaged:
        return used  # `_sound` ends this request in a moment
    counts[condition] = counts.get(condition, 0) + 1
    return dump_counts(tuple(counts.items()))


def _first_of(rows: Sequence[Record]) -> list[Record]:
    chosen: list[Record] = []
    size = 0
    for row in rows:
        chosen.append(row)
        size += row[2]
        if size > DELETED_BYTES:
            break
    return chosen
