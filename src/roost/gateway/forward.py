"""After a hand-over: requests that still arrive here, on connections that were open, go to the new server over plain HTTP.

They are few, so the cost of a second hop does not matter; what matters is that none of them fails (ARCHITECTURE §1, promise 3).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from roost.gateway.body import Body
from roost.web.answers import Receive, Scope, Send
from roost.web.headers import HOP_BY_HOP
from roost.web.passed_on import Seal
from roost.web.protocol import Caller
from roost.wire.errors import RoostError

_CONNECT_S = 30.0


class HandedOver(Exception):
    """This caller waited for a runner when the server handed over: the successor serves it."""


class Successor:
    """The new server, as this one reaches it. `seal` lets it know whom a request is from; `transport` replaces the network in tests."""

    def __init__(self, url: str, seal: Seal, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._seal = seal
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
            transport=transport,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def pass_on(self, scope: Scope, send: Send, content: Body | Callable[[], AsyncIterator[bytes]]) -> None:
        """Send the request on and its answer back; the connection ends after it. Raises RoostError when the successor does not answer."""
        caller: Caller | None = scope.get("roost.caller")
        passing = asyncio.current_task()
        if caller is not None and passing is not None:
            if caller.lost:
                return
            # The successor must learn that nobody waits any more: it sees this connection end.
            caller.on_lost = passing.cancel
        try:
            await self._exchange(scope, send, content)
        except asyncio.CancelledError:
            if caller is None or not caller.lost:
                raise
        finally:
            if caller is not None:
                caller.on_lost = None

    async def _exchange(self, scope: Scope, send: Send, content: Body | Callable[[], AsyncIterator[bytes]]) -> None:
        query = scope["query_string"]
        target = scope["roost.original_path"] + (b"?" + query if query else b"")
        headers = [(name, value) for name, value in scope["headers"] if name not in HOP_BY_HOP]
        headers.append(self._seal.write(scope))
        # As `target`, since a URL object would tidy up what the caller wrote.
        request = httpx.Request(
            scope["method"], self._client.base_url, headers=headers, content=_stream(content), extensions={"target": target}
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise RoostError("server_stopping", f"the server restarts and its successor did not answer: {error}") from error
        try:
            kept = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in (*HOP_BY_HOP, b"date")]
            await send({"type": "http.response.start", "status": response.status_code, "headers": [*kept, (b"connection", b"close")]})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()


async def _stream(content: Body | Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
    if isinstance(content, Body):
        start = 0
        while start < content.size:
            data = content.read(start, 1024 * 1024)
            start += len(data)
            yield data
        return
    async for chunk in content():
        yield chunk


def arriving(receive: Receive) -> Callable[[], AsyncIterator[bytes]]:
    """A request's body as it comes."""

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            message: Any = await receive()
            if message["type"] != "http.request":
                return
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    return chunks
