"""What a caller asks for beside its input when it submits to the queue, read from header fields and query (spec: gateway-http.md §4, queue.md §5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from roost.core import admission
from roost.core.admission import Refuse
from roost.core.requests import Priority, Request, RequestState

LONGEST_KEY: Final = 255
_LONGEST_HINT: Final = 1024
_PRIORITIES: Final = {"normal": Priority.NORMAL, "low": Priority.LOW}
CONSUMED: Final = ("fal_webhook", "fal_max_queue_length", "fal_jwt_token")
"""Parameters of the query that are for the queue, not for the app."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a request wants to be queued."""

    priority: Priority
    deadline_ms: int | None
    """It must have begun by then."""
    hint: str
    store_io: bool
    longest_queue: int | None
    """Refuse it when more requests than this wait before it."""
    idempotency_key: str
    webhook: str = ""
    """URL that hears of its end, as it was given."""


def read(
    header: Callable[[bytes], str | None], query: Mapping[str, str], *, default_deadline_ms: int | None, now_ms: int
) -> Wishes | Refuse:
    """`header` answers a field's value by its name in lower case; `default_deadline_ms`: the app's own start timeout, for its owner."""
    deadline = admission.start_deadline(header(b"x-fal-request-timeout"), default_deadline_ms, now_ms)
    if isinstance(deadline, Refuse):
        return deadline
    wish = (header(b"x-fal-queue-priority") or "normal").strip().lower()
    priority = _PRIORITIES.get(wish)
    if priority is None:
        return Refuse("bad_request", f"X-Fal-Queue-Priority is normal or low, not {wish[:40]!r}")
    longest = query.get("fal_max_queue_length")
    if longest is not None and not (longest.isascii() and longest.isdigit() and len(longest) < 10):
        return Refuse("bad_request", f"fal_max_queue_length must be a whole number, not {longest[:40]!r}")
    key = (header(b"idempotency-key") or "").strip()
    if len(key) > LONGEST_KEY:
        return Refuse("bad_request", f"Idempotency-Key is longer than {LONGEST_KEY} characters", hint="A UUID is enough.")
    return Wishes(
        priority,
        deadline.at_ms,
        (header(b"x-fal-runner-hint") or "")[:_LONGEST_HINT],
        (header(b"x-fal-store-io") or "1").strip() != "0",
        int(longest) if longest is not None else None,
        key,
        query.get("fal_webhook", "").strip(),
    )


def without_consumed(query: bytes) -> bytes:
    """The query as the app gets it: every other byte as it was."""
    if b"fal_" not in query:
        return query
    return b"&".join(part for part in query.split(b"&") if part.partition(b"=")[0].decode("latin-1") not in CONSUMED)


def again(ended: Request, request_id: str, now_ms: int) -> Request:
    """A new request like this one, which has ended: trying again never changes what was. It waits without a start deadline, since somebody wants it."""
    return Request(
        seq=0,
        id=request_id,
        owner=ended.owner,
        name=ended.name,
        environment=ended.environment,
        caller=ended.caller,
        state=RequestState.IN_QUEUE,
        priority=ended.priority,
        attempt=0,
        deaths=0,
        used=(),
        created_ms=now_ms,
        due_ms=None,
        deadline_ms=None,
        hint=ended.hint,
        rules=ended.rules,
        store_io=ended.store_io,
        endpoint=ended.endpoint,
        method=ended.method,
        gateway_request_id=request_id,
        retry_of=ended.id,
        webhook=ended.webhook,
    )
