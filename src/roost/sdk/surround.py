"""What surrounds every call of an app, as one pure ASGI layer: the request's context, routing hints, and the last resort for exceptions.

This is the hot path. One layer, because each costs a coroutine and a closure per call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roost.sdk import context, upload_policy
from roost.sdk.answers import UNITS, last_resort, print_traceback

Hints = Callable[[], list[str]]
HINTS_HEADER = b"x-fal-runner-hints"


class Surround:
    """Outermost of the app's middlewares: an unexpected exception's answer carries neither CORS nor hints (spec: app-class.md §1.6)."""

    def __init__(self, app: ASGIApp, provide_hints: Hints | None) -> None:
        self._inner = app
        self._provide_hints = provide_hints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._call(scope, receive, send)
        elif scope["type"] == "websocket" and _policy(scope) is not None:
            await receive()  # websocket.connect; a close before the accept refuses the handshake
            await send({"type": "websocket.close", "code": 1008, "reason": "x-app-fal-upload-policy cannot be used with websockets"})
        else:
            await self._inner(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        policy = _policy(scope)
        problem = None if policy is None else upload_policy.problem(policy)
        if problem is not None:
            await JSONResponse({"detail": problem}, 422, {UNITS: "0"})(scope, receive, send)
            return
        started = False

        async def passed_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self._provide_hints is not None:
                    _add_hints(message, self._provide_hints)
            await send(message)

        token = context.enter(scope)
        try:
            await self._inner(scope, receive, passed_on)
        except Exception as grouped:
            error = _alone(grouped)
            if started:
                # Half an answer is out. Only a broken connection can tell the caller, so whoever serves us must hear of it.
                print_traceback(error)
                raise error  # noqa: B904 - the same exception, without the group around it
            await last_resort(error)(scope, receive, send)
        finally:
            context.leave(token)


def _alone(error: Exception) -> Exception:
    """What was raised: some versions of Starlette wrap an exception of a stream in a group of one."""
    members = getattr(error, "exceptions", ())
    while len(members) == 1 and isinstance(members[0], Exception):
        error = members[0]
        members = getattr(error, "exceptions", ())
    return error


def _policy(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == upload_policy.HEADER:
            return value
    return None


def _add_hints(message: Message, provide_hints: Hints) -> None:
    try:
        hints = provide_hints()
    except NotImplementedError:
        return
    sendable: list[bytes] = []
    for hint in hints:
        try:
            sendable.append(hint.encode("latin-1"))
        except UnicodeEncodeError:
            warnings.warn(f"routing hint {hint!r} is dropped: a header cannot carry it", stacklevel=2)
    if sendable:
        headers: list[Any] = [*message.get("headers", ()), (HINTS_HEADER, b",".join(sendable))]
        message["headers"] = headers
