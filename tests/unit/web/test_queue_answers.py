"""The queue's JSON, byte for byte: clients of many ages read it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roost.core.requests import Request, RequestState
from roost.data.logs import LogLine
from roost.testkit import blank
from roost.web import queue_answers

URL = "http://q/me/app/requests/r1"
LINKS = f'"request_id":"r1","response_url":"{URL}","status_url":"{URL}/status","cancel_url":"{URL}/cancel"'
REQUEST = blank.REQUEST._replace(seq=1, id="r1", caller="ada", gateway_request_id="r1")
LINE = LogLine(1_734_708_937_120, "STDOUT", "user", 'said "hi"', "r1", "/", "runner")


def request(**fields: Any) -> Request:
    return REQUEST._replace(**fields)


def test_a_submit_is_answered_with_what_any_client_reads() -> None:
    assert queue_answers.submitted(REQUEST, URL, 3).decode() == (
        f'{{"request_id":"r1","gateway_request_id":"r1","response_url":"{URL}","status_url":"{URL}/status",'
        f'"cancel_url":"{URL}/cancel","status":"IN_QUEUE","queue_position":3}}'
    )


DONE = RequestState.COMPLETED


@pytest.mark.parametrize(
    ("asked", "logs", "expected"),
    [
        (REQUEST, None, f'{{"status":"IN_QUEUE",{LINKS},"queue_position":3,"metrics":{{}}}}'),
        (request(state=RequestState.IN_PROGRESS), None, f'{{"status":"IN_PROGRESS",{LINKS},"logs":null,"metrics":{{}}}}'),
        (request(state=RequestState.IN_PROGRESS), (), f'{{"status":"IN_PROGRESS",{LINKS},"logs":[],"metrics":{{}}}}'),
        (
            request(state=DONE, status=200, inference_ms=1500),
            None,
            f'{{"status":"COMPLETED",{LINKS},"logs":null,"metrics":{{"inference_time":1.5}}}}',
        ),
        (
            request(state=DONE, status=499, error='it was "cancelled"', error_type="client_cancelled"),
            None,
            (
                f'{{"status":"COMPLETED",{LINKS},"logs":null,"metrics":{{"inference_time":null}},'
                '"error":"it was \\"cancelled\\"","error_type":"client_cancelled"}'
            ),
        ),
        (
            request(state=DONE, status=422, error="Invalid status code: 422", inference_ms=7),
            None,
            f'{{"status":"COMPLETED",{LINKS},"logs":null,"metrics":{{"inference_time":0.007}},"error":"Invalid status code: 422"}}',
        ),
    ],
)
def test_the_status_of_each_state(asked: Request, logs: tuple[LogLine, ...] | None, expected: str) -> None:
    assert queue_answers.status(asked, URL, 3, logs).decode() == expected


def test_a_log_line_has_the_public_protocols_fields() -> None:
    told = json.loads(queue_answers.status(request(state=RequestState.IN_PROGRESS), URL, 0, (LINE,)))
    assert told["logs"] == [
        {
            "message": 'said "hi"',
            "timestamp": "2024-12-20T15:35:37.120000",
            "level": "STDOUT",
            "source": "USER",
            "labels": {"fal_request_id": "r1", "fal_endpoint": "/"},
        }
    ]


def test_a_failed_requests_result_is_its_error_in_the_flat_form() -> None:
    ended = request(state=DONE, status=504, error="too late", error_type="request_timeout", timeout_type="user")
    status, fields, body = queue_answers.failed(ended)
    assert (status, body) == (504, b'{"detail": "too late", "error_type": "request_timeout"}')
    assert dict(fields) | {b"content-length": b""} == {
        b"content-type": b"application/json",
        b"content-length": b"",
        b"x-fal-request-id": b"r1",
        b"cache-control": b"no-store",
        b"access-control-allow-origin": b"*",
        b"access-control-expose-headers": b"*",
        b"x-fal-error-type": b"request_timeout",
        b"x-fal-request-timeout-type": b"user",
    }
