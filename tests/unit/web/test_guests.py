"""Connections of one address are counted, and too many are closed (faults.md S-25)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from roost.web.forwarded import Trusted
from roost.web.guests import Guests
from roost.web.http import HttpServer

GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"


def test_an_address_has_as_many_connections_as_the_limit_says() -> None:
    guests = Guests(2)
    assert [guests.come("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert guests.come("192.0.2.2")
    for _ in range(2):
        guests.go("192.0.2.1")
    assert [guests.come("192.0.2.1") for _ in range(2)] == [True, False]


def test_a_network_of_ipv6_is_one_guest_and_ipv4_in_its_clothes_is_ipv4() -> None:
    guests = Guests(1)
    assert guests.come("2001:db8::1") and not guests.come("2001:db8::ffff:2") and guests.come("2001:db8:0:1::1")
    assert guests.come("::ffff:192.0.2.1") and not guests.come("192.0.2.1")


@pytest.mark.parametrize("guests", [Guests(0), Guests(1, Trusted(["10.0.0.0/8"]).has)])
def test_without_a_limit_or_as_a_proxy_nobody_is_counted(guests: Guests) -> None:
    assert all(guests.come("10.1.2.3") for _ in range(1000))


def test_who_is_gone_is_forgotten() -> None:
    guests = Guests(5)
    for number in range(1000):
        guests.come(f"192.0.{number % 256}.{number // 256}")
        guests.go(f"192.0.{number % 256}.{number // 256}")
    assert not guests._here and not guests._told


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that lets an address have three connections."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    server = HttpServer(app, most_per_address=3)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.listen([listening])
    yield listening.getsockname()[1]
    await server.close()
    listening.close()
    await asyncio.sleep(0)


async def test_one_connection_too_many_is_closed_and_one_that_ends_makes_room(port: int) -> None:
    async def dial(say: bytes = GET) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(say)
        return reader, writer

    async def answered(reader: asyncio.StreamReader) -> bool:
        try:
            return (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False

    kept = [await dial() for _ in range(2)]
    assert [await answered(reader) for reader, _ in kept] == [True, True]
    kept.append(await dial(b"G"))  # one that has not said what it is counts as well
    refused, other = await dial()
    assert not await answered(refused)
    other.close()
    for reader, writer in kept[1:]:
        writer.close()
        assert await reader.read() == b""
    # The server hears of it a moment later.
    again: list[asyncio.StreamWriter] = []
    for _ in range(1000):
        reader, writer = await dial()
        if await answered(reader):
            again.append(writer)
        else:
            writer.close()
        if len(again) == 2:
            break
    assert len(again) == 2
    for writer in (kept[0][1], *again):
        writer.close()
