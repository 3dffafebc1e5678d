"""Taking a request into the queue: answered only when it is on disk (ARCHITECTURE §1, promise 1; spec: queue.md §1, §8).

The body is read whole first. What is larger than 64 KB becomes a payload file, durable before the row that names it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote

from roost.core import retry, submits
from roost.core.admission import Refuse
from roost.core.requests import ANONYMOUS, Content, Input, NewRequest, OtherBody, Request, RequestState, RetryRules, SameKey, Submitted
from roost.core.submits import Wishes
from roost.data.payloads import INLINE, Growing, Payloads
from roost.demand.queue import Queue
from roost.gateway.body import Body
from roost.gateway.resolve import Route, Target
from roost.gateway.slots import refusal
from roost.kit.fetch import Refused, judge_url
from roost.web import headers as fields
from roost.web.answers import Scope
from roost.web.auth import Principal
from roost.wire import ids
from roost.wire.errors import RoostError
from roost.wire.frames import Headers
from roost.wire.spec import AppSpec

_PORTION: Final = 1024 * 1024
Judge = Callable[[str], str]
"""The webhook's URL as it will be fetched. Raises `kit.fetch.Refused`."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who submits."""

    principal: Principal | None
    client: str
    """Its address, and those of the proxies before us (`web.forwarded.chain`)."""

    @property
    def account(self) -> str:
        return self.principal.owner if self.principal is not None else ANONYMOUS


@dataclass(frozen=True, slots=True)
class Head:
    """A submit without its body."""

    method: str
    query: bytes
    headers: Headers
    scheme: str


@dataclass(frozen=True, slots=True)
class Form:
    """What a submit asks for beside its body. All with one head and sender, and no deadline, have the same."""

    route: Route
    account: str
    method: str
    path: bytes
    """Below the app."""
    query: bytes
    """As the app gets it; the fields too."""
    headers: tuple[tuple[bytes, bytes], ...]
    wishes: Wishes
    rules: RetryRules
    endpoint: str

    def request(self, request_id: str, now_ms: int) -> Request:
        route, wishes = self.route, self.wishes
        return Request(
            seq=0,
            id=request_id,
            owner=route.owner,
            name=route.name,
            environment=route.environment,
            caller=self.account,
            state=RequestState.IN_QUEUE,
            priority=wishes.priority,
            attempt=0,
            deaths=0,
            used=(),
            created_ms=now_ms,
            due_ms=None,
            deadline_ms=wishes.deadline_ms,
            hint=wishes.hint,
            rules=self.rules,
            store_io=wishes.store_io,
            endpoint=self.endpoint,
            method=self.method,
            gateway_request_id=request_id,
            webhook=wishes.webhook,
        )

    def input(self, content: Content) -> Input:
        return Input(self.method, self.path, self.query, self.headers, content)


def fill(head: Head, target: Target, sender: Sender, spec: AppSpec | None, now_ms: int, judge: Judge) -> Form | Refuse:
    """What this head says, to this app and from this sender."""
    route = target.route
    owns = sender.principal is not None and sender.principal.owner == route.owner
    given = dict(head.headers)
    wishes = submits.read(
        lambda name: _text(given.get(name)),
        _parameters(head.query),
        default_deadline_ms=route.request_start_timeout_ms if owns else None,
        now_ms=now_ms,
    )
    if isinstance(wishes, Refuse):
        return wishes
    if wishes.webhook:
        try:
            wishes = replace(wishes, webhook=judge(wishes.webhook))
        except Refused as error:
            return Refuse("bad_request", f"fal_webhook cannot be called: {error}")
    kept = fields.stored(head.headers, client=sender.client, scheme=head.scheme, key_used=sender.principal is not None)
    return Form(
        route,
        sender.account,
        head.method,
        target.path,
        submits.without_consumed(head.query),
        tuple(kept),
        wishes,
        retry.rules_of(spec, head.headers, owns=owns),
        unquote(target.path.decode("latin-1")),
    )


class Begun(Protocol):
    """A submit that another way has begun, and that `QueueCalls` is to answer."""

    body: bytes

    async def accepted(self) -> Request:
        """As `Submits.accept`."""
        ...


