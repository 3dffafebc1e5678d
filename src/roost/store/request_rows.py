"""How requests and their bodies lie in rows, and back: by position, because these are read thousands of times a second.

A row that was damaged by hand (`faults.md` F-11) still reads, as a request that ended with `internal_error`: one bad row must not keep a
server from starting, nor a list from being shown. `Requests.living` writes down what reads so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from roost.core.requests import Attempt, AttemptState, Claim, Content, Input, Output, Priority, Request, RequestState, RetryRules
from roost.store.columns import dump, load
from roost.store.driver import Value

Record = tuple[Any, ...]

COLUMNS: Final = (
    "seq, id, account, name, environment, caller, state, priority, attempt, deaths, used, created_ms, due_ms, deadline_ms, hint, rules,"
    " store_io, endpoint, method, cancel_asked, gateway_request_id, runner_id, lease_until_ms, started_ms, finished_ms, expires_ms, status,"
    " error, error_type, timeout_type, inference_ms, retry_of, webhook"
)
"""In the order of `Request`'s fields."""
WEBHOOK: Final = 32
CHANGED: Final = f"{COLUMNS}, version, runner_id, log_from"
"""And what a `Request` does not show, or only while it is IN_PROGRESS."""
VERSION, RUNNER_ID, LOG_FROM = 33, 34, 35
INPUT_COLUMNS: Final = "method, path, query, headers, size, file, body"
OUTPUT_COLUMNS: Final = "status, headers, size, file, body"
ATTEMPT_COLUMNS: Final = "number, gateway_request_id, runner_id, state, started_ms, ended_ms, outcome, condition, log_from, log_to"

_STATES: Final = {state.value: state for state in RequestState}
_PRIORITIES: Final = {priority.value: priority for priority in Priority}
_IN_PROGRESS: Final = RequestState.IN_PROGRESS
_DEFAULT_RULES: Final = RetryRules()
_NOBODY: Final = (None, None)
"""Runner and lease of what is not under way."""


class Damaged(Exception):
    """What a row says cannot be. The text says which part."""


def request(row: Record) -> Request:
    """The request of a row that begins with COLUMNS. One that cannot be read comes out COMPLETED, with the reason as its error."""
    try:
        return sound_request(row)
    except Damaged as error:
        return _ended_by_damage(row, str(error))


def sound_request(row: Record) -> Request:
    """The same, but raises Damaged."""
    state = _STATES.get(row[6])
    if state is None:
        raise Damaged(f"{row[6]!r} is no state")
    priority = _PRIORITIES.get(row[7])
    if priority is None:
        raise Damaged(f"{row[7]!r} is no priority")
    under_way = state is _IN_PROGRESS
    values = (
        *row[:6],
        state,
        priority,
        *row[8:10],
        load_counts(row[10]) if row[10] else (),
        *row[11:15],
        load_rules(row[15]) if row[15] else _DEFAULT_RULES,
        row[16] != 0,
        *row[17:19],
        row[19] != 0,
        row[20],
        *(row[21:23] if under_way else _NOBODY),
        *row[23:33],
    )
    return Request._make(values)


def accepted(asked: Request, seq: int) -> Request:
    """The same with its place; `_replace` takes three times as long."""
    return Request._make((seq, *asked[1:]))


def begun(asked: Request, seq: int, claim: Claim, now_ms: int) -> Request:
    """The same in its first attempt."""
    return asked._replace(
        seq=seq,
        state=_IN_PROGRESS,
        attempt=1,
        gateway_request_id=claim.gateway_request_id,
        runner_id=claim.runner_id,
        lease_until_ms=claim.lease_until_ms,
        started_ms=now_ms,
    )


def _ended_by_damage(row: Record, why: str) -> Request:
    sound = (*row[:6], RequestState.COMPLETED.value, Priority.NORMAL.value, row[8], row[9], "", *row[11:15], "", *row[16:26])
    if row[6] == RequestState.COMPLETED.value:
        return sound_request((*sound, *row[26:33]))  # it ended before: how, stays
    return sound_request((*sound, 500, damaged_text(why), "internal_error", "", None, *row[31:33]))


def damaged_text(why: str) -> str:
    return f"What the server kept of this request is damaged: {why}."


# --- small things in one column


def dump_counts(counts: tuple[tuple[str, int], ...]) -> str:
    return dump(counts) if counts else ""


def load_counts(text: str) -> tuple[tuple[str, int], ...]:
    try:
        return tuple((str(condition), int(count)) for condition, count in load(text))
    except (ValueError, TypeError) as error:
        raise Damaged(f"its count of retries cannot be read ({error})") from error


def dump_rules(rules: RetryRules) -> str:
    return "" if rules == _DEFAULT_RULES else dump([rules.never, rules.budgets, rules.skip])


def load_rules(text: str) -> RetryRules:
    try:
        never, budgets, skip = load(text)
        return RetryRules(bool(never), tuple((str(name), int(count)) for name, count in budgets), tuple(str(name) for name in skip))
    except (ValueError, TypeError) as error:
        raise Damaged(f"its rules of retrying cannot be read ({error})") from error


def dump_headers(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    flat = [part for field in headers for part in field]
    text = b"\n".join(flat)
    if text.count(b"\n") >= max(len(flat), 1):
        # A line break inside a field would shift all that follow; RFC 9110 §5.5 has it replaced by a space.
        text = b"\n".join(part.replace(b"\n", b" ") for part in flat)
    return text


def load_headers(text: bytes) -> tuple[tuple[bytes, bytes], ...]:
    if not text:
        return ()
    flat = text.split(b"\n")
    if len(flat) % 2:
        raise Damaged("its header fields cannot be read")
    return tuple(zip(flat[::2], flat[1::2], strict=True))


# --- bodies and attempts


def content_args(content: Content) -> tuple[Value, ...]:
    """Values of the columns size, file, body."""
    return (content.size, content.file, content.inline)


def _content(size: int, file: str, body: bytes | None) -> Content:
    if body is None and not file:
        raise Damaged("its body is missing")
    if body is not None and len(body) != size:
        raise Damaged(f"its body has {len(body)} bytes and should have {size}")
    return Content(size, body, file)


def input_of(row: Record | None) -> Input:
    """Raises Damaged, also when there is no row."""
    if row is None:
        raise Damaged("what its caller sent is missing")
    return Input(row[0], row[1], row[2], load_headers(row[3]), _content(row[4], row[5], row[6]))


def output_of(row: Record) -> Output:
    return Output(row[0], load_headers(row[1]), _content(row[2], row[3], row[4]))


def attempts_of(request_id: str, rows: Iterable[Record]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            request_id, number, gateway_request_id, runner_id, AttemptState(state), started_ms, ended_ms, outcome, condition, begin, end
        )
        for number, gateway_request_id, runner_id, state, started_ms, ended_ms, outcome, condition, begin, end in rows
    )
