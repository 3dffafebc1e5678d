"""`roost call --queue`: submit, tell on stderr how it goes, hand back what came out."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TextIO

from roost.cli.loglines import log_text
from roost.cli.output import colourful, say, seconds, tell, tell_json
from roost.client import calls, flows
from roost.client.addresses import AppId
from roost.client.carrier import Carrier, Said
from roost.client.errors import ClientError
from roost.client.flows import Call, Caller, Ticket
from roost.client.lighthttp import httpx
from roost.client.statuses import Completed, InProgress, Log, Queued, Status, logs_of
from roost.control.call import Answer
from roost.control.events import LogLine

if TYPE_CHECKING:
    from roost.cli.body import Body
    from roost.client.config import Target

CALL_S, CANCEL_S = 120.0, 5.0
LINES_AFTER_A_FAILURE = 40


@dataclass(frozen=True, slots=True)
class Wish:
    """What to submit. `timeout_s` is how long to wait for the result; None: as long as it takes."""

    application: str
    """OWNER/APP[/PATH]."""
    method: str
    headers: list[tuple[str, str]]
    body: Body | None
    priority: str
    timeout_s: float | None
    webhook: str = ""
    """URL that hears of the end."""

    def call(self) -> Call:
        call = Call(AppId.parse(self.application), self.method.upper(), tuple(self.headers), self.body.content if self.body else b"")
        return calls.queued_call(call, priority=self.priority or None, idempotency_key=None, webhook_url=self.webhook or None)


class Telling:
    """Says what is new in each status: the place in the queue when it changes, the lines that were not there before."""

    def __init__(self, logs: bool, stream: TextIO) -> None:
        self._wants_logs = logs
        self._stream = stream
        self._said = ""
        self._lines = 0
        self.ticket: Ticket | None = None

    def __call__(self, value: Ticket | Status) -> None:
        if isinstance(value, Ticket):
            self.ticket = value
            self._say(f"Submitted {value.request_id}")
            return
        # What it printed stands between its beginning and its end.
        ended = isinstance(value, Completed)
        if not ended:
            self._say(_in_words(value))
        if self._wants_logs and (lines := logs_of(value)):
            # Fewer than before: another attempt, whose lines begin again.
            self.lines(lines[self._lines if len(lines) >= self._lines else 0 :])
            self._lines = len(lines)
        if ended:
            self._say(_in_words(value))

    def lines(self, lines: list[Log]) -> None:
        for line in lines:
            text = log_text(_log_line(line, self.ticket.request_id if self.ticket else ""), colour=colourful(self._stream))
            print(text, file=self._stream, flush=True)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            print(f"  {text}", file=self._stream, flush=True)


def queued(target: Target, wish: Wish, stream: TextIO, *, logs: bool) -> Answer:
    """Submit, wait, and answer what came out, whatever its status. Ctrl-C cancels the request.

    Raises ClientError if nothing came out; after `wish.timeout_s` that is a ClientTimeoutError, and the request is cancelled.
    """
    caller = calls.caller(target, CALL_S)
    carrier, telling = _carrier(target), Telling(logs, stream)
    flow = flows.subscribe(caller, wish.call(), with_logs=logs, client_timeout_s=wish.timeout_s)
    try:
        found = carrier.finish(flow, telling)
    except KeyboardInterrupt:
        if telling.ticket is not None:
            _cancel(carrier, caller, telling.ticket)
        raise
    ticket = telling.ticket
    assert ticket is not None
    if not found.is_success and not logs:
        last = carrier.finish(flows.status(caller, ticket, with_logs=True))
        telling.lines(logs_of(last)[-LINES_AFTER_A_FAILURE:])
    return Answer(
        found.status_code,
        _phrase(found.status_code),
        caller.place.request(ticket.app, ticket.request_id),
        httpx.Headers(dict(found.headers)),
        iter((found.content,)),
    )


def detached(target: Target, wish: Wish, *, as_json: bool) -> None:
    """Submit, and print the request's id: it goes on by itself."""
    caller = calls.caller(target, CALL_S)
    ticket: Ticket = _carrier(target).finish(flows.submit(caller, wish.call()))
    if as_json:
        url = caller.place.request(ticket.app, ticket.request_id)
        tell_json({"request_id": ticket.request_id, "response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"})
        return
    tell(ticket.request_id)


def _carrier(target: Target) -> Carrier:
    return Carrier(Said(target.key, target.host, None, CALL_S), None, time.sleep)


def _cancel(carrier: Carrier, caller: Caller, ticket: Ticket) -> None:
    try:
        carrier.finish(flows.cancel(replace(caller, timeout_s=CANCEL_S), ticket))
    except ClientError as exc:
        say(f"Not cancelled: {exc}")
    else:
        say(f"Cancelled {ticket.request_id}")


def _in_words(status: Status) -> str:
    match status:
        case Queued(0):
            return "Queued, next in line"
        case Queued(position):
            return f"Queued, {position} ahead"
        case InProgress():
            return "In progress"
        case Completed(_, metrics, error):
            took = metrics.get("inference_time")
            words = f"Failed: {error}" if error else "Completed"
            return words if took is None else f"{words} after {seconds(round(took, 3))}"
        case _:
            return ""


def _log_line(line: dict[str, Any], request_id: str) -> LogLine:
    return LogLine(
        str(line.get("timestamp") or ""),
        str(line.get("level") or "STDOUT"),
        str(line.get("source") or "user").lower(),
        str(line.get("message") or ""),
        request_id,
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else ""
