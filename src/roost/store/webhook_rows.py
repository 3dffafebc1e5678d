"""How webhooks lie in rows, and how one is put into the outbox."""

from __future__ import annotations

from typing import Any, Final

from roost.core.webhooks import Webhook, WebhookState, receiver_of
from roost.store.driver import Writing

Record = tuple[Any, ...]

COLUMNS: Final = (
    "webhooks.request, requests.id, requests.gateway_request_id, webhooks.account, webhooks.name, webhooks.environment, webhooks.caller,"
    " requests.webhook, webhooks.state, webhooks.tries, webhooks.due_ms, webhooks.until_ms, webhooks.created_ms, webhooks.ended_ms,"
    " webhooks.reason, webhooks.logged, webhooks.receiver, coalesce(outputs.size, 0)"
)
"""In the order of `Webhook`'s fields; of `TABLES`."""
TABLES: Final = "webhooks JOIN requests ON requests.seq = webhooks.request LEFT JOIN outputs ON outputs.request = webhooks.request"
TRY_COLUMNS: Final = "number, at_ms, took_ms, status, outcome"

_INSERT: Final = """
    INSERT INTO webhooks (request, account, environment, name, caller, receiver, state, tries, logged, due_ms, until_ms, created_ms, reason)
    VALUES (?, ?, ?, ?, ?, ?, 'PENDING', 0, 0, ?, ?, ?, '')
"""
_STATES: Final = {state.value: state for state in WebhookState}


def owe(tx: Writing, request: Record, now_ms: int, until_ms: int) -> None:
    """Put the webhook of this row of `request_rows.COLUMNS` into the outbox; in the transaction that ends the request."""
    seq, _, account, name, environment, caller = request[:6]
    tx.run(_INSERT, (seq, account, environment, name, caller, receiver_of(request[32]), now_ms, until_ms, now_ms))


def webhook_of(row: Record) -> Webhook:
    # A state that somebody wrote by hand: shown as given up, and can be sent again.
    values: Record = (*row[:8], _STATES.get(row[8], WebhookState.FAILED), *row[9:])
    return Webhook(*values)
