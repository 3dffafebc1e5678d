"""What the calls of a handler take over from the call that it serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import httpx
import pytest

import roost
from roost.client import inherited
from roost.client.inherited import Served, end_ms, fields
from tests.unit.client.fake import HOST, FakeServer

NOW = 1_700_000_000_000
TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1", "baggage": "who=ada"}


@pytest.fixture
def serve() -> Iterator[None]:
    yield
    inherited.served_by(lambda: None)


def serving(headers: Mapping[str, str], ends_ms: int | None) -> None:
    inherited.served_by(lambda: Served(headers, ends_ms))


def test_the_trace_goes_on_as_it_came_and_nothing_else_does():
    assert fields(Served({**TRACE, "cookie": "a", "authorization": "Key a:b", "x-mine": "1"}, None), NOW, deadline=True) == TRACE


@pytest.mark.parametrize(("left_ms", "start_s"), [(90_000, "90.0"), (1_234, "1.234"), (3, "0.2"), (-5_000, "0.2")])
def test_the_time_that_is_left_is_the_time_to_start_in(left_ms: int, start_s: str):
    found = fields(Served({}, NOW + left_ms), NOW, deadline=True)
    assert found == {"x-fal-request-timeout": start_s, "x-roost-deadline": str(NOW + left_ms)}


def test_what_is_submitted_for_later_has_no_deadline():
    assert fields(Served(TRACE, NOW + 1_000), NOW, deadline=False) == TRACE


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, NOW + 60_000),
        (str(NOW + 9_000), NOW + 9_000),
        (str(NOW + 99_000), NOW + 60_000),
        # Of a request that was sent again when its first caller had long gone.
        (str(NOW - 1), NOW + 60_000),
        ("soon", NOW + 60_000),
        ("-1", NOW + 60_000),
        ("9" * 5_000, NOW + 60_000),
        ("٣", NOW + 60_000),
    ],
)
def test_a_call_ends_with_its_apps_limit_or_with_the_call_that_waits_for_it(said: str | None, expected: int):
    assert end_ms({} if said is None else {"x-roost-deadline": said}, NOW, 60_000) == expected


def test_outside_of_a_handler_nothing_is_taken_over():
    server = FakeServer()
    roost.Client("id:secret", host=HOST, transport=httpx.MockTransport(server)).run("me/hello", {})
    assert roost.outgoing_headers() == {}
    assert "x-fal-request-timeout" not in server.seen[0].headers


@pytest.mark.usefixtures("serve")
def test_the_client_sends_them_with_calls_that_the_handler_waits_for_and_the_trace_with_submits():
    server = FakeServer()
    client = roost.Client("id:secret", host=HOST, transport=httpx.MockTransport(server))
    serving(TRACE, 4_000_000_000_000)
    client.run("me/hello", {})
    client.subscribe("me/hello", {})
    client.submit("me/hello", {})
    sent = [request.headers for request in server.seen if request.method == "POST"]
    assert [headers.get("traceparent") for headers in sent] == [TRACE["traceparent"]] * 3
    assert ["x-roost-deadline" in headers for headers in sent] == [True, True, False]
    assert ["x-fal-request-timeout" in headers for headers in sent] == [True, True, False]


@pytest.mark.usefixtures("serve")
async def test_the_asynchronous_client_does_the_same():
    server = FakeServer()
    client = roost.AsyncClient("id:secret", host=HOST, transport=httpx.MockTransport(server.later))
    serving(TRACE, 4_000_000_000_000)
    await client.run("me/hello", {})
    await client.submit("me/hello", {})
    assert [("traceparent" in request.headers, "x-roost-deadline" in request.headers) for request in server.seen] == [
        (True, True),
        (True, False),
    ]


@pytest.mark.usefixtures("serve")
def test_what_the_handler_says_itself_wins():
    server = FakeServer()
    client = roost.Client("id:secret", host=HOST, transport=httpx.MockTransport(server))
    serving(TRACE, 4_000_000_000_000)
    client.run("me/hello", {}, start_timeout=7, headers={"Traceparent": "mine"})
    assert server.seen[0].headers["x-fal-request-timeout"] == "7.0"
    assert server.seen[0].headers.get_list("traceparent") == ["mine"]
