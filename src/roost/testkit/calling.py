"""A caller without a socket: one request to an ASGI app, which it may leave at any moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast

from roost.web.answers import Asgi
from roost.web.protocol import Caller
from roost.wire.frames import Headers


@dataclass(slots=True)
class Reply:
    """What the caller got. `status` 0: no answer at all."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    complete: bool = False
    """The end of the body arrived."""
    broken: bool = False
    """The connection was broken from the other side."""
    heads: int = 0
    """Responses that began; more than one is a bug."""
    ms: int = 0
    """From the request to its end."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error_type(self) -> str:
        return self.headers.get("x-fal-error-type", "")

    @property
    def detail(self) -> str:
        return str(self.json["detail"])


class Calling:
    """One request under way. Await it for its Reply."""

    def __init__(self, app: Asgi, request: MutableMapping[str, Any], body: bytes, now_ms: Callable[[], int]) -> None:
        self.reply = Reply()
        self.left = False
        """The caller hung up."""
        self._body: bytes | None = body
        self._now_ms = now_ms
        self._began_ms = now_ms()
        self._gone = asyncio.Event()
        # The transport's only use here is to be aborted.
        self._caller = Caller(cast("asyncio.Transport", self))
        request["roost.caller"] = self._caller
        self._task = asyncio.get_running_loop().create_task(self._run(app, request))

    def __await__(self) -> Generator[Any, None, Reply]:
        return self._ended().__await__()

    @property
    def done(self) -> bool:
        return self._task.done()

    def hang_up(self) -> None:
        """The caller's connection breaks."""
        self.left = True
        self._end()

    def _end(self) -> None:
        self._gone.set()
        self._caller.gone()

    def abort(self) -> None:
        """The server breaks the connection."""
        self.reply.broken = self.reply.broken or not self.reply.complete
        self._end()

    def lose_server(self) -> None:
        """The process that served this call is gone."""
        self._task.cancel()

    async def _ended(self) -> Reply:
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()
        return self.reply

    async def _run(self, app: Asgi, request: MutableMapping[str, Any]) -> None:
        try:
            await app(request, self._receive, self._send)
        finally:
            self.reply.ms = self._now_ms() - self._began_ms
            # An HTTP server closes the connection of a response that its app did not complete.
            self.reply.broken = not self.reply.complete and not self._gone.is_set()

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._body is not None and not self._gone.is_set():
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if self._gone.is_set():
            return
        reply = self.reply
        if message["type"] == "http.response.start":
            fields: Headers = message["headers"]
            reply.heads += 1
            reply.status = message["status"]
            reply.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}
        else:
            reply.body += message.get("body", b"")
            reply.complete = not message.get("more_body", False)
