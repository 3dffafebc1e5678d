"""Callers for tests under load, on raw sockets: nothing retries, nothing is pooled behind the test's back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> object:
        return json.loads(self.body)


@dataclass
class Connection:
    """One HTTP/1.1 connection. Raises OSError or EOFError where a caller would see a broken one."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    reusable: bool = True

    @classmethod
    async def open(cls, address: str, tls: ssl.SSLContext | None = None) -> Connection:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), limit=4 * 1024 * 1024, ssl=tls))

    @property
    def stale(self) -> bool:
        """Whether the server has closed it: every client that keeps connections looks before it uses one again."""
        return not self.reusable or self.reader.at_eof() or self.writer.is_closing()

    async def ask(self, method: str, path: str, headers: Headers, body: bytes = b"") -> Response:
        lines = [
            f"{method} {path} HTTP/1.1",
            "host: roost",
            *(f"{name}: {value}" for name, value in headers),
            f"content-length: {len(body)}",
        ]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return await self.answer()

    async def answer(self) -> Response:
        """The next response on this connection."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self._chunks()])
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        self.reusable = headers.get("connection") != "close"
        return Response(status, headers, body)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@dataclass
class Call:
    """What became of one call. `waited_s` is what it took beyond the time that its handler wanted."""

    kind: str
    at_s: float
    waited_s: float
    problem: str = ""


@dataclass
class Prober:
    """Calls at a steady rate, whatever becomes of those before (open loop): on fresh connections and on kept ones, by turns."""

    address: str
    targets: list[tuple[str, Headers]]
    """Path and headers, by turns."""
    durations_ms: tuple[int, ...] = (5, 20, 80, 500)
    tls: ssl.SSLContext | None = None
    """What to trust; None: plain HTTP."""
    calls: list[Call] = field(default_factory=list)
    _kept: list[Connection] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def run(self, rate: float, until_done: Awaitable[object]) -> None:
        """Call until `until_done` is, then let every call come to its end."""
        done = asyncio.ensure_future(until_done)
        tasks: set[asyncio.Task[None]] = set()
        began = time.perf_counter()
        for number in self._numbers:
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            if done.done():
                break
            tasks.add(asyncio.create_task(self._call(number, time.perf_counter() - began)))
        await asyncio.gather(*tasks)
        for connection in self._kept:
            await connection.close()
        await done

    async def _call(self, number: int, at_s: float) -> None:
        # Each kind meets each target and each duration: the three lengths have no common divisor with the order of turns.
        kind = ("fresh", "kept")[number % 2]
        path, headers = self.targets[number // 2 % len(self.targets)]
        ms = self.durations_ms[number // (2 * len(self.targets)) % len(self.durations_ms)]
        mark = f"call-{number}"
        began = time.perf_counter()
        problem = ""
        try:
            answer = await asyncio.wait_for(self._ask(kind, path, headers, {"ms": ms, "mark": mark}), 30)
            if answer.status != 200 or mark.encode() not in answer.body:
                problem = f"{answer.status} {answer.body[:200]!r}"
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            problem = repr(error)
        self.calls.append(Call(kind, at_s, time.perf_counter() - began - ms / 1000, problem))

    async def _ask(self, kind: str, path: str, headers: Headers, body: object) -> Response:
        connection = await self._connection(kind)
        keep = False
        try:
            answer = await connection.ask("POST", path, [("content-type", "application/json"), *headers], json.dumps(body).encode())
            keep = kind == "kept" and connection.reusable
        finally:
            if not keep:
                await connection.close()
        self._kept.extend([connection] if keep else [])
        return answer

    async def _connection(self, kind: str) -> Connection:
        while kind == "kept" and self._kept:
            # The oldest, so that none is idle for long: what an idle time-out does is another test's matter.
            connection = self._kept.pop(0)
            if not connection.stale:
                return connection
            await connection.close()
        return await Connection.open(self.address, self.tls)

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if call.problem]

    def worst_s(self) -> float:
        return max(call.waited_s for call in self.calls)

    def report(self) -> str:
        waits = sorted(call.waited_s for call in self.calls)
        return (
            f"{len(self.calls)} calls, {len(self.failed)} failed; waits beyond the handler: median {waits[len(waits) // 2] * 1000:.0f} ms, "
            f"99 % {waits[len(waits) * 99 // 100] * 1000:.0f} ms, worst {waits[-1] * 1000:.0f} ms"
        )
