"""The short way of status polls: a client that waits asks ten times a second, and mostly hears the same.

What is the same for every poll with one head (who asks, for which request, under which address) is a `Poll`, made once. A poll itself looks the
request up in memory and writes the answer. Whatever else it may be (logs wanted, not in memory, not allowed to see it) is `gateway.queued`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roost.core.requests import RequestState
from roost.gateway import queue_urls
from roost.gateway.queue_access import Access, may
from roost.gateway.queue_urls import About, Verb
from roost.gateway.queued import QueueCalls, wants_logs
from roost.web import headers, queue_answers, roles
from roost.web.auth import KeyRing, Principal
from roost.web.shortcut import ANSWERED, Answered, Door, Request
from roost.wire.errors import RoostError

_PENDING: Final = b"HTTP/1.1 202 Accepted\r\n"
_DONE: Final = b"HTTP/1.1 200 OK\r\n"


@dataclass(frozen=True, slots=True)
class Poll:
    """What every poll with one head has in common."""

    about: About
    principal: Principal | None
    edition: int
    """Of the keys that it was made with."""
    base_url: str


class StatusShortcut:
    """Serves usual polls as `web.shortcut` asks for."""

    def __init__(self, queued: QueueCalls, keys: KeyRing) -> None:
        self._queued = queued
        self._keys = keys

    def plan(self, request: Request) -> Poll | None:
        if request.method != "GET":
            return None
        addressed = roles.address(headers.find(request.headers, b"host") or b"", request.path)
        if addressed.role != "queue" or wants_logs(request.query):
            return None
        about = queue_urls.read("GET", addressed.path)
        if not isinstance(about, About) or about.verb is not Verb.STATUS:
            return None
        authorization = headers.find(request.headers, b"authorization")
        try:
            principal = self._keys.check(authorization) if authorization is not None else None
        except RoostError:
            return None  # the ordinary way says what is wrong with it
        base_url = self._queued.base_url(request.scheme, request.headers, request.root_path, request.path, addressed.path)
        return Poll(about, principal, self._keys.edition, base_url)

    def holds(self, plan: Poll) -> bool:
        return plan.edition == self._keys.edition

    def begin(self, plan: Poll, door: Door, body: bytes) -> Answered | None:
        request = self._queued.living(plan.about)
        if request is None or body or may(request, plan.principal) is Access.NONE:
            return None
        answer = self._queued.status_of(request, plan.base_url)
        start = _DONE if request.state is RequestState.COMPLETED else _PENDING
        rest = b"content-length: %d\r\nx-fal-request-id: %b\r\n%b%b" % (len(answer), request.id.encode(), queue_answers.FIELD_LINES, answer)
        return ANSWERED if door.answer_short(start, rest) else None
