"""The short way of submits: one that asks for nothing but a place in the queue needs no ASGI scope, and most of it is known from the last one.

What is the same for every submit with one head (app, caller, fields for the app, addresses for the answer) is a `Plan`, made once. A submit itself
is one write to the store, and one answer when that is on disk. What fails, or may not be written to the caller now, `gateway.queued` answers: it
is given the request that was begun here, so that at most one is made of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from roost.core.admission import Refuse
from roost.core.requests import Request
from roost.data.payloads import INLINE
from roost.gateway import queue_urls
from roost.gateway.queue_urls import Submit
from roost.gateway.queued import QueueCalls
from roost.gateway.resolve import Routes, Target
from roost.gateway.submit import Form, Head, Judge, Sender, Submits, fill
from roost.kit import log
from roost.web import addresses, headers, queue_answers, roles, shortcut
from roost.web.auth import KeyRing, Principal
from roost.web.forwarded import chain
from roost.web.shortcut import Door
from roost.wire.errors import RoostError
from roost.wire.spec import AppSpec

_METHODS: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))
_UNUSUAL: Final = frozenset((b"idempotency-key", b"x-fal-request-timeout"))
"""Fields of a submit that needs more than a place."""
_OK: Final = b"HTTP/1.1 200 OK\r\n"
_CLIENTS: Final = 64
"""Addresses whose forms one plan remembers at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every submit with one head has in common."""

    head: Head
    via: str
    target: Target
    principal: Principal | None
    spec: AppSpec
    url: str
    """Address of a request, without its id."""
    edition: tuple[int, int]
    """Of the routes and keys that it was made with."""
    judge: Judge
    forms: dict[str, Form] = field(default_factory=dict[str, Form])
    """By the address of the connection's other end, which the app is told."""

    def form(self, client: str) -> Form | None:
        form = self.forms.get(client)
        if form is None:
            made = fill(self.head, self.target, Sender(self.principal, chain(self.via, client)), self.spec, 0, self.judge)
            if isinstance(made, Refuse) or made.wishes.deadline_ms is not None or made.wishes.longest_queue is not None:
                return None  # an answer of its own, or of its moment
            if len(self.forms) >= _CLIENTS:
                self.forms.clear()
            form = self.forms[client] = made
        return form


class ShortSubmit:
    """One submit on the short way. To `gateway.queued`, after `hand_over`, a submit that has begun."""

    __slots__ = ("_door", "_outcome", "_submits", "_task", "body")

    def __init__(self, submits: Submits, door: Door, form: Form, body: bytes, answer: Callable[[Request], bytes]) -> None:
        self._submits = submits
        self._door: Door | None = door
        """None: it is answered, handed over, or its caller is gone."""
        self.body = body
        self._outcome: Request | Exception | None = None
        self._task = asyncio.get_running_loop().create_task(self._carry(form, answer))

    async def _carry(self, form: Form, answer: Callable[[Request], bytes]) -> None:
        try:
            request = self._outcome = await self._submits.take(form, self.body)
        except Exception as error:
            self._outcome = error
            if self._door is None and not isinstance(error, RoostError):
                log.exception("gateway.failed", error, path=form.endpoint)
            self.hand_over()
            return
        door = self._door
        if door is not None:
            if door.answer_short(_OK, answer(request)):
                self._door = None
            else:
                self.hand_over()

    async def accepted(self) -> Request:
        await asyncio.wait([self._task])
        if isinstance(self._outcome, Request):
            return self._outcome
        assert self._outcome is not None, "it has ended"
        raise self._outcome

    # from the door

    def caller_lost(self) -> None:
        self._door = None

    def hand_over(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.hand_over_short(self)


class SubmitShortcut:
    """Serves usual submits as `web.shortcut` asks for. `may_call` is the gateway's judgement of a key."""

    def __init__(
        self,
        queued: QueueCalls,
        submits: Submits,
        routes: Routes,
        keys: KeyRing,
        may_call: Callable[[Target, bytes | None], Principal | None],
        spec_of: Callable[[str], AppSpec | None],
    ) -> None:
        """`spec_of` answers the spec of a revision if that is in memory."""
        self._queued = queued
        self._submits = submits
        self._routes = routes
        self._keys = keys
        self._may_call = may_call
        self._spec_of = spec_of

    def plan(self, request: shortcut.Request) -> Plan | None:
        fields = request.headers
        # Of the parameters for the queue a webhook's is the same for many.
        unusual = b"fal_" in request.query and b"fal_webhook=" not in request.query
        if request.method not in _METHODS or unusual or not _UNUSUAL.isdisjoint([name for name, _ in fields]):
            return None
        addressed = roles.address(headers.find(fields, b"host") or b"", request.path)
        if addressed.role != "queue":
            return None
        try:
            asked = queue_urls.read(request.method, addressed.path)
            target = self._routes.known(asked.path) if isinstance(asked, Submit) else None
            spec = self._spec_of(target.route.revision_id) if target is not None else None
            if target is None or spec is None:
                return None
            principal = self._may_call(target, headers.find(fields, b"authorization"))
        except RoostError:
            return None  # the ordinary way says what is wrong with it
        base_url = self._queued.base_url(request.scheme, fields, request.root_path, request.path, addressed.path)
        url = addresses.request_url(base_url, target.route.owner, target.route.name, "")
        head = Head(request.method, request.query, fields, request.scheme)
        return Plan(head, request.via, target, principal, spec, url, self._edition(), self._submits.judge)

    def holds(self, plan: Plan) -> bool:
        return plan.edition == self._edition()

    def begin(self, plan: Plan, door: Door, body: bytes) -> ShortSubmit | None:
        if len(body) > min(INLINE, self._queued.max_body) or self._queued.is_handed_over:
            return None
        form = plan.form(door.client[0] if door.client else "")
        if form is None:
            return None

        def answer(request: Request) -> bytes:
            said = queue_answers.submitted(request, plan.url + request.id, self._queued.position(request))
            lines = b"content-length: %d\r\nx-fal-request-id: %b\r\n%b" % (len(said), request.id.encode(), queue_answers.FIELD_LINES)
            return lines + said

        return ShortSubmit(self._submits, door, form, body, answer)

    def _edition(self) -> tuple[int, int]:
        return self._routes.edition, self._keys.edition
