"""What the gateway does past uvicorn's ASGI: bodies that are there already, and answers in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from roost.web.protocol import Caller, LimitedProtocol
from roost.wire.frames import Headers

App = Callable[[Any, Any, Any], Awaitable[None]]


class Wire(asyncio.Transport):
    """A caller's connection, seen from the server."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def connect(app: App) -> tuple[LimitedProtocol, Wire]:
    config = uvicorn.Config(app, http=LimitedProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)  # type: ignore[arg-type]
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"now")]
    protocol, wire = LimitedProtocol(config, state, {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def answered(request: bytes, status: int, headers: Headers, body: bytes, *, at_once: bool) -> tuple[bytes, bool, int]:
    """What goes over the wire for this answer, whether the connection ends with it, and how many requests were served."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        caller: Caller = scope["roost.caller"]
        if not (at_once and caller.answer(status, headers, body)):
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    protocol, wire = connect(app)
    for _ in range(2):
        protocol.data_received(request)
        for _ in range(3):
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    return wire.sent, wire.closed, protocol.server_state.total_requests


POST = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
LENGTH = (b"content-length", b"4")
TYPE = (b"content-type", b"application/json")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "request_",
    [POST, POST.replace(b"POST", b"HEAD"), POST.replace(b"1.1", b"1.0"), POST.replace(b"host: x", b"host: x\r\nconnection: close")],
)
@pytest.mark.parametrize("status", [200, 201, 204, 205, 304, 404, 500])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([LENGTH, TYPE], b"true"),
        ([TYPE, (b"content-length", b"0")], b""),
        ([TYPE], b"true"),
        ([LENGTH, TYPE], b"too long"),
        ([LENGTH, LENGTH], b"true"),
        ([LENGTH, (b"transfer-encoding", b"chunked")], b"true"),
        ([LENGTH, (b"connection", b"close")], b"true"),
        ([LENGTH, (b"x-split", b"a\r\nx-other: b")], b"true"),
        ([LENGTH, (b"x-bare", b"a\rb")], b"true"),
        ([LENGTH, (b"x-null", b"a\x00b")], b"true"),
        ([LENGTH, (b"x-tab", b"a\tb"), (b"x-latin", b"\xe9")], b"true"),
    ],
)
async def test_an_answer_in_one_piece_is_the_one_of_uvicorn(request_: bytes, status: int, headers: Headers, body: bytes):
    expected = await answered(request_, status, headers, body, at_once=False)
    assert await answered(request_, status, headers, body, at_once=True) == expected


async def test_a_usual_answer_leaves_in_one_piece():
    pieces: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        pieces.append(scope["roost.caller"].answer(200, [LENGTH, TYPE], b"true"))

    protocol, wire = connect(app)
    protocol.data_received(POST)
    await asyncio.sleep(0)
    assert pieces == [True]
    assert wire.sent == b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 4\r\ncontent-type: application/json\r\n\r\ntrue"
    protocol.connection_lost(None)


async def test_a_body_is_had_at_once_if_all_of_it_is_here():
    bodies: list[bytes | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append(scope["roost.caller"].whole_body(100))
        if bodies[-1] is None:
            await receive()
        scope["roost.caller"].answer(200, [LENGTH, TYPE], b"true")

    protocol, _ = connect(app)
    head = b"POST /a HTTP/1.1\r\nhost: x\r\n"
    for request in (POST, head + b"\r\n", head + b"content-length: 2\r\n\r\n{", b"}", head + b"content-length: 101\r\n\r\n" + b"x" * 101):
        protocol.data_received(request)
        for _ in range(3):
            await asyncio.sleep(0)
    assert bodies == [b"{}", b"", None, None]
    protocol.connection_lost(None)


async def test_a_large_body_that_is_here_does_not_stop_the_reading():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert len(scope["roost.caller"].whole_body(1_000_000)) == 100_000

    protocol, wire = connect(app)
    protocol.data_received(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000)
    assert not wire.reading
    await asyncio.sleep(0)
    assert wire.reading
    protocol.connection_lost(None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [[], [LENGTH], [(b"transfer-encoding", b"chunked")]])
@pytest.mark.parametrize("at_once", [False, True])
async def test_an_answer_that_has_no_body_brings_none(status: int, length: Headers, at_once: bool):
    """Its reader would take the body for the next answer, which may be somebody else's behind a proxy (faults.md S-28)."""
    sent, _, served = await answered(POST, status, [*length, TYPE], b"HTTP/1.1 200 OK\r\n\r\n", at_once=at_once)
    answer = b"HTTP/1.1 %d %b\r\ndate: now\r\ncontent-type: application/json\r\n\r\n" % (
        status,
        b"No Content" if status == 204 else b"Not Modified",
    )
    assert (sent, served) == (answer * 2, 2)
