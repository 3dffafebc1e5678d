"""The queue over HTTP: submit, status, status stream, result, cancel (spec: queue.md §1-4).

A submit is answered when the request is on disk. Everything about a request is answered from the queue's view in memory while it lives and for
a while after, else from the store. After a hand-over all of it goes to the new server (`gateway.app`); what is under way here is passed on too,
except streams: those end, and their callers come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from roost.core.requests import Content, Output, Request, RequestState
from roost.data.logs import LogLine
from roost.data.payloads import DamagedPayload, Payloads, PayloadTrouble
from roost.demand.queue import AlreadyCompleted, NotFound, Queue
from roost.gateway import body as bodies
from roost.gateway import queue_urls
from roost.gateway.body import Body, CallerGone
from roost.gateway.forward import Successor
from roost.gateway.queue_access import Access, access
from roost.gateway.queue_urls import About, Verb
from roost.gateway.request_status import Statuses
from roost.gateway.resolve import Routes, Target
from roost.gateway.submit import Begun, Sender, Submits
from roost.store import StoreClosed, StoreError
from roost.store.requests import Requests
from roost.web import addresses, cors, queue_answers
from roost.web.answers import Receive, Scope, Send
from roost.web.auth import KeyRing, Principal
from roost.web.headers import find
from roost.web.protocol import Caller
from roost.wire.frames import Headers

_PORTION: Final = 1024 * 1024
_TRY_AGAIN: Final = (b"retry-after", b"1")


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's settings."""

    max_body: int
    spool: str
    """Folder for bodies on their way."""
    public_url: str
    """The server's address, for callers whose own words cannot be used."""


