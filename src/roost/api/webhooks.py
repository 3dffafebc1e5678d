"""Webhooks: which are owed and how their tries went, sending one again, and the keys that receivers check signatures with."""

from __future__ import annotations

import asyncio
from typing import Final

from roost.api.answer import Answer, Json
from roost.api.parts import ApiParts
from roost.api.request import Request as Call
from roost.api.routes import May, Route
from roost.api.shapes import iso, try_json, webhook_json
from roost.api.sight import Sight, sees, sight, unknown_request
from roost.core.webhooks import Webhook, WebhookState
from roost.data.signing import JWKS_MAX_AGE_S
from roost.wire.errors import RoostError

USUAL: Final = 100
MOST: Final = 1_000
_AT_ONCE: Final = 256


class WebhookCalls:
    """A webhook is seen by whoever sees its request (api/sight.py), and may be sent again by them."""

    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._hints = parts.hints
        self._signer = parts.signer
        self._about = parts.about

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/.well-known/jwks.json", self.jwks, May.ANYBODY),
            Route("GET", "/v1/meta", self.meta, May.ANYBODY),
            Route("GET", "/v1/webhooks", self.list, May.READ),
            Route("POST", "/v1/webhooks/rotate-key", self.rotate_key),
            Route("POST", "/v1/webhooks/resend", self.resend_failed, May.READ),
            Route("GET", "/v1/webhooks/{id}", self.show, May.READ),
            Route("POST", "/v1/webhooks/{id}/resend", self.resend, May.READ),
        )

    async def jwks(self, call: Call) -> Answer:
        """What receivers verify signatures with (spec: queue.md §9)."""
        return Json(self._signer.jwks(), max_age_s=JWKS_MAX_AGE_S)

    async def meta(self, call: Call) -> Answer:
        return Json({"webhook_ip_ranges": list(self._about.webhook_ip_ranges)})

    async def list(self, call: Call) -> Answer:
        """That of the newest request first: `?app=&state=&caller=&limit=&before=<request id>`."""
        seen, state, before = sight(call), _state(call), call.query.get("before")
        rows = await self._store.webhooks.list(
            owner=seen.owner,
            name=seen.name,
            caller=seen.caller,
            state=state,
            limit=min(call.whole("limit") or USUAL, MOST),
            before_seq=(await self._own(call, before)).seq if before else None,
        )
        return Json({"webhooks": [webhook_json(row, _url(call, row)) for row in rows]})

    async def show(self, call: Call) -> Answer:
        webhook = await self._own(call, call.params["id"])
        tries = await self._store.webhooks.tries(webhook.request_id)
        return Json(webhook_json(webhook, _url(call, webhook)) | {"log": [try_json(one) for one in tries]})

    async def resend(self, call: Call) -> Answer:
        """Deliver it once more, with as many tries as the first time: 202."""
        webhook = await self._resend(call, await self._own(call, call.params["id"]))
        self._hints.give("webhooks")
        return Json(webhook_json(webhook, _url(call, webhook)), status=202)

    async def resend_failed(self, call: Call) -> Answer:
        """All of one app that were given up: `?app=owner/name`."""
        seen = sight(call)
        if seen.name is None:
            raise RoostError("unprocessable", "which app's webhooks are to be sent again is not said", hint="Add ?app=owner/name.")
        resent, before = 0, None
        while rows := await self._failed(seen, before):
            before = rows[-1].seq
            done = await asyncio.gather(*(self._resend(call, row) for row in rows), return_exceptions=True)
            for one in done:
                # Sent again by somebody else in this moment, or forgotten with its request.
                if isinstance(one, BaseException) and not isinstance(one, RoostError):
                    raise one
            resent += sum(1 for one in done if isinstance(one, Webhook))
            self._hints.give("webhooks")
        return Json({"application": f"{seen.owner}/{seen.name}", "resent": resent}, status=202)

    async def rotate_key(self, call: Call) -> Answer:
        """A new key for signatures: `{"at_once": bool}`. All keys that receivers accept are in `keys`."""
        at_once = (await call.json()).get("at_once", False)
        if not isinstance(at_once, bool):
            raise RoostError("unprocessable", f"at_once must be true or false, not {str(at_once)[:40]!r}")
        rotated = self._signer.rotate(at_once=at_once)
        kids = [key["kid"] for key in self._signer.jwks()["keys"]]
        return Json({"kid": rotated.kid, "signs_from": iso(rotated.signs_from_s * 1000), "keys": kids}, status=201)

    async def _failed(self, seen: Sight, before_seq: int | None) -> tuple[Webhook, ...]:
        return await self._store.webhooks.list(seen.owner, seen.caller, WebhookState.FAILED, _AT_ONCE, before_seq, seen.name)

    async def _resend(self, call: Call, webhook: Webhook) -> Webhook:
        now_ms = self._clock.now_ms()
        return await self._store.webhooks.resend(webhook.request_id, now_ms, now_ms + self._about.webhook_ms, call.actor)

    async def _own(self, call: Call, request_id: str) -> Webhook:
        """Raises `not_found`, also for what is somebody else's."""
        webhook = await self._store.webhooks.get(request_id)
        if webhook is not None and sees(call, webhook.owner, webhook.caller):
            return webhook
        request = await self._store.requests.get(request_id)
        if request is None or not sees(call, request.owner, request.caller):
            raise unknown_request(request_id)
        if not request.webhook:
            raise RoostError("not_found", f"Request {request_id} was submitted without a webhook", hint="fal_webhook=URL asks for one.")
        raise RoostError(
            "not_found", f"Request {request_id} has not ended: it is {request.state.value}", hint="Its webhook is sent when it ends."
        )


def _url(call: Call, webhook: Webhook) -> str:
    """Without its query for all but its own account: that is where a receiver's secret would be."""
    return webhook.url if webhook.caller == call.owner else webhook.url.partition("?")[0]


def _state(call: Call) -> WebhookState | None:
    text = call.query.get("state")
    if not text:
        return None
    try:
        return WebhookState(text.upper())
    except ValueError:
        states = ", ".join(state.value for state in WebhookState)
        raise RoostError("unprocessable", f"state={text[:40]!r} is no state of a webhook", hint=f"There are: {states}.") from None
