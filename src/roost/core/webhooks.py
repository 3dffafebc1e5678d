"""Webhooks: nouns of the outbox as frozen values, when to try again, and what is sent (spec: queue.md §9, GAPS A3, B7, B8, B18).

Times are integers of milliseconds since the epoch (`*_ms`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class WebhookState(str, Enum):
    PENDING = "PENDING"
    """To be sent, now or at `due_ms`."""
    DELIVERED = "DELIVERED"
    """Answered with a 2xx."""
    FAILED = "FAILED"
    """Given up: `reason` says why. `resend` makes it PENDING again."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request's notice. Its row is written in the transaction that ends the request, so that neither is without the other."""

    seq: int
    """Of its request."""
    request_id: str
    gateway_request_id: str
    owner: str
    name: str
    environment: str
    caller: str
    """Account that submitted; `X-Fal-Webhook-User-Id`."""
    url: str
    state: WebhookState
    tries: int
    """Since it was made or sent again."""
    due_ms: int
    """Not before; of meaning while PENDING."""
    until_ms: int
    """No further try after this moment."""
    created_ms: int
    ended_ms: int | None = None
    reason: str = ""
    """Why it ended, or why the newest try failed."""


@dataclass(frozen=True, slots=True)
class Try:
    """One line of a webhook's delivery log."""

    request_id: str
    number: int
    """1 for the first ever; goes on counting over resends."""
    at_ms: int
    took_ms: int
    status: int | None
    """HTTP status of the receiver; None when there was none."""
    outcome: str
    """For people: "answered 200", "answered 301: redirects are not followed", "no answer within 15 s"."""
