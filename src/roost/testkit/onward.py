"""The way from a server that has handed over to the next one, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from roost.testkit.calling import Calling
from roost.web.answers import Asgi, Scope


class Onward(httpx.AsyncBaseTransport):
    """What `gateway.forward.Successor` sends goes to the app that `open` names; until then it waits."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._app: asyncio.Future[Asgi] = asyncio.get_running_loop().create_future()

    def open(self, app: Asgi) -> None:
        self._app.set_result(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        app = await asyncio.shield(self._app)
        path, _, query = request.extensions["target"].partition(b"?")
        scope: Scope = {
            "type": "http",
            "method": request.method,
            "scheme": "http",
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("192.0.2.1", 40001),
        }
        reply = await Calling(app, scope, await request.aread(), self._now_ms)
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body)
