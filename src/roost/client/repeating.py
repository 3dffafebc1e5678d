"""When a call is sent again (spec: gateway-http.md §12), decided without sending anything."""

from __future__ import annotations

from enum import Enum

from roost.client.steps import Answer, Broken, How, Send

MOST_ATTEMPTS = 10
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
"""Ten attempts take half a minute: longer than a server needs to come back from a crash."""

DEADLINE_HEADER = "x-fal-request-timeout"


class Kind(Enum):
    """What sending a call twice would do."""

    DIRECT = "direct"
    """The app runs twice: only what certainly never reached a runner is sent again."""
    SUBMIT = "submit"
    """Nothing, because it carries an idempotency key."""
    ASK = "ask"
    """Nothing."""
    RESULT = "result"
    """Nothing, and the answer's status is the app's own: a 429 there is a result."""


def pause_s(kind: Kind, send: Send, reply: Answer | Broken, attempt: int, jitter: float) -> float | None:
    """Seconds before sending `send` again after its `attempt`th try (from 1); None: the reply stands.

    `jitter` is a random number from 0 to 1: callers that were cut off together should not come back together.
    """
    if attempt >= MOST_ATTEMPTS or not _worth_it(kind, send, reply):
        return None
    wished_s = _retry_after_s(reply) if isinstance(reply, Answer) else 0.0
    return min(max(FIRST_PAUSE_S * 2 ** (attempt - 1), wished_s) * (0.5 + jitter), LONGEST_PAUSE_S)


def _worth_it(kind: Kind, send: Send, reply: Answer | Broken) -> bool:
    if isinstance(reply, Broken):
        return _after_break(kind, send, reply.how)
    status, headers = reply.status_code, reply.headers
    if status == 504 and "x-fal-request-timeout-type" in headers:
        return False  # the caller's own deadline passed
    if status in (502, 503, 504) and "x-fal-request-id" not in headers:
        # Not the server's words but a proxy's before it. After a 502 or 504 nobody knows whether the app has run.
        return kind is not Kind.DIRECT or status == 503
    if headers.get("x-fal-error-type") == "server_stopping":
        return True
    if "x-fal-error-type" in headers and "retry-after" in headers and kind is not Kind.DIRECT:
        return True  # the server's disk is busy or full, and it says that this passes
    match kind:
        case Kind.RESULT:
            return False
        case Kind.DIRECT:
            return status == 429 and headers.get("x-fal-needs-retry") == "1"
        case Kind.SUBMIT:
            # Whoever names the longest queue that is acceptable wants to hear at once that it is longer.
            return status in (408, 409, 429) and "fal_max_queue_length=" not in send.url
        case _:
            return status in (408, 409, 429) or (status == 500 and send.method == "GET")


def _after_break(kind: Kind, send: Send, how: How) -> bool:
    match how:
        case How.WRONG:
            return False
        case How.REFUSED:
            return True
        case How.SILENT:
            # A caller that named a deadline has heard the answer to it.
            return kind is not Kind.DIRECT and DEADLINE_HEADER not in (name for name, _ in send.headers)
        case _:
            return kind is not Kind.DIRECT


def _retry_after_s(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0
