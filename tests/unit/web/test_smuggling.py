"""A request is read in one way or refused (faults.md S-23), however its bytes arrive and whichever way it goes."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import httptools
import pytest
import uvicorn
from uvicorn.server import ServerState

from roost.web.framing import fault
from roost.web.protocol import LimitedProtocol
from roost.web.shortcut import ANSWERED, Door, Request, Shorts
from tests.smuggling import CASES, Case
from tests.unit.web.test_protocol import Wire

Got = list[tuple[str, str, bytes]]
ANSWER = b"HTTP/1.1 200 OK\r\n"


class Short:
    """Takes every request on the short way, and answers at once or in a task as the application would."""

    def __init__(self, got: Got, *, at_once: bool) -> None:
        self.got = got
        self.at_once = at_once

    def plan(self, request: Request) -> Request:
        return request

    def holds(self, plan: Request) -> bool:
        return True

    def begin(self, plan: Request, door: Door, body: bytes) -> Any:
        self.got.append((plan.method, target(plan.path, plan.query), body))
        assert not any(name in (b"x-late", b"authorization") for name, _ in plan.headers)
        if self.at_once:
            door.answer_short(ANSWER, b"content-length: 0\r\n\r\n")
            return ANSWERED
        call = Later(door)
        asyncio.get_running_loop().call_soon(call.hand_over)
        return call


class Later:
    def __init__(self, door: Door) -> None:
        self.door: Door | None = door

    def caller_lost(self) -> None:
        pass

    def hand_over(self) -> None:
        door, self.door = self.door, None
        if door is not None:
            door.hand_over_short("begun")


def target(path: bytes, query: bytes) -> str:
    return (path + (b"?" + query if query else b"")).decode()


def serve(got: Got, way: Literal["application", "short way", "handed over"]) -> tuple[LimitedProtocol, Wire]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert not any(name in (b"x-late", b"authorization") for name, _ in scope["headers"])
        body, message = b"", {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
        if "roost.begun" not in scope:
            got.append((scope["method"], target(scope["raw_path"], scope["query_string"]), body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, http=LimitedProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)  # type: ignore[arg-type]
    config.load()
    shorts = Shorts(Short(got, at_once=way == "short way")) if way != "application" else None
    protocol, wire = LimitedProtocol(config, ServerState(), {}, shorts=shorts), Wire()
    protocol.connection_made(wire)
    return protocol, wire


def statuses(sent: bytes) -> list[int]:
    """The statuses of what was sent, as one who reads answers one after another finds them."""
    found: list[int] = []

    class Reader:
        def on_message_begin(self) -> None:
            self.parser: Any

        def on_headers_complete(self) -> None:
            found.append(parser.get_status_code())

    parser: Any = httptools.HttpResponseParser(Reader())
    parser.feed_data(sent)
    return found


@pytest.mark.parametrize("way", ["application", "short way", "handed over"])
@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
async def test_a_request_is_read_in_one_way_or_refused(case: Case, size: int, way: Any) -> None:
    got: Got = []
    protocol, wire = serve(got, way)
    for at in range(0, len(case.sent), size):
        protocol.data_received(case.sent[at : at + size])
        if size > 1 or at % 16 == 0:
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert tuple(got) == case.got
    expected = [200] * len(case.got)
    found = statuses(wire.sent)
    if case.refused:
        assert found[:-1] == expected and found[-1] in (400, 431) and wire.closed
        assert b"x-fal-error-type: " in wire.sent and b"connection: close" in wire.sent
    else:
        assert found == expected
        assert wire.closed == (case.what == "an old version")
    protocol.connection_lost(None)
    await asyncio.sleep(0)


async def test_a_bad_request_does_not_answer_the_one_before_it() -> None:
    """Its 400 would be taken for the answer to the first, which is still being worked on."""
    begun = asyncio.Event()
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        begun.set()
        await go.wait()
        await send({"type": "http.response.body", "body": b"two"})

    config = uvicorn.Config(app, http=LimitedProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)  # type: ignore[arg-type]
    config.load()
    protocol, wire = LimitedProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    protocol.data_received(b"GET /me/app HTTP/1.1\r\nhost: x\r\n\r\n")
    await begun.wait()
    protocol.data_received(b"what is this\r\n\r\n")
    protocol.data_received(b"GET /me/app HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"400" not in wire.sent and not wire.closed
    go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert statuses(wire.sent) == [200, 400] and wire.closed
    protocol.connection_lost(None)


async def test_requests_before_an_answer_are_counted() -> None:
    """Each costs its sender twenty bytes and us some kilobytes."""
    go = asyncio.Event()
    served = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal served
        served += 1
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, http=LimitedProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)  # type: ignore[arg-type]
    config.load()
    protocol, wire = LimitedProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    protocol.data_received(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n" * 10_000)
    go.set()
    for _ in range(500):
        await asyncio.sleep(0)
    assert served == 33
    assert statuses(wire.sent) == [200] * 33 + [400] and wire.closed
    protocol.connection_lost(None)


async def test_a_body_that_breaks_while_it_is_answered_ends_the_connection() -> None:
    """Nothing can be said in the middle of an answer."""
    begun = asyncio.Event()
    last: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                last.append("disconnect")
                return

    config = uvicorn.Config(app, http=LimitedProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)  # type: ignore[arg-type]
    config.load()
    protocol, wire = LimitedProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    protocol.data_received(b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    await begun.wait()
    protocol.data_received(b"zz\r\n")
    for _ in range(3):
        await asyncio.sleep(0)
    assert wire.closed and wire.sent.count(b"HTTP/1.1") == 1 and last == ["disconnect"]
    protocol.connection_lost(None)


@pytest.mark.parametrize("host", [b"", b"x", b"x.y-z_1:80", b"127.0.0.1:8700", b"[::1]", b"[::1]:8700", b"[fe80::1%25eth0]:1", b"x:"])
def test_what_is_a_host(host: bytes) -> None:
    assert fault("GET", "1.1", b"/", [(b"host", host)]) is None
    if host and not host.endswith(b":"):
        assert fault("GET", "1.1", b"http://%b/a" % host, [(b"host", host.upper())]) is None
        assert fault("GET", "1.1", b"http://other%b/a" % host, [(b"host", host)])
