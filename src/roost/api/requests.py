"""Queued requests: which there are, how each went, trying one again, cancelling one."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from roost.api.answer import Answer, Json
from roost.api.parts import ApiParts
from roost.api.request import Request as Call
from roost.api.routes import May, Route
from roost.api.shapes import attempt_json, event_json, request_json
from roost.api.sight import sees, sight, unknown_request
from roost.core import submits
from roost.core.requests import Content, Input, NewRequest, Request, RequestState
from roost.data.payloads import DamagedPayload, Growing
from roost.demand.queue import AlreadyCompleted, NotFound
from roost.web import addresses, queue_answers
from roost.wire import ids
from roost.wire.errors import RoostError

USUAL: Final = 100
MOST: Final = 1_000
_EVENTS: Final = 1_000
_PORTION: Final = 1024 * 1024


class RequestCalls:
    """An ADMIN key sees the requests of its account's apps, and those that its account submitted; an API key the latter."""

    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._queue = parts.queue
        self._payloads = parts.payloads
        self._base_url = parts.base_url

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/v1/requests", self.list, May.READ),
            Route("GET", "/v1/requests/{id}", self.show, May.READ),
            Route("POST", "/v1/requests/{id}/retry", self.retry),
            Route("PUT", "/v1/requests/{id}/cancel", self.cancel, May.READ),
        )

    async def list(self, call: Call) -> Answer:
        """The newest first: `?app=&state=&caller=&limit=&before=<request id>`."""
        seen = sight(call)
        before = call.query.get("before")
        rows = await self._store.requests.list(
            owner=seen.owner,
            name=seen.name,
            caller=seen.caller,
            state=_state(call),
            limit=min(call.whole("limit") or USUAL, MOST),
            before_seq=(await self._own(call, before)).seq if before else None,
        )
        return Json({"requests": [request_json(row, self._queue.position(row)) for row in rows]})

    async def show(self, call: Call) -> Answer:
        request = await self._own(call, call.params["id"])
        attempts = await self._store.requests.attempts(request.id)
        events = await self._store.events.list(f"request:{request.id}", limit=_EVENTS)
        shape = request_json(request, self._queue.position(request))
        return Json(
            shape | {"attempts": [attempt_json(attempt) for attempt in attempts], "events": [event_json(event) for event in events]}
        )

    async def retry(self, call: Call) -> Answer:
        """Submit it once more, as a new request: what has ended stays as it is."""
        ended = await self._own(call, call.params["id"])
        if ended.state is not RequestState.COMPLETED:
            raise RoostError(
                "conflict", f"Request {ended.id} has not ended: it is {ended.state.value}", hint="Wait for its end, or cancel it."
            )
        alias = await self._store.apps.get(ended.owner, ended.name)
        if alias is None or alias.revision_id is None:
            raise RoostError("conflict", f"{ended.application} is not deployed any more; nothing could serve the request")
        sent = await self._store.requests.input(ended.id)
        if sent is None:
            raise RoostError("not_found", f"what was sent with request {ended.id} is not kept any more")
        new = submits.again(ended, ids.request_id(), self._clock.now_ms())
        copied = Input(sent.method, sent.path, sent.query, sent.headers, await self._copied(sent.content))
        request = (await self._queue.submit(NewRequest(new, copied))).request
        url = addresses.request_url(f"{self._base_url(call.scope)}/_queue", request.owner, request.name, request.id)
        return Json(json.loads(queue_answers.submitted(request, url, self._queue.position(request))), status=201)

    async def cancel(self, call: Call) -> Answer:
        request = await self._own(call, call.params["id"])
        match await self._queue.cancel(request.id):
            case AlreadyCompleted():
                return Json(json.loads(queue_answers.ALREADY_COMPLETED), status=400)
            case NotFound():
                raise unknown_request(request.id)
            case _:
                return Json(json.loads(queue_answers.CANCELLATION_REQUESTED), status=202)

    async def _own(self, call: Call, request_id: str) -> Request:
        """Raises `not_found`, also for what is somebody else's."""
        request = await self._queue.get(request_id)
        if request is None or not sees(call, request.owner, request.caller):
            raise unknown_request(request_id)
        return request

    async def _copied(self, content: Content) -> Content:
        """A file belongs to one row, and goes with it."""
        if content.inline is not None:
            return content
        growing = Growing(self._payloads)
        try:
            while growing.size < content.size:
                data = await asyncio.to_thread(self._payloads.read, content.file, growing.size, _PORTION)
                if not data:
                    raise DamagedPayload(f"the body {content.file[:8]} ends after {growing.size} of {content.size} bytes")
                await growing.add(data)
            return await growing.end()
        finally:
            growing.discard()


def _state(call: Call) -> RequestState | None:
    text = call.query.get("state")
    if not text:
        return None
    try:
        return RequestState(text.upper())
    except ValueError:
        states = ", ".join(state.value for state in RequestState)
        raise RoostError("unprocessable", f"state={text[:40]!r} is no state of a request", hint=f"There are: {states}.") from None
