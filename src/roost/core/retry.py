"""What follows the end of one attempt of a queued request: its result is taken, it fails for good, or it is tried again and when.

The order of the questions is that of queue.md §6; numbers and what it leaves open are GAPS B1-B4. Nothing here counts what is no attempt: waiting
for a runner, starts that fail, a runner that answers BUSY. Those never come here, because nothing was claimed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast
from typing import Final as Constant

from roost.core.requests import Again, AttemptState, Final, Output, Request, RetryRules
from roost.wire.errors import CODES
from roost.wire.spec import AppSpec

SERVER_ERROR: Constant = "server_error"
TIMEOUT: Constant = "timeout"
CONNECTION_ERROR: Constant = "connection_error"
CONDITIONS: Constant = (SERVER_ERROR, TIMEOUT, CONNECTION_ERROR)
ASKED_FOR: Constant = "needs_retry"
"""Not one of the public conditions: the app itself asked for it, so that only the ceiling bounds it."""

MOST_ATTEMPTS: Constant = 10
DEFAULT_RETRIES: Constant = 9
"""Of each condition, unless something says otherwise (GAPS B2)."""
MOST_DEATHS: Constant = 3
"""A request in which so many runners died is not given another one."""
FIRST_PAUSE_MS: Constant = 1_000
LONGEST_PAUSE_MS: Constant = 60_000

_SERVER_STATUSES: Constant = (503, 504)
_YES: Constant = ("1", "true")
_NO: Constant = ("0", "false")


# --- how an attempt can end ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """The app's whole response is here. Its header fields still have `x-fal-needs-retry`, if the app set it."""

    output: Output
    inference_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """The runner, or the way to it, broke off: a code of `fate.classify_disconnect`."""

    code: str
    detail: str
    death: bool = False
    """The runner died, and nobody had told it to."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """It overran `request_timeout` and was cut."""

    limit_ms: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody heard how it ended: its runner is gone, or was silent for longer than its lease."""

    reason: str
    death: bool = False


@dataclass(frozen=True, slots=True)
class Unusable:
    """It cannot be sent, or its response cannot be kept; another attempt would end in the same way."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing of it ran, or a planned change took its runner: it goes back to its place and nothing is counted."""

    reason: str


Outcome = Answered | Broken | TimedOut | Lost | Unusable | Moved


# --- what follows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Take:
    """The app's response is the result, whatever its status."""

    final: Final


@dataclass(frozen=True, slots=True)
class Fail:
    """It ends with an error of ours."""

    final: Final


Step = Take | Fail | Again


def next_step(outcome: Outcome, request: Request, now_ms: int, jitter: float, log_to: int | None = None) -> Step:
    """The step after this end of the request's attempt under way. `jitter` is between 0 and 1.

    `Final.expires_ms` stays 0: the queue fills in how long a result is kept.
    """
    if isinstance(outcome, Moved) and not request.cancel_asked:
        return Again(None, "", f"moved: {outcome.reason}", AttemptState.LOST, counted=False, log_to=log_to)
    condition = _condition(outcome)
    if not condition:
        return _end(outcome, request, log_to)
    if request.cancel_asked or request.rules.never:
        return _end(outcome, request, log_to, condition)
    death = _death(outcome)
    if request.deaths + death >= MOST_DEATHS:
        return Fail(_final("runner_disconnected", _parked(request, outcome), _end_state(outcome), condition, _told(outcome), log_to))
    if request.deadline_ms is not None and now_ms >= request.deadline_ms:
        return Fail(_too_late(request, outcome, condition, log_to))
    if not _may_go_again(outcome, condition, request):
        return _end(outcome, request, log_to, condition)
    due_ms = now_ms + pause_ms(_retries(request), jitter)
    return Again(due_ms, condition, _told(outcome), _end_state(outcome), death=death, log_to=log_to)


def pause_ms(retries: int, jitter: float) -> int:
    """How long to wait after the failure that follows so many retries: 1 s, doubled each time up to a minute, a quarter more or less."""
    pause = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << min(retries, 10))
    return round(pause * (0.75 + 0.5 * jitter))


def cancelled() -> Final:
    """The end of a request that was cancelled, or flushed, while it waited (GAPS B7)."""
    return Final(499, "Request was cancelled", "client_cancelled", attempt_state=AttemptState.FAILED)


def expired(request: Request) -> Final:
    """The end of a request whose start deadline passed while it waited."""
    return _too_late(request, None, "", None)


# --- the rules of one request ------------------------------------------------------------------------------------------------


def rules_of(spec: AppSpec | None, headers: Iterable[tuple[bytes, bytes]], *, owns: bool) -> RetryRules:
    """From what its app declares and its caller sends (names in lower case). `owns`: the caller owns the app.

    For one condition the owner's header goes before the app's `retry_config`, and either before `skip_retry_conditions`.
    """
    budgets = dict(spec.retry_config) if spec is not None else {}
    never = False
    for name, value in headers:
        if name == b"x-fal-no-retry":
            never = never or value.strip().lower() in (b"1", b"true", b"yes")
        elif name == b"x-fal-retry-config" and owns:
            budgets |= budgets_of(value)
    return RetryRules(never, tuple(budgets.items()), spec.skip_retry_conditions if spec is not None else ())


