"""Doors that are laid out: addresses that callers' clients have built in for what this server does not do yet (spec: clients.md §2.1, §2.4).

They answer what to do instead. Without them a client would read "there is nothing here", or take its own message for an answer of an app.
"""

from __future__ import annotations

from typing import Final

from roost.api.answer import Answer
from roost.api.request import Request
from roost.api.routes import May, Route
from roost.wire.errors import RoostError

_TOKENS: Final = ("/tokens", "/tokens/realtime")
_FILES: Final = (
    "/storage/auth/token",
    "/storage/upload/initiate",
    "/storage/upload/initiate-multipart",
    "/files/upload",
    "/files/upload/multipart",
)


class LaidOutDoors:
    """Nobody needs a key to hear that a thing is not there."""

    def routes(self) -> tuple[Route, ...]:
        tokens = (Route("POST", path, self.no_tokens, May.ANYBODY) for path in _TOKENS)
        return (*tokens, *(Route("POST", path, self.no_uploads, May.ANYBODY) for path in _FILES))

    async def no_tokens(self, request: Request) -> Answer:
        raise RoostError(
            "not_implemented",
            "this server issues no tokens for realtime connections and streams in client mode yet",
            hint="Call over HTTP with your key: run, the queue, or a stream in server mode; pages of a browser do so through /api/fal/proxy.",
        )

    async def no_uploads(self, request: Request) -> Answer:
        raise RoostError(
            "not_implemented",
            "this server takes no uploads yet",
            hint="Pass the file inside the input, as a data URI (data:image/png;base64,...), or pass a URL that the app can fetch.",
        )
