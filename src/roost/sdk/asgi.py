"""The ASGI application of an app: its endpoints as FastAPI routes (spec: app-class.md §1.6).

FastAPI is imported here and nowhere earlier, so that a program which only defines an app does not pay for it.
"""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, FastAPI, WebSocket
from starlette.routing import BaseRoute

from roost.sdk import answers, endpoint
from roost.sdk.app import App
from roost.sdk.cors import AnyOrigin
from roost.sdk.endpoint import Route
from roost.sdk.surround import Surround

HEALTH_PATH = "/health"


def build_asgi(app: App) -> FastAPI:
    """The application of this instance, ready to be called. Its lifespan runs setup() and teardown() if nobody has yet.

    Raises ValueError if a websocket endpoint is not `async def` with a WebSocket parameter, and whatever FastAPI says about a signature.
    """
    return app._build_app()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - a hook that authors may override


def assemble(app: App) -> FastAPI:
    """What `App._build_app` does unless overridden."""
    fastapi = FastAPI(lifespan=app.lifespan, root_path=os.environ.get("FAL_APP_ROOT_PATH", ""))
    app._add_extra_middlewares(fastapi)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    fastapi.add_middleware(AnyOrigin)
    # Added last is outermost.
    hints = None if type(app).provide_hints is App.provide_hints else app.provide_hints
    fastapi.add_middleware(Surround, provide_hints=hints)
    answers.add_handlers(fastapi)
    for name, route in endpoint.collect(type(app)).items():
        _add_endpoint(fastapi, app, name, route)
    app._add_extra_routes(fastapi)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return fastapi


def add_health_route(app: App, fastapi: FastAPI) -> None:
    """`GET /health` answers `app.health()`, unless the author has an endpoint there."""
    if not any(_path(route) == HEALTH_PATH for route in fastapi.routes):
        fastapi.add_api_route(HEALTH_PATH, app.health, methods=["GET"], name="health")


def _path(route: BaseRoute) -> str | None:
    return getattr(route, "path", None)


def _add_endpoint(fastapi: FastAPI, app: App, name: str, route: Route) -> None:
    method = getattr(app, name)
    if route.is_websocket:
        _check_websocket(method, f"{type(app).__name__}.{name}()")
        fastapi.add_api_websocket_route(route.path, method, name=name)
    else:
        fastapi.add_api_route(route.path, _with_body(method), methods=["POST"], name=name)


def _check_websocket(method: Callable[..., Any], owner: str) -> None:
    if not inspect.iscoroutinefunction(method):
        raise ValueError(f"{owner} is a websocket endpoint and must be written with `async def`")
    annotations = (parameter.annotation for parameter in inspect.signature(method).parameters.values())
    if not any(inspect.isclass(annotation) and issubclass(annotation, WebSocket) for annotation in annotations):
        raise ValueError(f"{owner} is a websocket endpoint and needs a parameter annotated `fastapi.WebSocket`")


def _with_body(method: types.MethodType) -> types.MethodType:
    """The method, with parameters that say nothing about themselves taken from the JSON body.

    FastAPI would look for them in the query string. Several of them are the keys of one JSON object.
    """
    function: Any = method.__func__
    signature = inspect.signature(function)
    own, *rest = signature.parameters.values()
    changed = [parameter.replace(annotation=Annotated[Any, Body()]) if _says_nothing(parameter) else parameter for parameter in rest]
    if changed == rest:
        return method
    # A copy: the author's function belongs to the class, which may be built again or pickled.
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    copy.__dict__.update(function.__dict__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__doc__ = function.__doc__
    copy.__qualname__ = function.__qualname__
    copy.__module__ = function.__module__
    copy.__signature__ = signature.replace(parameters=[own, *changed])  # type: ignore[attr-defined]
    return types.MethodType(copy, method.__self__)


def _says_nothing(parameter: inspect.Parameter) -> bool:
    if parameter.annotation is not inspect.Parameter.empty:
        return False
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return False
    # `file=File()`, `user=Depends(...)` say enough.
    return type(parameter.default).__module__.partition(".")[0] != "fastapi"
