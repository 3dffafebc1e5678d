"""TLS and plain HTTP on one port, over real sockets: told apart by the first bytes, and the same in all else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from roost.core.certificates import names
from roost.front import issuing
from roost.front.context import server_context
from roost.kit.timeouts import Timeouts
from roost.web.first_bytes import OPENING_S, Opening
from roost.web.http import HttpServer

NOW_MS = 1_800_000_000_000
AUTHORITY = issuing.authority("here", NOW_MS)
GET = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"


def in_servers_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in the loop that servers have: what is tested here is as much its work as ours."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(test(**arguments), 20))
        finally:
            loop.close()

    # Else pytest takes the wrapped coroutine for the test.
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a caller's who trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    leaf = issuing.leaf(AUTHORITY, names(()), NOW_MS)
    chain = folder / "leaf.pem"
    chain.write_bytes(leaf.certificate + leaf.key)
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller.load_verify_locations(cadata=AUTHORITY.certificate.decode())
    caller.verify_flags |= ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME
    return server_context(chain), caller


@pytest.fixture
def server_tls(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> ssl.SSLContext:
    return contexts[0]


@pytest.fixture
def trust(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> ssl.SSLContext:
    return contexts[1]


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop, in which both ends are, until it is so."""
    while not condition():  # noqa: ASYNC110  # nobody tells tests
        await asyncio.sleep(0)


# --- opening ----------------------------------------------------------------------------------------------------------------


class StillClock:
    """The clock of limits: it stands until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[..., object], tuple[object, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        self._due.append((self.now + seconds, callback, arguments))

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> None:
        self._due.append((when, callback, arguments))

    def move(self, seconds: float) -> None:
        self.now += seconds
        ringing = [one for one in self._due if one[0] <= self.now]
        self._due = [one for one in self._due if one[0] > self.now]
        for _, callback, arguments in ringing:
            callback(*arguments)


class Echo(asyncio.Protocol):
    """Says what it was given, and whether it came by TLS."""

    def __init__(self, secure: bool) -> None:
        self.secure = secure

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write((b"tls:" if self.secure else b"plain:") + data)


@dataclass
class Port:
    address: tuple[str, int]
    openings: set[Opening]
    clock: StillClock
    errors: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def dial(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address, ssl=context, server_hostname="localhost" if context else None)

    async def arrived(self, count: int = 1) -> None:
        """As many connections have been accepted and have not said what they are."""
        await until(lambda: len(self.openings) == count)


@contextlib.asynccontextmanager
async def port(context: ssl.SSLContext | None) -> AsyncIterator[Port]:
    loop = asyncio.get_running_loop()
    clock, openings = StillClock(), set[Opening]()
    timeouts = Timeouts(clock)  # type: ignore[arg-type]  # of a loop it needs the clock
    get = (lambda: context) if context is not None else None
    listening = await loop.create_server(lambda: Opening(openings, Echo, get, timeouts), "127.0.0.1", 0)
    one = Port(listening.sockets[0].getsockname(), openings, clock)
    loop.set_exception_handler(lambda _, context: one.errors.append(context))
    try:
        yield one
    finally:
        listening.close()
        for opening in list(openings):
            opening.close()
    await asyncio.sleep(0)
    assert one.errors == []


async def hung_up(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


@in_servers_loop
async def test_plain_and_tls_answer_on_one_port(server_tls: ssl.SSLContext, trust: ssl.SSLContext):
    async with port(server_tls) as one:
        for context, expected in ((None, b"plain:hello"), (trust, b"tls:hello")):
            reader, writer = await one.dial(context)
            writer.write(b"hello")
            assert await reader.readexactly(len(expected)) == expected
            writer.close()
        assert not one.openings


@in_servers_loop
async def test_one_byte_says_which_it_is_and_the_rest_may_come_as_it_likes(server_tls: ssl.SSLContext, trust: ssl.SSLContext):
    """A ClientHello byte by byte, then a whole conversation."""
    async with port(server_tls) as one:
        to_server, to_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
        caller = trust.wrap_bio(to_caller, to_server, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            caller.do_handshake()
        reader, writer = await one.dial()
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in to_server.read():
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        while True:
            to_caller.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                caller.do_handshake()
                break
        caller.write(b"hello")
        writer.write(to_server.read())
        heard = b""
        while heard != b"tls:hello":
            to_caller.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                heard += caller.read(100)
        writer.close()


@in_servers_loop
async def test_what_is_said_with_the_last_word_of_the_handshake_is_heard(server_tls: ssl.SSLContext, trust: ssl.SSLContext):
    """The caller's Finished and its first request in one write: nothing may get lost while the connection is given on."""
    async with port(server_tls) as one:
        to_server, to_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
        caller = trust.wrap_bio(to_caller, to_server, server_hostname="localhost")
        reader, writer = await one.dial()
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                caller.do_handshake()
                break
            if sent := to_server.read():
                writer.write(sent)
            to_caller.write(await reader.read(65536))
        caller.write(b"at once")
        writer.write(to_server.read())
        heard = b""
        while heard != b"tls:at once":
            to_caller.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                heard += caller.read(100)
        writer.close()


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"])
@in_servers_loop
async def test_silence_and_half_a_handshake_end_after_their_time(server_tls: ssl.SSLContext, said: bytes):
    async with port(server_tls) as one:
        reader, writer = await one.dial()
        writer.write(said)
        await one.arrived()
        one.clock.move(OPENING_S - 1)
        await asyncio.sleep(0)
        assert one.openings and not reader.at_eof()
        one.clock.move(2)
        assert await hung_up(reader)
        assert not one.openings
        writer.close()


