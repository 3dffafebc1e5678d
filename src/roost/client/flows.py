"""What the client's verbs do, step by step, for the blocking and the asynchronous client alike (steps.py says how).

    submit -> Ticket          one durable request; sending it again by itself cannot make two
    watch(ticket)             each status until COMPLETED: over the status stream, or by polling where there is none
    answer(ticket) -> Answer  waits, then fetches the result
    subscribe                 all three, with the caller's time limit

A restart of the server shows as refused connections for a while. Every step here survives that: the request is on the server's disk.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from roost.client import repeating, statuses
from roost.client.addresses import AppId, Place
from roost.client.errors import ClientConnectionError, ClientHTTPError, ClientTimeoutError
from roost.client.repeating import Kind
from roost.client.sse import Events
from roost.client.statuses import Completed, Log, Status
from roost.client.steps import Answer, Broken, Emit, Flow, HangUp, How, Listen, More, Pause, Send

POLL_S = 0.1
SILENCE_S = 20.0
"""A status stream says something every second, and a comment at least every 15 s (spec: queue.md §1)."""
LAST_SECONDS = 1.5
"""So close to a caller's time limit it is polled: a stream is looked at only when it speaks."""


@dataclass(frozen=True)
class Caller:
    """Who calls which server. `clock`, `dice` (0 to 1) are arguments for tests."""

    place: Place
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every call; the key is one of them."""
    timeout_s: float | None = 120.0
    clock: Callable[[], float] = monotonic
    dice: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Call:
    """What to send to an endpoint."""

    app: AppId
    method: str
    headers: tuple[tuple[str, str], ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """A queued request that the server has on disk."""

    app: AppId
    request_id: str


class TimeIsUp(Exception):
    """The caller's time limit passed; caught by the flow that knows what to do about it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The moment, on the caller's clock, after which nobody waits any more. None: there is none."""

    at: float | None = None

    def left(self, caller: Caller) -> float | None:
        """Raises TimeIsUp when nothing is left."""
        if self.at is None:
            return None
        left = self.at - caller.clock()
        if left <= 0:
            raise TimeIsUp
        return left

    def within(self, caller: Caller, seconds: float | None) -> float | None:
        """`seconds`, or what is left if that is less."""
        left = self.left(caller)
        return seconds if left is None else left if seconds is None else min(seconds, left)


NO_LIMIT = Limit()


# --- one exchange ---------------------------------------------------------------------------------------------------------


def exchange(caller: Caller, kind: Kind, send: Send, *, limit: Limit = NO_LIMIT, request_id: str = "") -> Flow[Answer]:
    """Send, and again while that is worth it. Any status is an answer; raises ClientConnectionError if none came."""
    attempt = 1
    while True:
        reply = yield Send(send.method, send.url, send.headers, send.content, limit.within(caller, send.timeout_s))
        pause = repeating.pause_s(kind, send, reply, attempt, caller.dice())
        if pause is None:
            break
        attempt += 1
        yield Pause(limit.within(caller, pause) or 0)
        limit.left(caller)
    if isinstance(reply, Broken):
        limit.left(caller)  # what broke because the time was up is no broken connection
        raise _unreachable(send, reply, kind, request_id)
    return reply


def _unreachable(send: Send, broken: Broken, kind: Kind, request_id: str) -> ClientConnectionError:
    where = send.url.partition("?")[0]
    if broken.how is How.WRONG:
        return ClientConnectionError(f"{where} cannot be called: {broken.text}.")
    if request_id:
        hint = f"The request {request_id} goes on: ask for its result again when the server is back."
    elif kind is Kind.DIRECT and broken.how is not How.REFUSED:
        hint = "The call may have run; it is not repeated by itself."
    else:
        hint = "Is the server running, and is ROOST_HOST its address?"
    what = {How.REFUSED: "Nobody answers at", How.SILENT: "No answer in time from"}.get(broken.how, "The connection broke to")
    return ClientConnectionError(f"{what} {where}: {broken.text}.", hint=hint, request_id=request_id)


def checked(answer: Answer, request_id: str = "") -> Answer:
    """The answer if it is a success; else raises the ClientHTTPError that it is."""
    if answer.is_success:
        return answer
    try:
        body = answer.json()
    except ValueError:
        body = None
    fields: Mapping[str, Any] = body if isinstance(body, dict) else {}
    detail = fields.get("detail")
    hint = str(fields.get("hint") or "")
    if detail is None:
        detail, hint = _unsaid(answer, fields, hint)
    raise ClientHTTPError(
        detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False),
        answer.status_code,
        error_type=fields.get("error_type") or answer.headers.get("x-fal-error-type"),
        request_id=request_id or answer.headers.get("x-fal-request-id", ""),
        response_headers=answer.headers,
        content=answer.content,
        hint=hint,
    )


def _unsaid(answer: Answer, fields: Mapping[str, Any], hint: str) -> tuple[str, str]:
    """Words for an error answer that has none."""
    match fields.get("status"):
        case "NOT_FOUND":
            return "The server has no such request.", hint or "Its result may be past its retention, or the key may be another one's."
        case "ALREADY_COMPLETED":
            return "The request is completed already.", hint
        case _:
            pass
    if 300 <= answer.status_code < 400 and (target := answer.headers.get("location")):
        return f"The server sends callers on to {target}.", hint or "Set ROOST_HOST to the address that it has now."
    words = answer.content[:300].decode(errors="replace").strip()
    return words or f"The answer was {answer.status_code}.", hint


def merged(first: tuple[tuple[str, str], ...], then: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Both, and of those with one name the later. Names are in lower case."""
    return tuple({**dict(first), **dict(then)}.items())