class QueueCalls:
    """The ASGI app of the role "queue". `may_call` is the gateway's judgement of a key."""

    def __init__(
        self,
        queue: Queue,
        requests: Requests,
        submits: Submits,
        statuses: Statuses,
        payloads: Payloads,
        routes: Routes,
        keys: KeyRing,
        may_call: Callable[[Target, bytes | None], Principal | None],
        limits: Limits,
    ) -> None:
        self._queue = queue
        self._requests = requests
        self._submits = submits
        self._statuses = statuses
        self._payloads = payloads
        self._routes = routes
        self._keys = keys
        self._may_call = may_call
        self._limits = limits
        self._successor: Successor | None = None

    def hand_over(self, successor: Successor) -> None:
        """The store closes here: what would still ask it goes to the new server."""
        self._successor = successor
        self.end_streams()

    def end_streams(self) -> None:
        self._statuses.end_streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises RoostError for errors that the caller must be told; the response has not begun then."""
        asked = queue_urls.read(scope["method"], scope["raw_path"])
        begun: Begun | None = scope.get("roost.begun")
        body = Body(begun.body if begun is not None else b"")
        caller: Caller | None = scope.get("roost.caller")
        try:
            if begun is not None:
                await self._accepted(scope, send, await begun.accepted())
                return
            if isinstance(asked, About):
                await self._about(asked, scope, receive, send)
                return
            target = await self._routes.resolve(asked.path)
            principal = self._may_call(target, find(scope["headers"], b"authorization"))
            whole = caller.whole_body(self._limits.max_body) if caller is not None else None
            body = (
                Body(whole)
                if whole is not None
                else await bodies.read(scope["headers"], receive, self._limits.max_body, self._limits.spool)
            )
            await self._submit(scope, send, target, principal, body)
        except CallerGone:
            return
        except (StoreError, PayloadTrouble) as error:
            if isinstance(error, StoreClosed) and self._successor is not None:
                # Nothing was written: what was handed to the store before it closed has been answered.
                await self._successor.pass_on(scope, send, body)
                return
            if error.status in (503, 507):
                error.headers = (*error.headers, _TRY_AGAIN)
            raise
        finally:
            body.close()
            if caller is not None:
                caller.let_go()

    async def _submit(self, scope: Scope, send: Send, target: Target, principal: Principal | None, body: Body) -> None:
        client = scope.get("client")
        await self._accepted(scope, send, await self._submits.accept(scope, target, Sender(principal, client[0] if client else ""), body))

    async def _accepted(self, scope: Scope, send: Send, request: Request) -> None:
        answer = queue_answers.submitted(request, self._url(scope, request), self._queue.position(request))
        await _answer(scope, send, 200, queue_answers.fields(len(answer), request.id), answer)

    # about one request

    async def _about(self, asked: About, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._queue.find(asked.request_id)
        if request is None:
            request = await self._queue.get(asked.request_id)
        if request is not None and (request.owner, request.name) not in asked.apps:
            request = None
        may = access(request, self._keys, find(scope["headers"], b"authorization"))
        if request is None or may is Access.NONE:
            await _say(scope, send, 404, queue_answers.NOT_FOUND, _own_id(scope).decode())
        elif asked.verb is Verb.STATUS:
            await self._status(request, may, scope, send)
        elif asked.verb is Verb.STREAM:
            await self._statuses.stream(request, self._url(scope, request), wants_logs(scope["query_string"]), may, receive, send)
        elif asked.verb is Verb.RESULT:
            await self._result(request, scope, send)
        else:
            await self._cancel(request, scope, send)

    async def _status(self, request: Request, may: Access, scope: Scope, send: Send) -> None:
        lines = (await self._statuses.lines(request, may)).lines if wants_logs(scope["query_string"]) else None
        body = self.status_of(request, self._base_url(scope), lines)
        await _say(scope, send, 200 if request.state is RequestState.COMPLETED else 202, body, request.id)

    async def _cancel(self, request: Request, scope: Scope, send: Send) -> None:
        match await self._queue.cancel(request.id):
            case AlreadyCompleted():
                await _say(scope, send, 400, queue_answers.ALREADY_COMPLETED, request.id)
            case NotFound():
                await _say(scope, send, 404, queue_answers.NOT_FOUND, request.id)
            case _:
                await _say(scope, send, 202, queue_answers.CANCELLATION_REQUESTED, request.id)

    async def _result(self, request: Request, scope: Scope, send: Send) -> None:
        if request.state is not RequestState.COMPLETED:
            await _answer(scope, send, *queue_answers.refused(400, "Request is still in progress", "bad_request", request.id))
            return
        output = await self._requests.output(request.id)
        if output is None:
            await _answer(scope, send, *queue_answers.failed(request))
            return
        status, fields = request.status or output.status, _result_fields(request, output)
        if output.content.inline is not None:
            await _answer(scope, send, status, fields, output.content.inline)
        else:
            await self._send_file(output.content, status, fields, send)

    async def _send_file(self, content: Content, status: int, fields: Headers, send: Send) -> None:
        # Before the head goes out: a file that is gone or damaged is an error that can still be told.
        data = await asyncio.to_thread(self._payloads.read, content.file, 0, _PORTION)
        await send({"type": "http.response.start", "status": status, "headers": fields})
        sent = len(data)
        while sent < content.size:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            data = await asyncio.to_thread(self._payloads.read, content.file, sent, _PORTION)
            if not data:
                raise DamagedPayload(f"the body {content.file[:8]} ends after {sent} of {content.size} bytes")
            sent += len(data)
        await send({"type": "http.response.body", "body": data})

    @property
    def max_body(self) -> int:
        return self._limits.max_body

    def position(self, request: Request) -> int:
        return self._queue.position(request)

    @property
    def is_handed_over(self) -> bool:
        """What comes now is for the new server."""
        return self._successor is not None

    def living(self, about: About) -> Request | None:
        """The request that a path means, if it is in memory, and this server still answers for it."""
        request = self._queue.find(about.request_id) if self._successor is None else None
        return request if request is not None and (request.owner, request.name) in about.apps else None

    def status_of(self, request: Request, base_url: str, lines: Sequence[LogLine] | None = None) -> bytes:
        url = addresses.request_url(base_url, request.owner, request.name, request.id)
        return queue_answers.status(request, url, self._queue.position(request), lines)

    def base_url(self, scheme: str, headers: Headers, root_path: str, dialled: bytes, path: bytes) -> str:
        """Where this caller dialled the queue. `dialled` is the path as it came, `path` what is left of it for the queue."""
        prefix = dialled[: len(dialled) - len(path)].decode("latin-1") if dialled.endswith(path) else ""
        return addresses.base_url(scheme, headers, root_path, prefix, self._limits.public_url)

    def _base_url(self, scope: Scope) -> str:
        return self.base_url(scope["scheme"], scope["headers"], scope.get("root_path", ""), scope["roost.original_path"], scope["raw_path"])

    def _url(self, scope: Scope, request: Request) -> str:
        return addresses.request_url(self._base_url(scope), request.owner, request.name, request.id)


def wants_logs(query: bytes) -> bool:
    """`?logs=1` or `?logs=true`: the Python client sends booleans as text."""
    return b"logs=" in query and any(part.lower() in (b"logs=1", b"logs=true") for part in query.split(b"&"))


def _result_fields(request: Request, output: Output) -> Headers:
    """The app's fields, and ours (GAPS B16)."""
    own = [(b"x-fal-request-id", request.id.encode())]
    names = {name for name, _ in output.headers}
    if b"content-length" not in names:
        own.append((b"content-length", b"%d" % output.content.size))
    return cors.opened([*output.headers, *own])


def _own_id(scope: Scope) -> bytes:
    return str(scope.get("roost.request_id", "")).encode()


async def _say(scope: Scope, send: Send, status: int, body: bytes, request_id: str) -> None:
    await _answer(scope, send, status, queue_answers.fields(len(body), request_id), body)


async def _answer(scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Most answers leave in one piece, past uvicorn's two messages."""
    caller: Caller | None = scope.get("roost.caller")
    if caller is not None and caller.answer(status, headers, body):
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