@in_servers_loop
async def test_who_has_said_something_is_not_ended_by_that_time(server_tls: ssl.SSLContext, trust: ssl.SSLContext):
    async with port(server_tls) as one:
        reader, writer = await one.dial(trust)
        writer.write(b"a")
        assert await reader.readexactly(5) == b"tls:a"
        one.clock.move(OPENING_S * 2)
        writer.write(b"b")
        assert await reader.readexactly(5) == b"tls:b"
        writer.close()


@pytest.mark.parametrize(
    "garbage", [b"\x16", b"\x16\x03\x01\x00\x05hello", b"\x16\xff\xff\xff\xff", b"\x16\x03\x01\x02\x00\x01\x00", b"\x16" * 5000]
)
@in_servers_loop
async def test_a_handshake_that_is_none_ends_quietly(server_tls: ssl.SSLContext, garbage: bytes, capfd: pytest.CaptureFixture[str]):
    async with port(server_tls) as one:
        reader, writer = await one.dial()
        writer.write(garbage)
        with contextlib.suppress(ConnectionError):
            writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await until(lambda: not one.openings)
        writer.close()
    assert capfd.readouterr().err == ""


@in_servers_loop
async def test_a_caller_that_does_not_trust_us_ends_quietly(server_tls: ssl.SSLContext, capfd: pytest.CaptureFixture[str]):
    async with port(server_tls) as one:
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(ssl.SSLCertVerificationError):
            await one.dial(stranger)
        await until(lambda: not one.openings)
    assert capfd.readouterr().err == ""


@in_servers_loop
async def test_without_tls_who_tries_it_is_hung_up_on():
    async with port(None) as one:
        reader, writer = await one.dial()
        writer.write(b"\x16\x03\x01\x00\x05hello")
        assert await hung_up(reader)
        writer.close()
        reader, writer = await one.dial()
        writer.write(b"x")
        assert await reader.readexactly(7) == b"plain:x"
        writer.close()


@in_servers_loop
async def test_a_caller_that_leaves_before_it_says_anything_is_forgotten(server_tls: ssl.SSLContext):
    async with port(server_tls) as one:
        for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00"):
            _, writer = await one.dial()
            writer.write(said)
            await one.arrived()
            writer.close()
            await one.arrived(0)


# --- below HTTP -------------------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """An HTTP server whose app is the test's."""

    http: HttpServer
    address: tuple[str, int]

    async def dial(self, context: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address, ssl=context, server_hostname="localhost" if context else None)


@contextlib.asynccontextmanager
async def site(app: Callable[[Any, Any, Any], Awaitable[None]], context: ssl.SSLContext, shortcut: Any = None) -> AsyncIterator[Site]:
    http = HttpServer(app, shortcut, lambda: context)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        await http.listen([listening])
        try:
            yield Site(http, listening.getsockname())
        finally:
            await http.close()
            await until(lambda: not http.connections)


