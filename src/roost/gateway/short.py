"""The short way of direct calls: a call that needs nothing but a free slot costs no task, no ASGI scope and no queue.

What is the same for every request with the same head (app, caller, the head that the runner gets) is a `Plan`, made once; what is the same
for every answer with the same head is an `_Answer`. A call itself is one object, the link's exchange, which writes the answer when it is
here as a whole. Whatever else arrives (BUSY, a stream, a lost runner, a time-out) turns it into an ordinary exchange, and
`gateway.sync` goes on with it as if it had opened it itself: at most one runner accepts a call, whichever way it goes.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roost.core import fate
from roost.gateway.resolve import Routes, Target
from roost.gateway.slots import Slots
from roost.gateway.sync import TIMED_OUT, Ask, Begun, DirectCalls, request_head
from roost.link.connection import Exchange
from roost.link.directory import Entry
from roost.web import fates, roles
from roost.web import headers as fields
from roost.web.answering import answer_head
from roost.web.auth import KeyRing, Principal
from roost.web.shortcut import Door, Request
from roost.wire import ids
from roost.wire.errors import RoostError
from roost.wire.frames import RequestHead, ResponseHead
from roost.wire.session import Event

_METHODS: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))
_UNUSUAL: Final = frozenset((b"x-roost-trace", b"x-fal-request-timeout"))
"""Fields of a request that need more than a free slot."""
# Stand-ins for what differs from call to call. Of a request id's and a runner id's length, and nothing that a caller or app could write.
_REQUEST_ID: Final = secrets.token_hex(18)
_RUNNER_ID: Final = secrets.token_hex(18)
_CLIENT: Final = secrets.token_hex(18)
_ANSWERS: Final = 1024
_ANSWER_HEAD: Final = 2048
"""Heads of answers that are remembered at a time, and their largest size."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every request with one head has in common."""

    target: Target
    principal: Principal | None
    hint: str
    timeout_s: float
    edition: tuple[int, int]
    """Of the routes and keys that it was made with."""
    before_id: bytes
    """The encoded head for the runner, up to the request id, up to the caller's address, and the rest."""
    before_client: bytes
    after_client: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    """What every answer with one head has in common."""

    status_line: bytes
    before_id: bytes
    before_runner: bytes
    after_runner: bytes
    size: int
    verdict: fate.Fate
    hints: tuple[str, ...] | None
    """What it reports of its runner; None if nothing."""


class ShortCall(Exchange):
    """One call on the short way, and on the ordinary one after `hand_over`."""

    __slots__ = ("_body", "_client", "_door", "_entry", "_place", "_plan", "_request_id", "_shortcut", "_since_ms", "_timer")

    def __init__(self, shortcut: Shortcut, plan: Plan, door: Door, body: bytes, entry: Entry) -> None:
        # In place of super().__init__: once per call, and half of what it would do is not needed.
        self.connection = entry.connection
        self.stream = 0
        self.events: deque[Event] = deque()
        self.accepted = self.answered = self.finished = False
        self._waiter = None
        self._shortcut = shortcut
        self._plan = plan
        self._door: Door | None = door
        """None: it is answered, handed over, or its caller is gone."""
        self._body = body
        self._entry: Entry | None = entry
        """None: its slot is given back."""
        self._client = door.client
        self._request_id = ids.request_id()
        self._place = shortcut.slots.arrive()
        self._since_ms = shortcut.calls.now_ms()
        self._timer = shortcut.calls.timeouts.start(plan.timeout_s, self._overran)

    # from the link

    def whole(self, response: bytes, body: bytes) -> None:
        door = self._door
        if door is not None:
            answer = self._shortcut.answer(response)
            if answer is not None and answer.size == len(body) and not self._shortcut.calls.closing:
                rest = (answer.before_id, self._request_id.encode(), answer.before_runner, self.connection.runner_id.encode())
                if door.answer_short(answer.status_line, b"".join((*rest, answer.after_runner, body))):
                    self._door = None
                    self._timer.cancel()
                    if self._entry is not None and answer.verdict is not fate.KEEP:
                        self._shortcut.calls.judged(self._entry, answer.verdict)
                    if answer.hints is not None and self._entry is not None:
                        self._entry.hints = answer.hints
                    return
        super().whole(response, body)

    def put(self, event: Event) -> None:
        super().put(event)
        self.hand_over()

    def wake(self) -> None:
        super().wake()
        if self.finished:
            self.hand_over()

    def release(self, *, busy: bool = False) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            times = (self._since_ms, self._since_ms)
            self._shortcut.slots.give_back(self._plan.target.route.application, entry, busy=busy, times=times)

    # from the door

    def caller_lost(self) -> None:
        self._door = None
        self._timer.cancel()
        self._shortcut.calls.cancel(self, self._head())

    def hand_over(self) -> None:
        """The application's task goes on with it; what has arrived is in `events`."""
        door, self._door = self._door, None
        if door is not None:
            ask = Ask.of(self._request_id, self._plan.target, self._plan.principal)
            entry = self._entry
            assert entry is not None
            door.hand_over_short(Begun(ask, self._body, entry, self, self._timer, self._place, self._since_ms))

    def _overran(self) -> None:
        self.put((TIMED_OUT, self.stream, None))

    def encoded(self) -> bytes:
        """The head that the runner gets."""
        plan, client = self._plan, self._client
        parts = (plan.before_id, self._request_id.encode(), plan.before_client, client[0].encode() if client else b"", plan.after_client)
        return b"".join(parts)

    def _head(self) -> RequestHead:
        return RequestHead.decode(self.encoded())