class Submits:
    """Makes durable requests out of HTTP ones."""

    def __init__(
        self,
        queue: Queue,
        payloads: Payloads,
        spec_of: Callable[[str], Awaitable[AppSpec | None]],
        now_ms: Callable[[], int],
        judge: Judge = judge_url,
    ) -> None:
        """`spec_of` answers the spec of a revision."""
        self.at_once: Callable[[NewRequest], Awaitable[Submitted | SameKey | OtherBody] | None] = lambda new: None
        """Who begins with a request as it is accepted, if a slot is free and nobody waits for it. None: it waits as all do."""
        self._queue = queue
        self._payloads = payloads
        self._spec_of = spec_of
        self._now_ms = now_ms
        self.judge = judge

    async def accept(self, scope: Scope, target: Target, sender: Sender, body: Body) -> Request:
        """The request, on disk. With an idempotency key that was used before: the request of that time.

        Raises RoostError: `bad_request`, `queue_full`, `unprocessable` (a key that came with another request), or what the store says when it
        cannot take it. That may be wrong about a request that did reach the disk: who sends it again does so under an idempotency key.
        """
        now_ms = self._now_ms()
        route = target.route
        head = Head(scope["method"], scope["query_string"], scope["headers"], scope["scheme"])
        form = fill(head, target, sender, await self._spec_of(route.revision_id), now_ms, self.judge)
        if isinstance(form, Refuse):
            raise refusal(form)
        wishes = form.wishes
        queued = self._queue.queued(route.application)
        # What was accepted already is not one more in the queue: whoever sends it again wants its answer.
        if wishes.longest_queue is not None and queued > wishes.longest_queue and not await self._was_accepted(form):
            raise _queue_full(route.application, queued, wishes.longest_queue)
        fingerprint = await _fingerprint(form.method, form.path, form.query, body) if wishes.idempotency_key else ""
        content = await self._kept(body)
        new = NewRequest(form.request(ids.request_id(), now_ms), form.input(content), wishes.idempotency_key, fingerprint)
        # When its fate is not known the file stays: a row may name it. What no row names is swept at the next start.
        answer = await self._put(new)
        if not isinstance(answer, Submitted) and content.file:
            await self._payloads.remove((content.file,))
        if isinstance(answer, OtherBody):
            raise _other_request(wishes.idempotency_key, answer, fingerprint)
        return answer.request

    async def take(self, form: Form, body: bytes) -> Request:
        """The same for a form without a key or a limit, and a body that a row may hold."""
        new = NewRequest(form.request(ids.request_id(), self._now_ms()), form.input(Content(len(body), body)))
        return (await self._put(new)).request

    async def _put(self, new: NewRequest) -> Submitted | SameKey | OtherBody:
        begins = self.at_once(new)
        return await (begins if begins is not None else self._queue.submit(new))

    async def _was_accepted(self, form: Form) -> bool:
        key = form.wishes.idempotency_key
        return bool(key) and await self._queue.with_key(form.account, form.route.owner, form.route.name, key) is not None

    async def _kept(self, body: Body) -> Content:
        """The body as rows keep it, durable if it is in a file."""
        if body.size <= INLINE:
            return Content(body.size, body.read(0, body.size))
        growing = Growing(self._payloads)
        try:
            for start in range(0, body.size, _PORTION):
                await growing.add(body.read(start, _PORTION))
            return await growing.end()
        finally:
            growing.discard()


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None


def _parameters(query: bytes) -> Mapping[str, str]:
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if b"fal_" in query else {}


async def _fingerprint(method: str, path: bytes, query: bytes, body: Body) -> str:
    """What tells this request from another one under the same idempotency key. Header fields do not: clients change them when they try again."""
    digest = hashlib.sha256(b"\n".join((method.encode(), path, query, b"")))
    for start in range(0, body.size, _PORTION):
        portion = body.read(start, _PORTION)
        if body.size <= _PORTION:
            digest.update(portion)
        else:
            await asyncio.to_thread(digest.update, portion)
    return digest.hexdigest()


def _other_request(key: str, answer: OtherBody, fingerprint: str) -> RoostError:
    return RoostError(
        "unprocessable",
        f"Idempotency-Key {key!r} was used for another request, {answer.request.id}: "
        f"that one's fingerprint is {answer.fingerprint}, this one's is {fingerprint}",
        hint="Send the same method, path, query and body again, or a new key.",
    )


def _queue_full(application: str, queued: int, longest: int) -> RoostError:
    error = RoostError(
        "queue_full",
        f"{queued} requests of {application} wait already, and fal_max_queue_length allows {longest}",
        hint="Try again later, or without fal_max_queue_length.",
    )
    error.headers = ((b"retry-after", b"1"),)
    return error