# --- direct calls ---------------------------------------------------------------------------------------------------------


def run(caller: Caller, call: Call, timeout_s: float | None) -> Flow[Answer]:
    """One direct call. It is sent again only if it certainly reached no runner."""
    send = Send(call.method, caller.place.direct(call.app), merged(caller.headers, call.headers), call.content, timeout_s)
    return checked((yield from exchange(caller, Kind.DIRECT, send)))


def stream(caller: Caller, call: Call, timeout_s: float | None) -> Flow[None]:
    """One direct call whose answer is server-sent events: emits each one's data, parsed if it is JSON."""
    send = Send(call.method, caller.place.direct(call.app), merged(caller.headers, call.headers), call.content, timeout_s)
    attempt = 1
    while True:
        reply = yield Listen(send)
        pause = repeating.pause_s(Kind.DIRECT, send, reply, attempt, caller.dice())
        if pause is None:
            break
        attempt += 1
        yield Pause(pause)
    if isinstance(reply, Broken):
        raise _unreachable(send, reply, Kind.DIRECT, "")
    checked(reply)
    events = Events()
    while chunk := (yield More()):
        if isinstance(chunk, Broken):
            raise _unreachable(send, chunk, Kind.DIRECT, "")
        for data in events.feed(chunk):
            yield Emit(_json_or_text(data))
    yield HangUp()