async def answer(send: Any, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


async def body_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(size)


@in_servers_loop
async def test_a_request_below_tls_says_https_and_who_calls(server_tls: ssl.SSLContext, trust: ssl.SSLContext):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, f"{scope['scheme']} {scope['client'][0]}".encode())

    async with site(app, server_tls) as one:
        for context, expected in ((None, b"http 127.0.0.1"), (trust, b"https 127.0.0.1")):
            reader, writer = await one.dial(context)
            for _ in range(3):  # one connection, several requests
                writer.write(GET)
                assert await body_of(reader) == expected
            writer.close()


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no request is meant for it")


class SchemeShortcut:
    """Answers with the scheme that a request's plan was made with."""

    def plan(self, request: Any) -> str:
        return request.scheme

    def holds(self, plan: str) -> bool:
        return True

    def begin(self, plan: str, door: Any, body: bytes) -> Any:
        said = plan.encode()
        assert door.answer_short(b"HTTP/1.1 200 OK\r\n", b"content-length: %d\r\n\r\n%b" % (len(said), said))
        from roost.web.shortcut import ANSWERED

        return ANSWERED


@in_servers_loop
async def test_a_head_that_was_seen_below_tls_is_another_one_without(server_tls: ssl.SSLContext, trust: ssl.SSLContext):
    """Heads are remembered by their bytes, which are the same."""

    async with site(never, server_tls, SchemeShortcut()) as one:
        for context, expected in ((trust, b"https"), (None, b"http"), (trust, b"https"), (None, b"http")):
            reader, writer = await one.dial(context)
            for _ in range(2):
                writer.write(GET)
                assert await body_of(reader) == expected
            writer.close()


@pytest.mark.parametrize("how", ["close", "break", "reset"])
@in_servers_loop
async def test_a_caller_who_hangs_up_below_tls_is_noticed_at_once(server_tls: ssl.SSLContext, trust: ssl.SSLContext, how: str):
    here, lost = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["roost.caller"].on_lost = lost.set
        here.set()
        await lost.wait()

    async with site(app, server_tls) as one:
        raw = socket.create_connection(one.address)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=raw.dup(), ssl=trust, server_hostname="localhost")
        transport.write(GET)
        await here.wait()
        if how == "close":
            # The orderly end: close_notify, then FIN.
            transport.close()
        elif how == "break":
            raw.shutdown(socket.SHUT_WR)
        else:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            transport.abort()
            raw.close()
        await asyncio.wait_for(lost.wait(), 5)
        transport.abort()
        raw.close()
        await until(lambda: not one.http.connections)


@in_servers_loop
async def test_a_body_larger_than_all_buffers_crosses_tls_both_ways(server_tls: ssl.SSLContext, trust: ssl.SSLContext):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        await answer(send, body)

    async with site(app, server_tls) as one:
        body = bytes(range(256)) * 20_000
        reader, writer = await one.dial(trust)
        writer.write(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert await body_of(reader) == body
        writer.close()


@in_servers_loop
async def test_idle_connections_are_shut_and_busy_ones_after_their_answer(server_tls: ssl.SSLContext, trust: ssl.SSLContext):
    go, here = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        here.set()
        await go.wait()
        await answer(send, b"late")

    async with site(app, server_tls) as one:
        idle, idle_writer = await one.dial(trust)
        silent, silent_writer = await one.dial(None)
        busy, busy_writer = await one.dial(trust)
        busy_writer.write(GET)
        await here.wait()
        await until(lambda: one.http.connections == 3)
        assert one.http.busy == 1
        one.http.stop_accepting()
        one.http.shut_idle()
        assert await hung_up(idle) and await hung_up(silent)
        go.set()
        assert await body_of(busy) == b"late"
        assert await hung_up(busy)
        for writer in (idle_writer, silent_writer, busy_writer):
            writer.close()
        await until(lambda: not one.http.connections)


@in_servers_loop
async def test_new_connections_get_the_context_of_their_moment(server_tls: ssl.SSLContext, trust: ssl.SSLContext, tmp_path: Path):
    leaf = issuing.leaf(AUTHORITY, names(["renewed.example"]), NOW_MS)
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate + leaf.key)
    now = [server_tls]
    http = HttpServer(never, None, lambda: now[0])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        await http.listen([listening])
        seen: list[bytes | None] = []
        for context in (server_tls, server_context(tmp_path / "leaf.pem")):
            now[0] = context
            _, writer = await asyncio.open_connection(*listening.getsockname(), ssl=trust, server_hostname="localhost")
            seen.append(writer.get_extra_info("ssl_object").getpeercert(True))
            writer.close()
        assert seen[0] != seen[1]
        await http.close()
        await until(lambda: not http.connections)
