"""The nouns of the durable queue as frozen values, and the arguments and answers of its verbs (spec: queue.md).

Times are integers of milliseconds since the epoch (`*_ms`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final as Constant
from typing import NamedTuple

ANONYMOUS: Constant = "anonymous"
"""The account of callers of public apps without a key. No owner may have this name."""


class RequestState(str, Enum):
    """Public states of a queued request (spec: queue.md §2). A failure or a cancellation is COMPLETED with an error."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"


class AttemptState(str, Enum):
    RUNNING = "RUNNING"
    ANSWERED = "ANSWERED"
    """Its response is the request's result."""
    FAILED = "FAILED"
    """It came to its end without a result that is kept: the request waits again, or ended with an error."""
    LOST = "LOST"
    """Nobody heard its end: its runner went away, or its lease ran out."""


class Priority(int, Enum):
    """`low` is served only when no `normal` request of the app waits (spec: queue.md §5)."""

    NORMAL = 0
    LOW = 1


@dataclass(frozen=True, slots=True)
class RetryRules:
    """What decides about another attempt besides its outcome: fixed when the request is accepted (spec: queue.md §6)."""

    never: bool = False
    """`X-Fal-No-Retry`."""
    budgets: tuple[tuple[str, int], ...] = ()
    """(condition, additional attempts), explicit ones only: the header's of an owner, else the app's `retry_config`."""
    skip: tuple[str, ...] = ()
    """The app's `skip_retry_conditions`."""


@dataclass(frozen=True, slots=True)
class Content:
    """A body as it is kept: inline, or as a file of `data.payloads` that was durable before the row that names it."""

    size: int = 0
    inline: bytes | None = b""
    file: str = ""
    """Name of the payload file when `inline` is None."""


@dataclass(frozen=True, slots=True)
class Input:
    """What the caller sent, as the app will get it: header fields as `web.headers.stored` leaves them, without those of one attempt."""

    method: str
    path: bytes
    """Below the app, percent-encoded, with a leading slash."""
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    content: Content


@dataclass(frozen=True, slots=True)
class Output:
    """The app's final response."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    content: Content


class Request(NamedTuple):
    """One queued request without its bodies. `seq` is its place: first by priority, then by seq, and it keeps it over all attempts.

    No dataclass, as an exception: one is made with each change of each request, and a frozen one of so many fields takes five times as long.
    """

    seq: int
    id: str
    owner: str
    """Of the app."""
    name: str
    environment: str
    caller: str
    """Account that submitted it, or ANONYMOUS."""
    state: RequestState
    priority: Priority
    attempt: int
    """Number of the newest attempt; 0 before the first. Grows only, and fences: a result is taken only from this attempt."""
    deaths: int
    """Attempts in which the runner died; one with any is a suspect, and two suspects never share a runner."""
    used: tuple[tuple[str, int], ...]
    """(condition, retries spent on it)."""
    created_ms: int
    due_ms: int | None
    """Not before this moment (back-off); None = now."""
    deadline_ms: int | None
    """Start deadline."""
    hint: str
    rules: RetryRules
    store_io: bool
    endpoint: str
    """Path below the app, decoded, for people."""
    method: str
    cancel_asked: bool = False
    gateway_request_id: str = ""
    """Id of the newest attempt; the request's own before the first."""
    runner_id: str | None = None
    """Of the attempt under way."""
    lease_until_ms: int | None = None
    started_ms: int | None = None
    """When the newest attempt's bytes began to be sent."""
    finished_ms: int | None = None
    expires_ms: int | None = None
    status: int | None = None
    """HTTP status of the result endpoint once COMPLETED."""
    error: str = ""
    error_type: str = ""
    """A code of wire/errors.py for failures of ours; "" for what the app answered."""
    timeout_type: str = ""
    """"user" when the start deadline passed."""
    inference_ms: int | None = None
    retry_of: str = ""
    webhook: str = ""
    """URL that hears of its end; "" for none."""

    @property
    def application(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request on one runner."""

    request_id: str
    number: int
    gateway_request_id: str
    runner_id: str
    state: AttemptState
    started_ms: int
    ended_ms: int | None
    outcome: str
    """Why it ended as it did, for people: "the app answered 200", "runner_disconnected: ..."."""
    condition: str
    """The retry condition it fell under; "" for none."""
    log_from: int = 0
    """Offset in the runner's log file when it began."""
    log_to: int | None = None


# --- what the queue's verbs take and answer ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A submit. `request.seq` is ignored; `fingerprint` is a hash over what the caller sent, compared when an idempotency key comes again."""

    request: Request
    input: Input
    idempotency_key: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """It is on disk."""

    request: Request


@dataclass(frozen=True, slots=True)
class SameKey:
    """This idempotency key was used before for the same request, which this is."""

    request: Request


@dataclass(frozen=True, slots=True)
class OtherBody:
    """This idempotency key was used before for another request."""

    request: Request
    fingerprint: str = ""
    """Of that other request."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who takes a request, and for how long without news."""

    gateway_request_id: str
    runner_id: str
    lease_until_ms: int
    log_from: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """The attempt is on disk: its bytes may be sent."""

    request: Request
    input: Input


@dataclass(frozen=True, slots=True)
class Final:
    """How a request ends."""

    status: int
    """Status of the result endpoint."""
    error: str = ""
    error_type: str = ""
    timeout_type: str = ""
    output: Output | None = None
    """None: the result is the error, in its flat form."""
    inference_ms: int | None = None
    expires_ms: int = 0
    webhook_until_ms: int = 0
    """Its webhook is tried until then, if it has one."""
    outcome: str = ""
    """Of the attempt, for people."""
    attempt_state: AttemptState = AttemptState.ANSWERED
    condition: str = ""
    log_to: int | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """How a request goes back to its place in the queue."""

    due_ms: int | None
    condition: str
    outcome: str
    attempt_state: AttemptState = AttemptState.FAILED
    counted: bool = True
    """Whether it costs one of the condition's retries."""
    death: bool = False
    """Its runner died in it."""
    log_to: int | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """Requests past their retention that are forgotten, and the payload files that nothing names any more."""

    ids: tuple[str, ...]
    files: tuple[str, ...]
