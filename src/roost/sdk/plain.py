"""Plain endpoints: those whose calls need nothing of FastAPI but its reading of the body and its writing of the result.

FastAPI's way from a request to a handler is most of what a short call costs. A plain endpoint takes one JSON body and nothing else,
so `runner.direct` can go that way in a few steps, with FastAPI's own functions for both ends. Which endpoints are plain is decided
once, narrowly: whoever is not sure to be served alike is served by FastAPI.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, params, routing
from fastapi.datastructures import DefaultPlaceholder
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match

from roost.sdk import answers
from roost.sdk.app import App
from roost.sdk.cors import AnyOrigin
from roost.sdk.surround import Surround

_HOOKS = ("_build_app", "_add_extra_middlewares", "_add_extra_routes", "lifespan")
"""What authors override to change the FastAPI app in ways that nobody can foresee."""

# Tools that watch an app (tracers, error reporters) put their own functions in these places; a call that went around them would be missing.
_WATCHED: tuple[tuple[Any, str], ...] = (
    (FastAPI, "__call__"),
    (FastAPI, "build_middleware_stack"),
    (Starlette, "__call__"),
    (ServerErrorMiddleware, "__call__"),
    (ExceptionMiddleware, "__call__"),
    (routing, "get_request_handler"),
    (routing, "run_endpoint_function"),
    (routing, "serialize_response"),
)

_SAID_BY_EVERY_ROUTE = ("call", "name", "path", "scope", "use_cache", "cache_key", "body_params")
"""What FastAPI's record of a signature holds for an endpoint that asks for nothing but its body."""

# The calls of `serialize_response` that FastAPI's handler of a route without options of its own makes.
_DUMPS_JSON = "dump_json" in inspect.signature(routing.serialize_response).parameters


@dataclass(frozen=True, slots=True)
class Plain:
    """One plain endpoint."""

    call: Callable[..., Any]
    is_async: bool
    body: Any
    """FastAPI's field of the one parameter."""
    result: Any
    """FastAPI's field of the annotated result, or None."""

    async def answer(self, value: object) -> bytes | Response:
        """Validate this JSON value, run the handler with it, and answer what it returned, as the bytes of a 200 with JSON or as it is.

        Raises what FastAPI would raise in the same place, which the app's own table of exceptions turns into an answer.
        """
        argument, errors = self.body.validate(value, {}, loc=("body",))
        if errors:
            raise RequestValidationError(errors, body=value)
        if self.is_async:
            returned = await self.call(**{self.body.name: argument})
            return returned if isinstance(returned, Response) else await self._written(returned)
        # One thread for both: FastAPI too checks the result of a plain function in a thread, but sends it there again.
        return await run_in_threadpool(self._in_thread, argument)

    def _in_thread(self, argument: object) -> bytes | Response:
        returned = self.call(**{self.body.name: argument})
        return returned if isinstance(returned, Response) else _done(self._written(returned))

    async def _written(self, returned: object) -> bytes:
        if _DUMPS_JSON and self.result is not None:
            return await routing.serialize_response(field=self.result, response_content=returned, dump_json=True)
        content = await routing.serialize_response(field=self.result, response_content=returned)
        return bytes(JSONResponse(content).body)


def find(app: App, fastapi: FastAPI) -> dict[str, Plain]:
    """The plain endpoints of the application that was built from this app, by path."""
    if not _is_ours_alone(app, fastapi):
        return {}
    found: dict[str, Plain] = {}
    for route in fastapi.router.routes:
        if not isinstance(route, routing.APIRoute) or _first_at(fastapi, route.path) is not route:
            continue
        plain = _plain(route)
        if plain is not None:
            found[route.path] = plain
    return found


def _is_ours_alone(app: App, fastapi: FastAPI) -> bool:
    """Whether nobody but this package has had a hand in the application."""
    cls = type(app)
    if type(fastapi) is not FastAPI or any(getattr(cls, hook) is not getattr(App, hook) or hook in vars(app) for hook in _HOOKS):
        return False
    if [middleware.cls for middleware in fastapi.user_middleware] != [Surround, AnyOrigin]:
        return False
    usual = FastAPI(openapi_url=None)
    answers.add_handlers(usual)
    if fastapi.exception_handlers != usual.exception_handlers:
        return False
    if not all(_is_original(owner, name) for owner, name in _WATCHED):
        return False
    if JSONResponse({}).raw_headers != [(b"content-length", b"2"), (b"content-type", b"application/json")]:
        return False
    telemetry = getattr(fastapi, "_native_telemetry", None)
    changed = fastapi.debug or fastapi.root_path or getattr(fastapi, "max_body_size", None) is not None
    return not changed and (telemetry is None or not telemetry.enabled())


def _is_original(owner: Any, name: str) -> bool:
    function: object = inspect.getattr_static(owner, name, None)
    return isinstance(function, types.FunctionType) and function.__globals__["__name__"].partition(".")[0] in ("fastapi", "starlette")


def _first_at(fastapi: FastAPI, path: str) -> BaseRoute | None:
    """The route that a POST to this path reaches."""
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "root_path": "", "headers": []}
    for route in fastapi.router.routes:
        if route.matches(scope)[0] is Match.FULL:
            return route
    return None


def _plain(route: routing.APIRoute) -> Plain | None:
    """The route as a plain endpoint, or None if it asks for more than one JSON body or answers with more than a 200."""
    dependant = route.dependant
    said = {field.name: getattr(dependant, field.name, None) for field in dataclasses.fields(dependant)}
    if any(value for name, value in said.items() if name not in _SAID_BY_EVERY_ROUTE):
        return None
    if type(route) is not routing.APIRoute or route.methods != {"POST"} or getattr(route, "_embed_body_fields", True):
        return None
    if len(dependant.body_params) != 1 or type(dependant.body_params[0].field_info) is not params.Body:
        return None
    if not _answers_plainly(route) or route.dependencies or getattr(route, "max_body_size", None) is not None:
        return None
    call = dependant.call
    if not isinstance(call, types.MethodType) or not isinstance(call.__func__, types.FunctionType) or hasattr(call, "__wrapped__"):
        return None
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        return None
    return Plain(call, inspect.iscoroutinefunction(call), dependant.body_params[0], route.response_field)


def _answers_plainly(route: routing.APIRoute) -> bool:
    return (
        isinstance(route.response_class, DefaultPlaceholder)
        and route.response_class.value is JSONResponse
        and route.status_code is None
        and route.response_model_include is None
        and route.response_model_exclude is None
        and route.response_model_by_alias
        and not route.response_model_exclude_unset
        and not route.response_model_exclude_defaults
        and not route.response_model_exclude_none
    )


def _done(work: Coroutine[Any, Any, bytes]) -> bytes:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise RuntimeError("writing a result waited for something")
