"""The JSON of the queue's answers, byte for byte (spec: queue.md §1; GAPS B6-B8). Written by hand: status is asked ten thousand times a second."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Final

from roost.core.requests import Request, RequestState
from roost.data.logs import LogLine
from roost.web.cors import OPEN

NOT_FOUND: Final = b'{"status":"NOT_FOUND"}'
CANCELLATION_REQUESTED: Final = b'{"status":"CANCELLATION_REQUESTED"}'
ALREADY_COMPLETED: Final = b'{"status":"ALREADY_COMPLETED"}'
JSON: Final = (b"content-type", b"application/json")


def submitted(request: Request, url: str, position: int) -> bytes:
    """The answer to a submit: the union of what clients of different ages read. `url` is the request's (web.addresses), which needs no escape."""
    return (
        f'{{"request_id":"{request.id}","gateway_request_id":"{request.gateway_request_id or request.id}","response_url":"{url}",'
        f'"status_url":"{url}/status","cancel_url":"{url}/cancel","status":"IN_QUEUE","queue_position":{position}}}'
    ).encode()


def status(request: Request, url: str, position: int, logs: Sequence[LogLine] | None) -> bytes:
    """The status object. `logs` None: they were not asked for, and are null."""
    state = request.state.value
    links = (
        f'{{"status":"{state}","request_id":"{request.id}","response_url":"{url}","status_url":"{url}/status","cancel_url":"{url}/cancel"'
    )
    if request.state is RequestState.IN_QUEUE:
        return f'{links},"queue_position":{position},"metrics":{{}}}}'.encode()
    shown = "null" if logs is None else json.dumps([_log(line) for line in logs], separators=(",", ":"))
    if request.state is RequestState.IN_PROGRESS:
        return f'{links},"logs":{shown},"metrics":{{}}}}'.encode()
    seconds = "null" if request.inference_ms is None else json.dumps(request.inference_ms / 1000)
    told = f',"error":{_text(request.error)}' if request.error else ""
    kind = f',"error_type":{_text(request.error_type)}' if request.error_type else ""
    return f'{links},"logs":{shown},"metrics":{{"inference_time":{seconds}}}{told}{kind}}}'.encode()


def failed(request: Request) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """The result of a request that ended without a response of its app: status, fields and body of the error."""
    kind = [(b"x-fal-request-timeout-type", request.timeout_type.encode())] if request.timeout_type else []
    code = request.error_type or "internal_error"
    return refused(request.status or 500, request.error or "the request has no result", code, request.id, kind)


def refused(
    status: int, detail: str, code: str, request_id: str, more: Iterable[tuple[bytes, bytes]] = ()
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An error in its flat form (spec: gateway-http.md §7)."""
    body = json.dumps({"detail": detail, "error_type": code}).encode()
    return status, fields(len(body), request_id, [(b"x-fal-error-type", code.encode()), *more]), body


def _log(line: LogLine) -> dict[str, object]:
    # Without an offset, as the public protocol has it: clients compare these as texts.
    moment = datetime.fromtimestamp(line.at_ms / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
    labels = {"fal_request_id": line.request_id, "fal_endpoint": line.endpoint}
    return {
        "message": line.message,
        "timestamp": moment,
        "level": line.level,
        "source": line.source.upper(),
        "labels": {name: value for name, value in labels.items() if value},
    }


def _text(value: str) -> str:
    return json.dumps(value)


_SAME: Final = [JSON, (b"cache-control", b"no-store"), *OPEN]
FIELD_LINES: Final = b"".join(b"%b: %b\r\n" % field for field in _SAME) + b"\r\n"
"""What `fields` has for every answer, as the end of a head."""


def fields(size: int, request_id: str, more: Iterable[tuple[bytes, bytes]] = ()) -> list[tuple[bytes, bytes]]:
    """The header fields of an answer of ours in JSON. `request_id` tells clients that it is no proxy's page (spec: gateway-http.md §5)."""
    return [(b"content-length", b"%d" % size), (b"x-fal-request-id", request_id.encode()), *_SAME, *more]