def _json_or_text(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


# --- queued calls ---------------------------------------------------------------------------------------------------------


def submit(caller: Caller, call: Call, *, limit: Limit = NO_LIMIT) -> Flow[Ticket]:
    """Put a request into the queue. When this returns, it is on the server's disk.

    The call carries an idempotency key, so that what is sent again after a broken connection is the same request.
    """
    send = Send(call.method, caller.place.submit(call.app), merged(caller.headers, call.headers), call.content, caller.timeout_s)
    answer = checked((yield from exchange(caller, Kind.SUBMIT, send, limit=limit)))
    try:
        return Ticket(call.app, str(answer.json()["request_id"]))
    except (ValueError, KeyError, TypeError) as exc:
        raise ClientHTTPError(
            "The answer to the submit names no request.", answer.status_code, content=answer.content, hint="Is this address a roost server?"
        ) from exc


def status(caller: Caller, ticket: Ticket, *, with_logs: bool, limit: Limit = NO_LIMIT) -> Flow[Status]:
    """Where the request is now."""
    send = Send("GET", f"{_url(caller, ticket)}/status?logs={int(with_logs)}", caller.headers, b"", caller.timeout_s)
    answer = yield from exchange(caller, Kind.ASK, send, limit=limit, request_id=ticket.request_id)
    return statuses.parse(_json_of(checked(answer, ticket.request_id)))


def cancel(caller: Caller, ticket: Ticket) -> Flow[None]:
    """Ask for the request to be cancelled. One that is completed already raises ClientHTTPError (400)."""
    send = Send("PUT", f"{_url(caller, ticket)}/cancel", caller.headers, b"", caller.timeout_s)
    checked((yield from exchange(caller, Kind.ASK, send, request_id=ticket.request_id)), ticket.request_id)


def watch(caller: Caller, ticket: Ticket, *, with_logs: bool, interval_s: float | None, limit: Limit = NO_LIMIT) -> Flow[None]:
    """Emit the request's status, on every change and in between, until it is Completed. An interval that was named polls."""
    if interval_s is None and (yield from _watch_stream(caller, ticket, with_logs, limit)):
        return
    while True:
        now = yield from status(caller, ticket, with_logs=with_logs, limit=limit)
        yield Emit(now)
        if isinstance(now, Completed):
            return
        yield Pause(limit.within(caller, POLL_S if interval_s is None else interval_s) or 0)


def _watch_stream(caller: Caller, ticket: Ticket, with_logs: bool, limit: Limit) -> Flow[bool]:
    """Emit statuses as the server pushes them. False: not to the end, polling has to go on."""
    url = f"{_url(caller, ticket)}/status/stream?logs={int(with_logs)}"
    failures = 0
    while True:
        left = limit.left(caller)
        if left is not None and left < LAST_SECONDS:
            return False
        send = Send("GET", url, (*caller.headers, ("accept", "text/event-stream")), b"", limit.within(caller, SILENCE_S))
        reply = yield Listen(send)
        if isinstance(reply, Answer) and reply.is_success and reply.content_type == "text/event-stream":
            heard, reply = yield from _listen(caller, with_logs, limit)
            if reply is None:
                return True
            failures = 0 if heard else failures
        elif isinstance(reply, Answer) and reply.is_success:
            yield HangUp()
            return False
        failures += 1
        pause = repeating.pause_s(Kind.ASK, send, reply, failures, caller.dice())
        if pause is None or (isinstance(reply, Broken) and reply.how is How.SILENT):
            # Polling says what is wrong, or works where something between us and the server keeps streams back.
            return False
        yield Pause(limit.within(caller, pause) or 0)


def _listen(caller: Caller, with_logs: bool, limit: Limit) -> Flow[tuple[bool, Broken | None]]:
    """Read one open status stream: whether it said anything, and how it broke; None if it went on until the request was completed."""
    events, logs, heard = Events(), list[Log](), False
    while True:
        chunk = yield More()
        if not chunk or isinstance(chunk, Broken):
            yield HangUp()
            return heard, chunk or Broken(How.CUT if heard else How.SILENT, "the status stream ended early")
        for data in events.feed(chunk):
            now = statuses.parse(_json_or_text(data))
            heard = True
            if with_logs:
                # A stream begins with all lines so far, also one that was opened again.
                logs = logs + statuses.logs_of(now)
                now = statuses.with_logs(now, logs)
            yield Emit(now)
            if isinstance(now, Completed):
                yield HangUp()
                return True, None
        if limit.at is not None and limit.at - caller.clock() < LAST_SECONDS:
            yield HangUp()
            return heard, Broken(How.SILENT, "the caller's time is almost up")


def answer(caller: Caller, ticket: Ticket, *, interval_s: float | None = None, limit: Limit = NO_LIMIT) -> Flow[Answer]:
    """Wait until the request is completed and fetch what it answered, whatever its status."""
    waiting = watch(caller, ticket, with_logs=False, interval_s=interval_s, limit=limit)
    yield from _unheard(waiting)
    return (yield from fetch(caller, ticket, limit=limit))


def fetch(caller: Caller, ticket: Ticket, *, limit: Limit = NO_LIMIT) -> Flow[Answer]:
    """What a completed request answered."""
    send = Send("GET", _url(caller, ticket), caller.headers, b"", caller.timeout_s)
    return (yield from exchange(caller, Kind.RESULT, send, limit=limit, request_id=ticket.request_id))


def _unheard(flow: Flow[None]) -> Flow[None]:
    """The same flow for a caller who does not want what it emits."""
    reply: Any = None
    while True:
        try:
            step = flow.send(reply)
        except StopIteration:
            return
        reply = None if isinstance(step, Emit) else (yield step)


def subscribe(
    caller: Caller,
    call: Call,
    *,
    with_logs: bool = False,
    updates: bool = True,
    interval_s: float | None = None,
    client_timeout_s: float | None = None,
) -> Flow[Answer]:
    """Submit, wait, fetch. Emits the Ticket once it is enqueued, then each status if somebody wants `updates`.

    Raises ClientTimeoutError after `client_timeout_s`, once the request was asked to cancel.
    """
    limit = Limit(None if client_timeout_s is None else caller.clock() + client_timeout_s)
    ticket: Ticket | None = None
    try:
        ticket = yield from submit(caller, call, limit=limit)
        yield Emit(ticket)
        waiting = watch(caller, ticket, with_logs=with_logs, interval_s=interval_s, limit=limit)
        yield from waiting if updates else _unheard(waiting)
        return (yield from fetch(caller, ticket, limit=limit))
    except TimeIsUp as exc:
        assert client_timeout_s is not None
        if ticket is not None:
            # Once: whoever has no more time does not wait for a server that is not there.
            yield Send("PUT", f"{_url(caller, ticket)}/cancel", caller.headers, b"", 5.0)
        raise ClientTimeoutError(client_timeout_s, ticket.request_id if ticket else None) from exc


def _url(caller: Caller, ticket: Ticket) -> str:
    return caller.place.request(ticket.app, ticket.request_id)


def _json_of(answer: Answer) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.content.decode(errors="replace")