def budgets_of(header: bytes) -> dict[str, int]:
    """The retries of each condition that `X-Fal-Retry-Config` names. What is malformed or unknown is ignored, as the protocol wants it."""
    try:
        value: Any = json.loads(header)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    found: dict[str, int] = {}
    for condition, entry in cast("dict[str, Any]", value).items():
        retries: Any = cast("dict[str, Any]", entry).get("retries") if isinstance(entry, dict) else None
        if condition in CONDITIONS and isinstance(retries, int) and not isinstance(retries, bool):
            found[condition] = min(max(0, retries), MOST_ATTEMPTS)
    return found


# --- the questions -----------------------------------------------------------------------------------------------------------


def _condition(outcome: Outcome) -> str:
    """What kind of failure it was; "" if it was none, or one that comes to the same end every time."""
    match outcome:
        case Answered(output):
            if output.status in _SERVER_STATUSES:
                return SERVER_ERROR
            return ASKED_FOR if _wish(output) else ""
        case TimedOut():
            return TIMEOUT
        case Broken("runner_connection_error"):
            return CONNECTION_ERROR
        case Broken() | Lost():
            return SERVER_ERROR
        case Unusable() | Moved():
            return ""


def _may_go_again(outcome: Outcome, condition: str, request: Request) -> bool:
    if _retries(request) + 1 >= MOST_ATTEMPTS:
        return False
    wish = _wish(outcome.output) if isinstance(outcome, Answered) else None
    if wish is not None:
        return wish
    explicit = dict(request.rules.budgets)
    if condition not in explicit and condition in request.rules.skip:
        return False
    return dict(request.used).get(condition, 0) < explicit.get(condition, DEFAULT_RETRIES)


def _wish(output: Output) -> bool | None:
    """What the app says with `X-Fal-Needs-Retry`; None if nothing, or where it may not say it (GAPS A6)."""
    if output.status < 500 and output.status != 429:
        return None
    for name, value in output.headers:
        if name.lower() == b"x-fal-needs-retry":
            word = value.decode("latin-1").strip().lower()
            return True if word in _YES else False if word in _NO else None
    return None


def _retries(request: Request) -> int:
    """So far. Not `attempt - 1`: attempts that were moved are not counted."""
    return sum(count for _, count in request.used)


def _death(outcome: Outcome) -> bool:
    return isinstance(outcome, (Broken, Lost)) and outcome.death


# --- the ends ----------------------------------------------------------------------------------------------------------------


def _end(outcome: Outcome, request: Request, log_to: int | None, condition: str = "") -> Take | Fail:
    """The end that this outcome is by itself."""
    if isinstance(outcome, Answered):
        return Take(_answer(outcome, request, condition, log_to))
    state, told = _end_state(outcome), _told(outcome)
    if request.cancel_asked:
        return Fail(_final("client_cancelled", "Request was cancelled", state, condition, told, log_to))
    match outcome:
        case Broken(code, detail) | Unusable(code, detail):
            return Fail(_final(code, detail, state, condition, told, log_to))
        case TimedOut():
            return Fail(_final("request_timeout", told, state, condition, told, log_to))
        case Lost(reason) | Moved(reason):
            return Fail(
                _final("runner_disconnected", f"the runner went away in the middle of the call: {reason}", state, condition, told, log_to)
            )


def _answer(outcome: Answered, request: Request, condition: str, log_to: int | None) -> Final:
    status = outcome.output.status
    error, error_type = "", ""
    if status == 499 and request.cancel_asked:
        error, error_type = "Request was cancelled", "client_cancelled"
    elif status >= 400:
        error = f"Invalid status code: {status}"
    return Final(
        status,
        error,
        error_type,
        output=outcome.output,
        inference_ms=outcome.inference_ms,
        outcome=_told(outcome),
        condition=condition,
        log_to=log_to,
    )


def _final(code: str, detail: str, state: AttemptState, condition: str, told: str, log_to: int | None) -> Final:
    return Final(CODES[code].status, detail, code, outcome=told, attempt_state=state, condition=condition, log_to=log_to)


def _too_late(request: Request, outcome: Outcome | None, condition: str, log_to: int | None) -> Final:
    allowed_ms = (request.deadline_ms or request.created_ms) - request.created_ms
    after = "" if outcome is None else f", and its last attempt failed: {_told(outcome)}"
    return Final(
        504,
        f"processing did not start within the {allowed_ms / 1000:g} s that the request allows{after}",
        "request_timeout",
        "user",
        outcome="" if outcome is None else _told(outcome),
        attempt_state=AttemptState.FAILED if outcome is None else _end_state(outcome),
        condition=condition,
        log_to=log_to,
    )


def _parked(request: Request, outcome: Outcome) -> str:
    return (
        f"its runner died in {MOST_DEATHS} attempts, the last time: {_told(outcome)}. It is parked, so that it kills no more of them; "
        f"when its cause is mended, `roost requests retry {request.id}` sends it again as a new request"
    )


def _end_state(outcome: Outcome) -> AttemptState:
    return AttemptState.LOST if isinstance(outcome, (Lost, Moved)) else AttemptState.FAILED


def _told(outcome: Outcome) -> str:
    """For people."""
    match outcome:
        case Answered(output):
            return f"the app answered {output.status}"
        case Broken(code, detail) | Unusable(code, detail):
            return f"{code}: {detail}"
        case TimedOut(limit_ms):
            return f"the call took longer than request_timeout ({limit_ms / 1000:g} s) and was ended"
        case Lost(reason) | Moved(reason):
            return reason
