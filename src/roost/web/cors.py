"""What lets the scripts of any page call: calls, the queue, and what stands around calls (spec: gateway-http.md §9). The control plane has none of it.

Never with credentials: what a page may do here is what its own key may do, and no browser adds one by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from typing import Any, Final

from roost.web.answers import Scope, Send
from roost.wire.frames import Headers

_ALLOW_ORIGIN: Final = (b"access-control-allow-origin", b"*")
_EXPOSE: Final = (b"access-control-expose-headers", b"*")
OPEN: Final = (_ALLOW_ORIGIN, _EXPOSE)
"""On answers: browsers show a script nothing of one without the first, and of its fields nothing without the second."""
_PREFLIGHT: Final = (
    _ALLOW_ORIGIN,
    (b"access-control-allow-methods", b"*"),
    # By its name, since the star does not stand for it.
    (b"access-control-allow-headers", b"*, authorization"),
    (b"access-control-max-age", b"600"),
)


def is_preflight(scope: Scope) -> bool:
    """A browser asks whether a page may send what it is about to send."""
    return scope["method"] == "OPTIONS" and any(name == b"access-control-request-method" for name, _ in scope["headers"])


async def allow(send: Send, request_id: bytes) -> None:
    """Answer a preflight: it may."""
    await send({"type": "http.response.start", "status": 204, "headers": [*_PREFLIGHT, (b"x-fal-request-id", request_id)]})
    await send({"type": "http.response.body", "body": b""})


def opening(send: Send) -> Send:
    """`send` for answers that any page may read. What goes past `send` it does not see (`web.protocol.Caller.through_asgi`)."""

    def send_opened(message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": opened(message["headers"])}
        return send(message)

    return send_opened


def opened(headers: Headers) -> Headers:
    """The fields of an answer, for any page to read; what they say about that themselves stays."""
    names = {name for name, _ in headers}
    return [*headers, *(field for field in OPEN if field[0] not in names)]


def exposed(headers: Headers) -> Headers:
    """The fields of an app's answer. Where the app lets a page read it, the page may read the request's id as well."""
    names = [name for name, _ in headers]
    return [*headers, _EXPOSE] if _ALLOW_ORIGIN[0] in names and _EXPOSE[0] not in names else headers
