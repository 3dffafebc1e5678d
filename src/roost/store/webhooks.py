"""The outbox: which webhooks are owed, and what became of each try. A row is made where its request ends (`store.requests`), and goes with it.

    for webhook in await store.webhooks.due(now_ms, each=16, most=1000):
        ...                                                                    one try
        await store.webhooks.failed(webhook, tried, due_ms, reason, now_ms)     False: somebody else wrote a try down first

What becomes of a try is guarded by the tries that there were when it began: of two servers that try the same webhook one writes it down.
"""

from __future__ import annotations

from typing import Final

from roost.core.lifecycle import WEBHOOK, WebhookEvent, sources
from roost.core.webhooks import Try, Webhook, WebhookState
from roost.store.driver import Driver, Reading, Value, Writing
from roost.store.events import SERVER
from roost.store.webhook_rows import COLUMNS, TABLES, TRY_COLUMNS, Record, webhook_of
from roost.wire.errors import RoostError

_RECEIVERS: Final = """
    WITH RECURSIVE receivers(one) AS (
        SELECT min(receiver) FROM webhooks WHERE state = 'PENDING' AND receiver > ?
        UNION ALL
        SELECT (SELECT min(receiver) FROM webhooks WHERE state = 'PENDING' AND receiver > one) FROM receivers WHERE one IS NOT NULL
    )
"""
"""Each receiver that something is owed to: one step in the index for each, however much that is."""
_DUE: Final = f"""
    SELECT {COLUMNS} FROM {TABLES}
    WHERE webhooks.state = 'PENDING' AND webhooks.receiver = ? AND webhooks.due_ms <= ? ORDER BY webhooks.due_ms LIMIT ?
"""
_NEXT: Final = f"""
    {_RECEIVERS}
    SELECT min((SELECT min(due_ms) FROM webhooks WHERE state = 'PENDING' AND receiver = one AND due_ms > ?)) FROM receivers WHERE one IS NOT NULL
"""
_OF: Final = f"SELECT {COLUMNS} FROM {TABLES} WHERE requests.id = ?"
_MARK: Final = """
    UPDATE webhooks SET state = ?, tries = tries + 1, logged = logged + 1, due_ms = coalesce(?, due_ms), ended_ms = ?, reason = ?
    WHERE request = ? AND state = 'PENDING' AND logged = ?
"""
_LOG: Final = """
    INSERT INTO webhook_tries (request, number, account, environment, at_ms, took_ms, status, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_RESEND: Final = """
    UPDATE webhooks SET state = 'PENDING', tries = 0, due_ms = ?, until_ms = ?, ended_ms = NULL, reason = ''
    WHERE request = ? AND state IN ({states})
