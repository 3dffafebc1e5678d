"""Heads that are known: a request is taken without parsing only if parsing it would have said the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from roost.testkit.dialling import Dialling
from roost.web.protocol import LimitedProtocol
from roost.web.shortcut import Door, Request, Shorts


class Call:
    def __init__(self, door: Door) -> None:
        self.door = door

    def caller_lost(self) -> None:
        pass

    def hand_over(self) -> None:
        self.door.hand_over_short("begun")


class Taker:
    """Takes every request."""

    def __init__(self) -> None:
        self.planned: list[Request] = []
        self.begun: list[tuple[Request, bytes]] = []
        self.stale = False

    def plan(self, request: Request) -> Request:
        self.planned.append(request)
        return request

    def holds(self, plan: Request) -> bool:
        return not self.stale

    def begin(self, plan: Request, door: Door, body: bytes) -> Call:
        self.begun.append((plan, body))
        return Call(door)


@pytest.fixture
def taker() -> Taker:
    return Taker()


def connection(taker: Taker) -> LimitedProtocol:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("this request was to be taken")

    config = uvicorn.Config(app, http=LimitedProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)  # type: ignore[arg-type]
    config.load()
    return LimitedProtocol(config, ServerState(), {}, shorts=Shorts(taker))


async def sent(taker: Taker, *requests: bytes) -> Dialling:
    """Each request on one connection, answered before the next."""
    protocol = connection(taker)
    dialling = Dialling(protocol, [], lambda: 0)
    for request in requests:
        protocol.data_received(request)
        if protocol.answer_short(b"HTTP/1.1 200 OK\r\n", b"content-length: 0\r\n\r\n"):
            assert dialling.done
            dialling.ask([])
    return dialling


HEAD = b"POST /me/app?q=1 HTTP/1.1\r\nHost: x\r\nX-Name: Value\r\ncontent-length: 2\r\n\r\n"


async def test_the_second_of_two_equal_heads_is_not_parsed(taker: Taker) -> None:
    await sent(taker, HEAD + b"{}", HEAD + b"[]")
    assert [body for _, body in taker.begun] == [b"{}", b"[]"]
    assert len(taker.planned) == 1
    request = taker.planned[0]
    assert (request.method, request.path, request.query) == ("POST", b"/me/app", b"q=1")
    assert request.headers == [(b"host", b"x"), (b"x-name", b"Value"), (b"content-length", b"2")]


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n" + HEAD + b"{}",
        HEAD.replace(b"content-length: 2", b"transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"{}" + HEAD[:10],
        HEAD.replace(b"Value", b"V" * 3000) + b"{}",
        HEAD.replace(b"content-length: 2", b"content-length: 02") + b"{}",
    ],
    ids=["empty lines before it", "chunks", "more behind it", "a large head", "a length in a form of its own"],
)
async def test_what_is_not_told_apart_by_its_length_alone_is_parsed_each_time(taker: Taker, request_: bytes) -> None:
    for _ in range(2):
        protocol = connection(taker)
        Dialling(protocol, [], lambda: 0)
        shorts = Shorts(taker)
        protocol._shorts = shorts
        protocol.data_received(request_)
        assert shorts.known == {}
    assert len(taker.begun) == 2


@pytest.mark.parametrize("more", [b"{", b"{} ", b""])
async def test_a_known_head_with_a_body_of_another_size_is_parsed(taker: Taker, more: bytes) -> None:
    protocol = connection(taker)
    dialling = Dialling(protocol, [], lambda: 0)
    protocol.data_received(HEAD + b"{}")
    protocol.answer_short(b"HTTP/1.1 200 OK\r\n", b"content-length: 0\r\n\r\n")
    dialling.ask([])
    protocol.data_received(HEAD + more)
    assert len(taker.begun) == (2 if len(more) > 2 else 1)


async def test_a_plan_that_holds_no_longer_is_made_anew(taker: Taker) -> None:
    taker.stale = True
    await sent(taker, HEAD + b"{}", HEAD + b"{}")
    assert len(taker.planned) == 2


async def test_many_different_heads_do_not_pile_up(taker: Taker) -> None:
    protocol = connection(taker)
    shorts = protocol._shorts
    assert shorts is not None
    dialling = Dialling(protocol, [], lambda: 0)
    for number in range(1500):
        protocol.data_received(HEAD.replace(b"Value", b"%d" % number) + b"{}")
        protocol.answer_short(b"HTTP/1.1 200 OK\r\n", b"content-length: 0\r\n\r\n")
        dialling.ask([])
    assert len(taker.begun) == 1500 and len(shorts.known) <= 1024


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", [b"/\xc3\xa9", b"/\xff?q"])
async def test_a_path_that_is_none_is_bad_http_before_anybody_takes_it(taker: Taker, target: bytes) -> None:
    protocol = connection(taker)
    dialling = Dialling(protocol, [HEAD.replace(b"/me/app?q=1", target) + b"{}"], lambda: 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert dialling.reply.status == 400
    assert taker.begun == []
