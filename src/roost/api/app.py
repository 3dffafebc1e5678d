"""The ASGI app of the control plane: find the call, check who makes it, let its handler answer, and name every error."""

from __future__ import annotations

from urllib.parse import parse_qsl

from roost.api.addresses import AddressCalls
from roost.api.answer import Empty, send_answer
from roost.api.apps import AppCalls
from roost.api.blobs import BlobCalls
from roost.api.builds import BuildCalls
from roost.api.deploy import DeployCalls
from roost.api.doors import LaidOutDoors
from roost.api.keys import KeyCalls
from roost.api.parts import ApiParts
from roost.api.queue import QueueCalls
from roost.api.releases import ReleaseCalls
from roost.api.request import CallerGone, Request
from roost.api.requests import RequestCalls
from roost.api.routes import May, Table
from roost.api.runners import RunnerCalls
from roost.api.runs import RunCalls
from roost.api.simulate import SimulateCalls
from roost.api.system import SystemCalls
from roost.api.watch import Watched
from roost.api.webhooks import WebhookCalls
from roost.api.why import WhyCalls
from roost.kit import log
from roost.web.answers import Asgi, Receive, Scope, Send, send_error
from roost.web.auth import KeyRing, Principal
from roost.wire import ids
from roost.wire.errors import RoostError

_NOBODY = Principal("", "", "NONE")


def build_api(parts: ApiParts) -> Asgi:
    """The control plane as an ASGI app for HTTP requests. `scope["raw_path"]` is the path that it routes by."""
    watched = Watched()
    nouns = (
        SystemCalls(parts),
        BlobCalls(parts),
        DeployCalls(parts, watched),
        RunCalls(parts, watched),
        AppCalls(parts),
        ReleaseCalls(parts),
        RunnerCalls(parts),
        RequestCalls(parts),
        QueueCalls(parts),
        WebhookCalls(parts),
        AddressCalls(parts),
        SimulateCalls(parts),
        WhyCalls(parts),
        KeyCalls(parts),
        BuildCalls(parts),
        LaidOutDoors(),
    )
    table = Table([route for noun in nouns for route in noun.routes()])

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope.get("roost.request_id") or ids.request_id()
        started = False

        async def send_noted(message: object) -> None:
            nonlocal started
            started = True
            await send(message)  # type: ignore[arg-type]

        try:
            found = table.find(scope["method"], scope.get("raw_path") or scope["path"].encode())
            request = Request(
                scope,
                receive,
                _admit(parts.keys, found.route.may, scope),
                found.params,
                dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)),
            )
            answer = await found.route.handler(request)
            await send_answer(answer, receive, send_noted, parts.clock, request_id)
        except CallerGone:
            # Nobody reads it, but an ASGI server wants an answer.
            await send_answer(Empty(), receive, send_noted, parts.clock, request_id)
        except Exception as error:
            if started:
                # The gateway breaks the connection: only that can say that an answer is not complete.
                raise
            if not isinstance(error, RoostError):
                log.exception("api.failed", error, path=scope["path"], request_id=request_id)
                error = RoostError("internal_error", f"Roost failed to handle this request ({request_id})")
            caller = scope.get("roost.caller")
            if error.code == "payload_too_large" and caller is not None:
                # The caller may still be sending: it needs a moment to read this answer before the connection ends.
                caller.hang_up_in(5)
            await send_error(send_noted, error, request_id, error.headers)

    return api


def _admit(keys: KeyRing, may: May, scope: Scope) -> Principal:
    """Who calls. Raises `unauthorized` without a valid key, `forbidden` if this key may not do this."""
    if may is May.ANYBODY:
        return _NOBODY
    principal = keys.check(next((value for name, value in scope["headers"] if name.lower() == b"authorization"), None))
    if principal.is_admin or (may is May.READ and principal.scope == "API"):
        return principal
    detail = (
        "a runner's key may call apps and nothing else"
        if principal.scope == "RUNNER"
        else f"this takes an ADMIN key, and this one has the scope {principal.scope}"
    )
    raise RoostError("forbidden", detail, hint="`roost keys create --scope ADMIN` makes one that may.")
