"""Webhooks: nouns of the outbox as frozen values, when to try again, and what is sent (spec: queue.md §9, GAPS A3, B7, B8, B18).

Times are integers of milliseconds since the epoch (`*_ms`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from roost.core.requests import Output, Request

FIRST_LIMIT_MS: Final = 15_000
"""How long the first try may take, and `LATER_LIMIT_MS` those after it."""
LATER_LIMIT_MS: Final = 120_000
MOST_RETRIES: Final = 31
FIRST_PAUSE_MS: Final = 2_000
PAUSE_GROWS: Final = 1.5
LONGEST_PAUSE_MS: Final = 300_000
LARGEST_PAYLOAD: Final = 10 * 1024 * 1024
"""What an app answered is sent up to this size."""
_NO_JSON: Final = "Response payload is not JSON serializable."
"""As receivers of the public protocol know it."""
_GONE: Final = 410
_PORTS: Final = {"http": 80, "https": 443}


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
    """No retry is planned for after this moment. One that was due before, while no server was there, is made all the same."""
    created_ms: int
    ended_ms: int | None = None
    reason: str = ""
    """Why it ended, or why the newest try failed."""
    logged: int = 0
    """Tries of all time, each a line of the delivery log. What becomes of a try is written only while this has not changed."""
    receiver: str = ""
    """Who is tried: `receiver_of(url)`."""
    size: int = 0
    """Bytes that the app answered."""


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


def receiver_of(url: str) -> str:
    """Host and port that a URL leads to: all webhooks of one receiver share a lane. Of a URL that cannot be read, the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return url
    return f"{parts.hostname or ''}:{port}"


# --- how a try can end ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    status: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nobody answered, or not in time."""

    reason: str


@dataclass(frozen=True, slots=True)
class Forbidden:
    """The address is one that we do not send to."""

    reason: str


Outcome = Answered | Unanswered | Forbidden


@dataclass(frozen=True, slots=True)
class Delivered:
    reason: str


@dataclass(frozen=True, slots=True)
class RetryAt:
    ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


def limit_ms(webhook: Webhook) -> int:
    """How long its next try may take."""
    return LATER_LIMIT_MS if webhook.tries else FIRST_LIMIT_MS


def next_try(webhook: Webhook, outcome: Outcome, now_ms: int, jitter: float) -> Delivered | RetryAt | GiveUp:
    """What follows this end of a try, which `webhook.tries` does not count yet. `jitter` is between 0 and 1."""
    told = told_of(outcome)
    match outcome:
        case Answered(status) if 200 <= status < 300:
            return Delivered(told)
        case Answered(status) if 300 <= status < 400 or status == _GONE:
            return GiveUp(told)
        case Forbidden():
            return GiveUp(told)
        case _:
            pass
    if webhook.tries >= MOST_RETRIES:
        return GiveUp(f"{told}; that was the last of {MOST_RETRIES + 1} tries")
    at_ms = now_ms + pause_ms(webhook.tries, jitter)
    if at_ms > webhook.until_ms:
        return GiveUp(f"{told}; its time is over, after {webhook.tries + 1} {'tries' if webhook.tries else 'try'}")
    return RetryAt(at_ms, told)


def pause_ms(tries: int, jitter: float) -> int:
    """How long to wait after the failure that follows so many tries: 2 s, half as long again each time up to five minutes, a quarter more or less."""
    pause = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * PAUSE_GROWS ** min(tries, MOST_RETRIES))
    return round(pause * (0.75 + 0.5 * jitter))


def told_of(outcome: Outcome) -> str:
    """For people."""
    match outcome:
        case Answered(status) if 300 <= status < 400:
            return f"answered {status}: redirects are not followed"
        case Answered(status) if status == _GONE:
            return f"answered {status}: the receiver wants no more of it"
        case Answered(status):
            return f"answered {status}"
        case Unanswered(reason) | Forbidden(reason):
            return reason


def is_trouble(outcome: Outcome) -> bool:
    """Whether it says something about the receiver as a whole, and not only about this webhook: it is down, overloaded, or does not answer."""
    match outcome:
        case Answered(status):
            return status in (429, 502, 503, 504)
        case Unanswered():
            return True
        case Forbidden():
            return False


# --- what is sent --------------------------------------------------------------------------------------------------------------


def payload(request: Request, output: Output | None, body: bytes | None, problem: str = "") -> bytes:
    """The body of each try, the same bytes at all of them.

    `output` is the app's response, None if the request ended with an error of ours. `body` is the response's own, which is JSON and is sent as the
    app wrote it, or None when it cannot be sent; `problem` then says why.
    """
    ids = f'{{"request_id":{_text(request.id)},"gateway_request_id":{_text(request.gateway_request_id)}'
    if output is None:
        # What the result endpoint answers (web.queue_answers.failed).
        said = json.dumps({"detail": request.error, "error_type": request.error_type or "internal_error"})
        return f'{ids},"status":"ERROR","error":{_text(request.error)},"payload":{said}}}'.encode()
    ends = "" if body is not None else f',"payload_error":{_text(problem)}'
    status = '"OK"' if output.status == 200 else f'"ERROR","error":"Invalid status code: {output.status}"'
    return f'{ids},"status":{status},"payload":'.encode() + (body if body is not None else b"null") + f"{ends}}}".encode()


def too_large(size: int) -> str:
    """The problem of a response that is larger than a webhook may be; "" if it is not."""
    if size <= LARGEST_PAYLOAD:
        return ""
    return f"Response payload has {size} bytes, and a webhook carries at most {LARGEST_PAYLOAD}: fetch it from the request's response_url."


def no_json(output: Output) -> str:
    """The problem of a response that is no JSON."""
    fields = {name.lower(): value.decode("latin-1") for name, value in output.headers}
    if encoding := fields.get(b"content-encoding"):
        return f"{_NO_JSON} It is encoded as {encoding}: fetch it from the request's response_url."
    return f"{_NO_JSON} Its content type is {fields.get(b'content-type') or 'not given'}: fetch it from the request's response_url."


def _text(value: str) -> str:
    return json.dumps(value)
