"""Answers that the platform itself gives, as ASGI messages."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from roost.wire.errors import RoostError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


async def send_error(
    send: Send, error: RoostError, request_id: str, headers: tuple[tuple[bytes, bytes], ...] = (), *, close: bool = False
) -> None:
    """A platform error in its flat form, with the request id that tells clients it is not a proxy's page (spec: gateway-http.md §5, §7).

    Pages of others cannot read it, unless it goes through `web.cors.opening`.
    """
    body = json.dumps(error.body()).encode()
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-fal-request-id", request_id.encode()),
        (b"x-fal-error-type", error.code.encode()),
        *headers,
    ]
    if close:
        fields.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
