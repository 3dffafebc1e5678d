"""A receiver of webhooks that writes a history (tests/histories): what it was told, and how it answered.

    async with Receiver(folder) as receiver, Load(roost, folder, webhook=receiver.url) as load:
        outcomes = await load.carry([Job(webhook="ok")])
        await receiver.told(outcome.request for outcome in outcomes)

The last word of the URL says how it behaves: ok; again: the first try of each request is answered 500; rough: one in four breaks the connection,
is answered 503, or has ten megabytes for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from tests.histories.history import Notified, Writer, now

MEGABYTES = b"x" * 10_000_000
PATIENCE_S = 60.0


class NotTold(AssertionError):
    """Some requests' webhooks did not come; says whose."""


@dataclass
class Receiver:
    """One HTTP server on this machine."""

    folder: Path
    dice: random.Random = field(default_factory=lambda: random.Random(6))
    writer: Writer = field(init=False)
    _server: asyncio.Server = field(init=False)
    _seen: dict[str, int] = field(default_factory=dict[str, int])
    """By request: tries so far."""
    _answered: set[str] = field(default_factory=set[str])
    """Requests whose webhook was answered 200."""
    _connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = field(default_factory=dict[asyncio.Task[Any], asyncio.StreamWriter])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    @property
    def tries(self) -> int:
        return sum(self._seen.values())

    async def __aenter__(self) -> Self:
        self.writer = Writer(self.folder / "receiver.jsonl")
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for connection in self._connections.values():
            connection.transport.abort()
        if self._connections:
            await asyncio.wait(list(self._connections))
        self.writer.close()

    async def told(self, requests: Iterable[str], patience_s: float = PATIENCE_S) -> None:
        """Wait until it has the webhook of each."""
        wanted = set(requests)
        deadline = time.monotonic() + patience_s
        while missing := wanted - self._answered:
            if time.monotonic() > deadline:
                raise NotTold(f"{len(missing)} of {len(wanted)} webhooks did not come in {patience_s:g} s: {sorted(missing)[:5]}")
            await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(fields["content-length"]))
                answer = self._answer(head.split()[1], body)
                if answer is None:
                    break
                status, said = answer
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(said), said))
                await writer.drain()
        writer.transport.abort()

    def _answer(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        """None: the connection breaks."""
        notice: dict[str, Any] = json.loads(body)
        request = notice["request_id"]
        tries = self._seen[request] = self._seen.get(request, 0) + 1
        answer: tuple[int, bytes] | None = (200, b"{}")
        if path.endswith("again") and tries == 1:
            answer = (500, b"")
        elif path.endswith("rough") and self.dice.random() < 0.25:
            answer = self.dice.choice((None, (503, b""), (200, MEGABYTES)))
        payload = notice["payload"]
        token = payload.get("token", "") if isinstance(payload, dict) else ""
        digest = hashlib.sha256(body).hexdigest()
        # Before the answer: what the server may hear must be in the history.
        self.writer.append(Notified(now(), request, notice["status"], digest, token, answer[0] if answer else 0))
        if answer is not None and answer[0] == 200:
            self._answered.add(request)
        return answer
