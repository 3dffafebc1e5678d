"""Pieces of bundles: which are missing, and taking them."""

from __future__ import annotations

from typing import Final

from roost.api.answer import Answer, Empty, Json
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import Route
from roost.wire.errors import RoostError

BLOB_LIMIT: Final = 1024 * 1024 * 1024


class BlobCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._blobs = parts.blobs

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/v1/blobs/missing", self.missing),
            Route("PUT", "/v1/blobs/{sha256}", self.put),
        )

    async def missing(self, request: Request) -> Answer:
        hashes = (await request.json()).get("hashes")
        if not isinstance(hashes, list) or not all(isinstance(item, str) for item in hashes):
            raise RoostError("unprocessable", "hashes must be a list of SHA-256 texts")
        return Json({"missing": await self._blobs.missing(hashes)})

    async def put(self, request: Request) -> Answer:
        await self._blobs.put(request.params["sha256"], request.chunks(BLOB_LIMIT))
        return Empty()