""".format(states=", ".join(f"'{state.value}'" for state in sources(WEBHOOK, WebhookEvent.RESEND)))
_TELL: Final = """
    INSERT INTO request_events (request, version, account, environment, at_ms, kind, reason, actor, attempt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Webhooks:
    """Each end of a webhook, and each time that it is sent again, is a row of its request's timeline."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    # --- what is owed

    async def due(self, now_ms: int, each: int, most: int, after: str = "") -> tuple[Webhook, ...]:
        """The first `each` that are due to each receiver, oldest first; of receivers behind `after` in the alphabet, until there are `most`."""

        def read(tx: Reading) -> list[Record]:
            found: list[Record] = []
            for (receiver,) in tx.records(f"{_RECEIVERS} SELECT one FROM receivers WHERE one IS NOT NULL", (after,)):
                found += tx.records(_DUE, (receiver, now_ms, each))
                if len(found) >= most:
                    break
            return found

        return tuple(webhook_of(row) for row in await self._driver.read(read))

    async def next_due(self, now_ms: int) -> int | None:
        """The first moment after this one at which another is due; None if none will be."""
        row = await self._driver.read(lambda tx: tx.record(_NEXT, ("", now_ms)))
        return row[0] if row else None

    # --- what becomes of it

    async def delivered(self, webhook: Webhook, tried: Try, now_ms: int) -> bool:
        """The receiver has it. False: somebody else wrote a try down first."""
        return await self._driver.write(
            lambda tx: _end_try(tx, webhook, tried, None, tried.outcome, now_ms), "webhooks.delivered", quick=True
        )

    async def failed(self, webhook: Webhook, tried: Try, due_ms: int | None, reason: str, now_ms: int) -> bool:
        """Try again at `due_ms`; None: it is given up. False: somebody else wrote a try down first."""
        return await self._driver.write(lambda tx: _end_try(tx, webhook, tried, due_ms, reason, now_ms), "webhooks.failed", quick=True)

    async def resend(self, request_id: str, now_ms: int, until_ms: int, actor: str = SERVER) -> Webhook:
        """Make one that has ended PENDING again, with tries of its own; who calls this gives the hint `webhooks`.

        Raises RoostError: `not_found` if the request is not kept (any more) or has no webhook, `conflict` while it is PENDING or its request runs.
        """

        def write(tx: Writing) -> Webhook:
            row = tx.record(_OF, (request_id,))
            if row is None:
                raise _no_webhook(tx, request_id)
            if not tx.run(_RESEND, (now_ms, until_ms, row[0])):
                raise RoostError(
                    "conflict",
                    f"the webhook of request {request_id} is still being tried",
                    hint="`roost webhooks get` says when the next try is.",
                )
            _tell(tx, row[0], "WEBHOOK_RESENT", "sent again", actor, now_ms)
            after = tx.record(_OF, (request_id,))
            assert after is not None, "it was there a moment ago"
            return webhook_of(after)

        return await self._driver.write(write, "webhooks.resend")

    # --- reading

    async def get(self, request_id: str) -> Webhook | None:
        """None: this request has none, has not ended, or is not kept any more."""
        row = await self._driver.read(lambda tx: tx.record(_OF, (request_id,)))
        return webhook_of(row) if row else None

    async def tries(self, request_id: str) -> tuple[Try, ...]:
        """Its delivery log, the first try first."""
        sql = f"SELECT {TRY_COLUMNS} FROM webhook_tries WHERE request = (SELECT seq FROM requests WHERE id = ?) ORDER BY number"
        return tuple(Try(request_id, *row) for row in await self._driver.read(lambda tx: tx.records(sql, (request_id,))))

    async def list(
        self,
        owner: str | None = None,
        caller: str | None = None,
        state: WebhookState | None = None,
        limit: int = 100,
        before_seq: int | None = None,
        name: str | None = None,
    ) -> tuple[Webhook, ...]:
        """Those of an app (`owner`, `name`), of who submitted, in a state; that of the newest request first, below `before_seq`."""
        wanted: dict[str, Value] = {"account": owner, "caller": caller, "name": name}
        args = {column: value for column, value in wanted.items() if value is not None}
        tests = [f"webhooks.{column} = :{column}" for column in args]
        if state is not None:
            # Written out: only so does SQLite see that the index of the failed ones, or of the pending, has them all.
            tests.append(f"webhooks.state = '{state.value}'")
        if before_seq is not None:
            tests.append("webhooks.request < :before")
            args["before"] = before_seq
        sql = f"SELECT {COLUMNS} FROM {TABLES} WHERE {' AND '.join(tests) or '1'} ORDER BY webhooks.request DESC LIMIT :limit"
        rows = await self._driver.read(lambda tx: tx.records(sql, {**args, "limit": limit}))
        return tuple(webhook_of(row) for row in rows)


# --- inside a transaction


def _end_try(tx: Writing, webhook: Webhook, tried: Try, due_ms: int | None, reason: str, now_ms: int) -> bool:
    delivered = tried.status is not None and 200 <= tried.status < 300
    again = due_ms is not None
    state = WebhookState.PENDING if again else WebhookState.DELIVERED if delivered else WebhookState.FAILED
    if not tx.run(_MARK, (state.value, due_ms, None if again else now_ms, reason, webhook.seq, webhook.logged)):
        return False
    at = (webhook.owner, webhook.environment, tried.at_ms, tried.took_ms)
    tx.run(_LOG, (webhook.seq, tried.number, *at, tried.status, tried.outcome))
    if not again:
        _tell(tx, webhook.seq, f"WEBHOOK_{state.value}", reason, SERVER, now_ms)
    return True


def _tell(tx: Writing, seq: int, kind: str, reason: str, actor: str, now_ms: int) -> None:
    row = tx.record("UPDATE requests SET version = version + 1 WHERE seq = ? RETURNING version, account, environment, attempt", (seq,))
    assert row is not None, "a webhook goes with its request, in one transaction"
    version, account, environment, attempt = row
    tx.run(_TELL, (seq, version, account, environment, now_ms, kind, reason, actor, attempt))


def _no_webhook(tx: Reading, request_id: str) -> RoostError:
    row = tx.record("SELECT webhook, state FROM requests WHERE id = ?", (request_id,))
    if row is None:
        return RoostError(
            "not_found", f"request {request_id} is not known, or not kept any more", hint="A webhook goes with its request's result."
        )
    if not row[0]:
        return RoostError("not_found", f"request {request_id} was submitted without fal_webhook")
    return RoostError("conflict", f"request {request_id} has not ended: it is {row[1]}", hint="Its webhook is sent when it ends.")