class Shortcut:
    """Serves usual calls as `web.shortcut` asks for. `may_call` is the gateway's judgement of a key."""

    def __init__(
        self,
        routes: Routes,
        keys: KeyRing,
        slots: Slots,
        calls: DirectCalls,
        may_call: Callable[[Target, bytes | None], Principal | None],
    ) -> None:
        self.slots = slots
        self.calls = calls
        self._routes = routes
        self._keys = keys
        self._may_call = may_call
        self._answers: dict[bytes, _Answer | None] = {}

    def plan(self, request: Request) -> Plan | None:
        headers = request.headers
        if request.method not in _METHODS or not _UNUSUAL.isdisjoint([name for name, _ in headers]):
            return None
        addressed = roles.address(fields.find(headers, b"host") or b"", request.path)
        target = self._routes.known(addressed.path) if addressed.role == "run" else None
        if target is None:
            return None
        try:
            principal = self._may_call(target, fields.find(headers, b"authorization"))
            if self.calls.allowance.counts(principal):
                return None
            head = request_head(
                request.method, request.query, headers, Ask.of(_REQUEST_ID, target, principal), (request.client(_CLIENT), 0), request.scheme
            ).encode()
        except (RoostError, ValueError):
            return None  # the ordinary way says what is wrong with it
        before_id, _, rest = head.partition(_REQUEST_ID.encode())
        before_client, _, after_client = rest.partition(_CLIENT.encode())
        hint = fields.find(headers, b"x-fal-runner-hint")
        timeout_s = target.route.request_timeout_ms / 1000
        hinted = hint.decode("latin-1") if hint else ""
        return Plan(target, principal, hinted, timeout_s, self._edition(), before_id, before_client, after_client)

    def holds(self, plan: Plan) -> bool:
        return plan.edition == self._edition()

    def begin(self, plan: Plan, door: Door, body: bytes) -> ShortCall | None:
        if self.calls.closing or len(body) > self.calls.max_body:
            return None
        entry = self.slots.take_free(plan.target.route, plan.hint)
        if entry is None:
            return None
        call = ShortCall(self, plan, door, body, entry)
        entry.connection.begin(call, call.encoded(), body)
        return call

    def answer(self, response: bytes) -> _Answer | None:
        """How an answer with this head is written; None: not in one piece. Raises ProtocolError for a head that is none."""
        try:
            return self._answers[response]
        except KeyError:
            if len(self._answers) >= _ANSWERS:
                self._answers.clear()
            answer = _answer(ResponseHead.decode(response))
            if len(response) <= _ANSWER_HEAD:
                self._answers[response] = answer
            return answer

    def _edition(self) -> tuple[int, int]:
        return self._routes.edition, self._keys.edition


def _answer(head: ResponseHead) -> _Answer | None:
    kept = fields.to_caller(head.status, head.headers, request_id=_REQUEST_ID, runner_id=_RUNNER_ID)
    size = fields.find(head.headers, b"content-length")
    if kept is None or size is None or not size.isdigit() or len(size) > 18:
        return None
    lines = answer_head(head.status, kept, int(size))
    if lines is None:
        return None
    status_line, _, rest = lines.partition(b"\r\n")
    before_id, _, rest = rest.partition(_REQUEST_ID.encode())
    before_runner, _, after_runner = rest.partition(_RUNNER_ID.encode())
    verdict = fates.of_response(head)
    return _Answer(status_line + b"\r\n", before_id, before_runner, after_runner, int(size), verdict, fields.runner_hints(head.headers))
