"""Direct dispatch: the short way to plain endpoints, in front of the app (ARCHITECTURE §4). `ROOST_DIRECT=0` switches it off.

The answers are those of the app itself, byte for byte, and a handler or validator never runs twice. What is unusual about a request is
noticed before any code of the author has run; the request then goes to the app as if nothing had been. What is unusual about the outcome
(an exception, a `Response`, routing hints) is finished by the same layers that finish it inside the app.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roost.sdk import context, plain
from roost.sdk.app import App
from roost.sdk.plain import Plain
from roost.sdk.surround import Surround

_JSON: Final = frozenset((b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"))
_UNUSUAL: Final = frozenset((b"origin", b"x-app-fal-upload-policy"))
"""Fields that a layer of the app acts upon."""
_OUTCOME: Final = "roost.outcome"


def in_front_of(fastapi: FastAPI, app: App) -> ASGIApp:
    """The application with the short way to its plain endpoints; without any, or switched off, itself."""
    if os.environ.get("ROOST_DIRECT") == "0":
        return fastapi
    endpoints = plain.find(app, fastapi)
    return Direct(fastapi, endpoints, app) if endpoints else fastapi


class Direct:
    """An ASGI application that answers usual calls of plain endpoints and passes on all others."""

    def __init__(self, fastapi: FastAPI, endpoints: Mapping[str, Plain], app: App) -> None:
        self._app = fastapi
        self._endpoints = endpoints
        self._hints = None if type(app).provide_hints is App.provide_hints else app.provide_hints
        # The layers of the app, outermost first, without those that act only on unusual requests. Twice the exceptions', as in FastAPI,
        # where the route is one of the two.
        handlers: Any = fastapi.exception_handlers
        handling = ExceptionMiddleware(ExceptionMiddleware(_outcome, handlers), handlers)
        self._finish = ServerErrorMiddleware(Surround(handling, self._hints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None or not _is_usual(scope):
            await self._app(scope, receive, send)
            return
        message = await receive()
        value = _value(message)
        if value is None:
            await self._app(scope, _again(message, receive), send)
            return
        token = context.enter(scope)
        try:
            answer: bytes | Response | Exception = await endpoint.answer(value)
        except Exception as error:
            answer = error
        finally:
            context.leave(token)
        if isinstance(answer, bytes) and self._hints is None:
            headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
            return
        scope["app"] = self._app
        scope[_OUTCOME] = answer
        await self._finish(scope, receive, send)


def _is_usual(scope: Scope) -> bool:
    """Whether this is a POST of JSON that no layer of the app would treat in a way of its own."""
    if scope["method"] != "POST" or scope["query_string"]:
        return False
    content_type: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            if content_type is not None:
                return False
            content_type = value
        elif name in _UNUSUAL:
            return False
    return content_type in _JSON


def _value(message: Message) -> Any:
    """The JSON value of a body that has arrived whole; None if it has not, if it is no JSON, or if it is null."""
    if message["type"] != "http.request" or message.get("more_body", False):
        return None
    try:
        return json.loads(message.get("body", b""))
    except (ValueError, RecursionError):
        return None


def _again(first: Message, receive: Receive) -> Receive:
    """A `receive` that begins with the message that was read already."""
    pending = [first]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


async def _outcome(scope: Scope, receive: Receive, send: Send) -> None:
    """The innermost app of `_finish`: what the handler's call came to."""
    outcome = scope[_OUTCOME]
    if isinstance(outcome, Exception):
        raise outcome
    response = outcome if isinstance(outcome, Response) else Response(outcome, media_type="application/json")
    await response(scope, receive, send)
