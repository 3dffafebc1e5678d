"""May this call go on waiting for a runner? Asked when it arrives without a free runner, and again whenever something changes.

Source: gateway-http.md §4 (start deadline), §7-8 (codes), GAPS C4 (how long a caller is held).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MIN_START_TIMEOUT_S = 0.1
FOREVER_S = 1e9

# Not float(): that also takes "nan", "inf", "1_0" and surrounding space.
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The caller's error: a code of `wire.errors.CODES`, its text, what to do now, and headers that belong to it."""

    code: str
    detail: str
    hint: str = ""
    retry_after_ms: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Deadline:
    """When processing must have begun; `at_ms` None = whenever."""

    at_ms: int | None


@dataclass(frozen=True, slots=True)
class Call:
    """The call in question. `ahead` is how many calls of the app wait before it."""

    arrived_ms: int
    deadline: Deadline
    ahead: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the app's runners promise to whoever waits."""

    ready: int = 0
    """Runners that take calls, busy ones included."""
    hopeless: str = ""
    """Why no runner can ever come, if so."""
    failed_starts: int = 0
    """Rounds of starts in a row that failed (fleet.Backoff)."""
    last_failure: str = ""
    next_start_ms: int = 0
    """When the back-off after them ends."""
    no_room_since_ms: int | None = None
    """Since when a runner is wanted that no machine has room for."""
    no_room: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's settings."""

    max_waiting: int = 10_000
    failed_starts: int = 3
    no_room_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Admit:
    """Wait on; ask again within `recheck_ms` (None: when something changes)."""

    recheck_ms: int | None


def start_deadline(header: str | None, default_ms: int | None, arrived_ms: int) -> Deadline | Refuse:
    """The start deadline of a call from `X-Fal-Request-Timeout` (seconds), else the alias's default for the owner's calls (0 and None: no deadline)."""
    if header is None:
        return Deadline(arrived_ms + default_ms if default_ms else None)
    text = header.strip()
    if not _NUMBER.fullmatch(text) or (seconds := float(text)) <= MIN_START_TIMEOUT_S:
        return Refuse(
            "bad_request",
            f"X-Fal-Request-Timeout must be a number of seconds greater than {MIN_START_TIMEOUT_S}, not {header[:40]!r}",
            hint="Send for example `X-Fal-Request-Timeout: 30`, or leave the header out to wait without a deadline.",
        )
    # "1e300" is a number too, but not a moment that a store can hold.
    return Deadline(arrived_ms + round(min(seconds, FOREVER_S) * 1000))


def judge(call: Call, outlook: Outlook, limits: Limits, now_ms: int) -> Admit | Refuse:
    """Whether this call may wait (on). A call that was let in is not sent away for being one of many."""
    if call.deadline.at_ms is not None and now_ms >= call.deadline.at_ms:
        return Refuse(
            "request_timeout",
            f"processing did not start within the {_seconds(call.deadline.at_ms - call.arrived_ms)} that the request allows",
            # Clients never retry a 504 with this header.
            headers=(("X-Fal-Request-Timeout-Type", "user"),),
        )
    if call.ahead >= limits.max_waiting:
        return Refuse(
            "concurrent_requests_limit",
            f"{call.ahead} requests of this app already wait for a runner; the limit is {limits.max_waiting}",
            hint="Try again later, raise max_concurrency of the app, or the server's max_waiting.",
            retry_after_ms=1_000,
            headers=(("X-Fal-Needs-Retry", "1"),),
        )
    if outlook.ready:
        # A busy runner will be free one day; that others cannot start is not this caller's end.
        return Admit(_until(call.deadline.at_ms, now_ms=now_ms))
    return _judge_without_runner(call, outlook, limits, now_ms)


def _judge_without_runner(call: Call, outlook: Outlook, limits: Limits, now_ms: int) -> Admit | Refuse:
    if outlook.hopeless:
        return Refuse("runner_scheduling_failure", f"no runner of this app can start: {outlook.hopeless}")
    if outlook.failed_starts >= limits.failed_starts and now_ms < outlook.next_start_ms:
        # Only during the back-off: after it, this call is the demand that makes the fleet try again.
        return Refuse(
            "startup_timeout",
            f"no runner became ready: {outlook.failed_starts} starts in a row failed, the last one because {outlook.last_failure or 'it ended'}",
            hint="The app's log says more; the next start is tried after a pause.",
            retry_after_ms=outlook.next_start_ms - now_ms,
        )
    if outlook.no_room_since_ms is None:
        return Admit(_until(call.deadline.at_ms, now_ms=now_ms))
    give_up_ms = max(call.arrived_ms, outlook.no_room_since_ms) + limits.no_room_ms
    if now_ms >= give_up_ms:
        return Refuse(
            "runner_scheduling_failure",
            f"no machine had room for a runner within {_seconds(limits.no_room_ms)}: {outlook.no_room or 'all are full'}",
            retry_after_ms=limits.no_room_ms,
        )
    return Admit(_until(call.deadline.at_ms, give_up_ms, now_ms=now_ms))


def _until(*moments: int | None, now_ms: int) -> int | None:
    return min((at - now_ms for at in moments if at is not None), default=None)


def _seconds(ms: int) -> str:
    return f"{ms / 1000:g} s"
