"""The CONNECT door, over real sockets of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias

import pytest

from roost.front.connect import CHUNK, Door, Limits, reason
from roost.front.destination import HEAD_END, Address
from roost.testkit.loop import VirtualLoop

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Serve = Callable[[Reader, Writer], Awaitable[None]]
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def until(condition: Callable[[], object]) -> None:
    """Let the loop go on as long as the condition does not hold."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("still not, after 10,000 turns of the loop")


async def echo(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write(b"<end>")
    writer.close()


def break_off(writer: Writer) -> None:
    """Not an end but a break, which the kernel tells the other side (RST)."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Place:
    """A door, servers behind it, and callers before it; everything ends with the test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def server(self, serve: Serve, family: socket.AddressFamily = socket.AF_INET) -> Address:
        """Somewhere to go."""

        async def connected(reader: Reader, writer: Writer) -> None:
            self._stack.callback(writer.close)
            with contextlib.suppress(ConnectionError):
                await serve(reader, writer)

        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        server = await asyncio.start_server(connected, host, 0, family=family)
        self._stack.callback(server.close)
        return Address(host, server.sockets[0].getsockname()[1])

    async def door(self, server: Address | None = None, limits: Limits | None = None) -> Door:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        door = Door(server or Address("127.0.0.1", 1), limits)
        await door.listen([self.listening])
        self._stack.callback(door.close)
        return door

    async def caller(self, first: bytes = b"") -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection(*self.listening.getsockname())
        self._stack.callback(writer.close)
        writer.write(first)
        return reader, writer

    async def tunnel(self, to: Address | str, then: bytes = b"") -> tuple[Reader, Writer]:
        """A caller whose CONNECT was answered with 200."""
        reader, writer = await self.caller(f"CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n".encode() + then)
        assert await reader.readuntil(HEAD_END) == ESTABLISHED
        return reader, writer


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield Place(stack)
    # Connections that were closed say so to their protocols in the loop's next turns.
    for _ in range(5):
        await asyncio.sleep(0)


def nobody() -> Address:
    """Where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", probe.getsockname()[1])


async def test_bytes_pass_both_ways_and_also_those_that_came_with_the_head(place: Place) -> None:
    await place.door()
    reader, writer = await place.tunnel(await place.server(echo), then=b"first words, ")
    writer.write(b"then more")
    assert await reader.readexactly(22) == b"first words, then more"


async def test_built_in_names_lead_to_our_server_and_no_other_name_does(place: Place) -> None:
    async def ours(reader: Reader, writer: Writer) -> None:
        writer.write(b"ours")
        writer.close()

    await place.door(await place.server(ours))
    for name in ("fal.run:443", "queue.fal.run:443", "REST.fal.ai:80"):
        reader, _ = await place.tunnel(name)
        assert await reader.read() == b"ours"
    reader, writer = await place.tunnel(await place.server(echo))
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"


async def test_who_has_said_its_last_word_still_hears(place: Place) -> None:
    door = await place.door()
    reader, writer = await place.tunnel(await place.server(echo))
    writer.write(b"last")
    writer.write_eof()
    assert await reader.read() == b"last<end>"
    await until(lambda: not door.passages)


async def test_who_hears_until_may_still_speak(place: Place) -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(reader: Reader, writer: Writer) -> None:
        writer.write_eof()
        heard.set_result(await reader.read())

    door = await place.door()
    reader, writer = await place.tunnel(await place.server(listen))
    assert await reader.read() == b""
    writer.write(b"all the same")
    writer.write_eof()
    assert await heard == b"all the same"
    await until(lambda: not door.passages)


async def test_a_whole_request_that_came_before_the_tunnel_is_answered(place: Place) -> None:
    await place.door()
    to = await place.server(echo)
    reader, writer = await place.caller(f"CONNECT {to} HTTP/1.0\r\n\r\nearly".encode())
    writer.write_eof()
    assert await reader.read() == ESTABLISHED + b"early<end>"


async def test_a_slow_reader_slows_its_sender_and_fills_no_memory(place: Place) -> None:
    size = 32 * 1024 * 1024
    block = bytes(range(256)) * 4096

    async def send(reader: Reader, writer: Writer) -> None:
        for _ in range(size // len(block)):
            writer.write(block)
            await writer.drain()
        writer.close()

    door = await place.door()
    reader, _ = await place.tunnel(await place.server(send))
    (passage,) = door.passages
    near, far = passage.near.transport, passage.far.transport if passage.far else None
    assert near is not None and far is not None
    await until(lambda: not far.is_reading())
    assert 0 < near.get_write_buffer_size() <= CHUNK
    got = 0
    while data := await reader.read(1 << 20):
        assert data == block[got % 256 : got % 256 + len(data)] or data == (block * 3)[got % 256 : got % 256 + len(data)]
        assert near.get_write_buffer_size() <= CHUNK
        got += len(data)
    assert got == size


async def test_nobody_there_is_502_with_a_sentence_in_the_first_line_too(place: Place) -> None:
    door = await place.door()
    to = nobody()
    reader, _ = await place.caller(f"CONNECT {to} HTTP/1.1\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(HEAD_END)
    sentence = f"{to} cannot be reached: connection refused"
    assert head.startswith(f"HTTP/1.1 502 Bad Gateway: {sentence}\r\n".encode())
    assert body == f"{sentence}\n".encode()
    assert f"content-length: {len(body)}".encode() in head
    await until(lambda: not door.tunnels)


async def test_a_far_side_that_is_silent_is_504(place: Place) -> None:
    await place.door(limits=Limits(dial_s=0))
    reader, _ = await place.caller(f"CONNECT {await place.server(echo)} HTTP/1.1\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 504 Gateway Timeout: ")


async def test_every_address_of_a_name_is_tried(place: Place) -> None:
    try:
        names = {entry[4][0] for entry in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}
    except OSError:
        names = set[object]()
    await place.door()
    # Where localhost is two addresses, one of them has nobody.
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if address in names:
            port = (await place.server(echo, family)).port
            reader, writer = await place.tunnel(f"localhost:{port}")
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET http://example.com/ HTTP/1.1\r\nhost: example.com\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"CONNECT example.com HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT example.com:443 HTTP/1.1\r\na: " + b"b" * 9000, b"431"),
        (b"CONNECT example.com:443 HTTP/1.1\r\na: " + b"b" * 9000 + b"\r\n\r\n", b"431"),
        (b"\x16\x03\x01" + b"\x00" * 9000, b"431"),
    ],
)
@pytest.mark.parametrize("piece", [1 << 20, 700])
async def test_a_refusal_reaches_whoever_still_sends(place: Place, head: bytes, status: bytes, piece: int) -> None:
    door = await place.door()
    reader, writer = await place.caller()
    for start in range(0, len(head), piece):
        writer.write(head[start : start + piece])
        await writer.drain()
        await asyncio.sleep(0)
    for _ in range(20):
        writer.write(b"more" * 100)
        await asyncio.sleep(0)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    writer.close()
    await until(lambda: not door.passages)


async def test_one_tunnel_too_many_is_503_and_there_is_room_again_when_one_ends(place: Place) -> None:
    door = await place.door(limits=Limits(tunnels=1))
    to = await place.server(echo)
    _, first = await place.tunnel(to)
    reader, _ = await place.caller(f"CONNECT {to} HTTP/1.1\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 503 Service Unavailable: ")
    first.close()
    await until(lambda: door.tunnels == 0)
    await place.tunnel(to)


async def test_who_hangs_up_before_there_is_a_tunnel_costs_until(place: Place) -> None:
    # A backlog that is full answers nobody: the dial goes on until it is given up.
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        door = await place.door()
        _, writer = await place.caller(f"CONNECT 127.0.0.1:{full.getsockname()[1]} HTTP/1.1\r\n\r\n".encode())
        await until(lambda: door.tunnels == 1)
        (passage,) = door.passages
        break_off(writer)
        await until(lambda: not door.passages)
        assert passage.dialling is not None
        await until(passage.dialling.done)
        assert passage.dialling.cancelled()


async def test_a_connection_that_breaks_ends_the_other(place: Place) -> None:
    async def reset(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1)
        break_off(writer)

    door = await place.door()
    reader, writer = await place.tunnel(await place.server(reset))
    writer.write(b"x")
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    await until(lambda: not door.passages)


async def test_closing_the_door_ends_every_tunnel(place: Place) -> None:
    door = await place.door()
    reader, _ = await place.tunnel(await place.server(echo))
    door.close()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    await until(lambda: not door.passages)


async def ended_after(loop: VirtualLoop, reader: Reader, since: float) -> float:
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    return loop.clock.seconds() - since


def passing_time(test: Callable[[Place, VirtualLoop], Awaitable[None]]) -> None:
    """Run it on a clock that jumps."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await test(Place(stack), loop)
        await asyncio.sleep(20)

    loop = VirtualLoop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


def test_who_does_not_say_where_to_is_sent_away_after_twenty_seconds() -> None:
    async def look(place: Place, loop: VirtualLoop) -> None:
        await place.door()
        began = loop.clock.seconds()
        silent, _ = await place.caller(b"CONNECT exam")
        assert (await silent.read()).startswith(b"HTTP/1.1 408 Request Timeout: ")
        assert 20 <= loop.clock.seconds() - began < 25

    passing_time(look)


def test_a_tunnel_ends_when_it_was_silent_for_an_hour() -> None:
    async def look(place: Place, loop: VirtualLoop) -> None:
        await place.door()
        reader, writer = await place.tunnel(await place.server(echo))
        await asyncio.sleep(3_000)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert 3_600 <= await ended_after(loop, reader, loop.clock.seconds()) < 3_610

    passing_time(look)


def test_a_tunnel_ends_sooner_when_one_end_has_said_its_last_word() -> None:
    async def deaf(reader: Reader, writer: Writer) -> None:
        while not writer.transport.is_closing():  # noqa: ASYNC110  # a transport tells nobody that it was closed
            await asyncio.sleep(10)

    async def look(place: Place, loop: VirtualLoop) -> None:
        door = await place.door()
        reader, writer = await place.tunnel(await place.server(deaf))
        await asyncio.sleep(3_000)
        writer.write_eof()
        assert 600 <= await ended_after(loop, reader, loop.clock.seconds()) < 610
        await asyncio.sleep(1)
        assert not door.passages

    passing_time(look)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no address is known for this name"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (OSError("Multiple exceptions: ..."), "none of its addresses takes connections"),
    ],
)
def test_failures_are_said_in_words(error: OSError, said: str) -> None:
    assert reason(error) == said
