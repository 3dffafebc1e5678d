"""What goes to a URL that a caller gave, over sockets and in tests: both answer, fail and refuse in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from roost.engines.webhooks.courier import Fetch
from roost.kit.fetch import Fetcher, FetchFailed, Limits, Refused
from roost.testkit.receivers import Fails, IsRefused, Receivers, Says


@dataclass
class Case:
    """Something to fetch with, and how to say how the receiver behaves."""

    fetch: Fetch
    url: str
    answers: list[int]
    """Statuses; 0: it never answers."""
    received: list[bytes]


async def real() -> AsyncIterator[Case]:
    answers: list[int] = []
    received: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)[b"content-length"])
        received.append(await reader.readexactly(size))
        status = answers.pop(0)
        if not status:
            await over.wait()
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fetcher = Fetcher([f"127.0.0.1:{port}"])
    yield Case(fetcher, f"http://127.0.0.1:{port}/hook", answers, received)
    fetcher.close()
    over.set()
    server.close()
    await asyncio.sleep(0.01)


async def simulated() -> AsyncIterator[Case]:
    receivers = Receivers(lambda: 0)
    answers: list[int] = []
    receivers.behaves("receiver.example", lambda delivery: Says(status) if (status := answers.pop(0)) else Says(after_ms=10_000))
    receivers.behaves("127.0.0.2", lambda delivery: IsRefused())
    receivers.behaves("127.0.0.1", lambda delivery: Fails())

    class Seen(list[bytes]):
        def __getitem__(self, n: object) -> bytes:  # type: ignore[override]
            return receivers.received[n].body  # type: ignore[index]

    yield Case(receivers, "https://receiver.example/hook", answers, Seen())


@pytest.fixture(params=[real, simulated])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async for one in request.param():
        yield one


@pytest.mark.parametrize("status", [200, 204, 301, 404, 410, 500])
async def test_every_status_is_an_answer_and_no_redirect_is_followed(case: Case, status: int) -> None:
    case.answers.append(status)
    fetched = await case.fetch.fetch("POST", case.url, [(b"content-type", b"application/json")], b'{"a":1}')
    assert fetched.status == status
    assert case.received[0] == b'{"a":1}'


async def test_who_gives_no_answer_in_time_has_failed(case: Case) -> None:
    case.answers.append(0)
    with pytest.raises(FetchFailed, match=r"no answer within 0.05 s") as caught:
        await case.fetch.fetch("POST", case.url, [], b"{}", Limits(total_s=0.05))
    assert caught.value.timed_out


async def test_where_nobody_listens_it_fails_and_where_nothing_is_sent_it_is_refused(case: Case) -> None:
    with pytest.raises(Refused):
        await case.fetch.fetch("POST", "http://127.0.0.2:9/", [], b"{}")
