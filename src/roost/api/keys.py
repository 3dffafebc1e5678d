"""Keys: made, listed, revoked. A secret is answered once and kept nowhere."""

from __future__ import annotations

from roost.api.answer import Answer, Empty, Json
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import Route
from roost.api.shapes import key_json
from roost.core.model import Key
from roost.wire import ids
from roost.wire.errors import RoostError

SCOPES = ("ADMIN", "API")
LONGEST_ALIAS = 255


class KeyCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._hints = parts.hints
        self._reload = parts.reload_keys
        self._hash = parts.hash_secret

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/v1/keys", self.list),
            Route("POST", "/v1/keys", self.create),
            Route("DELETE", "/v1/keys/{id}", self.revoke),
        )

    async def list(self, request: Request) -> Answer:
        return Json({"keys": [key_json(key) for key in await self._store.keys.list(request.owner)]})

    async def create(self, request: Request) -> Answer:
        body = await request.json()
        alias, scope = body.get("alias", ""), body.get("scope", "API")
        if not isinstance(alias, str) or len(alias) > LONGEST_ALIAS:
            raise RoostError("unprocessable", f"alias must be a text of at most {LONGEST_ALIAS} characters")
        if scope not in SCOPES:
            raise RoostError("unprocessable", f"scope must be ADMIN or API, not {scope!r}")
        secret = ids.secret()
        key = Key(ids.key_id(), request.owner, scope, alias, self._hash(secret), self._clock.now_ms(), None)
        await self._store.keys.create(key, actor=request.actor)
        await self._changed()
        return Json({"key_id": key.id, "key_secret": secret, "key": f"{key.id}:{secret}"}, status=201)

    async def revoke(self, request: Request) -> Answer:
        key_id = request.params["id"]
        own = {key.id: key for key in await self._store.keys.list(request.owner)}
        key = own.get(key_id)
        if key is None:
            raise RoostError("not_found", f"Key {key_id[:80]!r} not found", hint="`roost keys list` shows the keys of this account.")
        if key.scope == "ADMIN" and sum(1 for other in own.values() if other.scope == "ADMIN") == 1:
            raise RoostError(
                "conflict",
                "this is the last ADMIN key of the account; without one nobody could administer it",
                hint="Make another one first: roost keys create --scope ADMIN",
            )
        await self._store.keys.revoke(key_id, self._clock.now_ms(), actor=request.actor)
        await self._changed()
        return Empty()

    async def _changed(self) -> None:
        await self._reload()
        for topic in ("keys", "apps"):
            self._hints.give(topic)
