"""From a class to the plain values that travel: wire.spec.AppSpec."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from roost.sdk import declared, endpoint
from roost.sdk.app import App, name_of
from roost.sdk.endpoint import Route
from roost.sdk.options import HOST_OPTIONS, OPTIONS
from roost.wire.spec import AppSpec, EndpointSpec, HealthCheckSpec

PINNED = ("fastapi", "pydantic")
"""Models pickled by value load only under the versions they were made with."""


def build_spec(cls: type[App], *, python_version: str | None = None) -> AppSpec:
    """What the class declares. `python_version` is the author's interpreter, this one unless given.

    Raises ValueError if an option is wrong, the class has no endpoint, or it asks for another Python than the author's.
    """
    declared.check(cls)
    routes = endpoint.collect(cls)
    if not routes:
        raise ValueError(f"{cls.__name__} has no endpoint. Mark at least one method with @roost.endpoint('/')")
    carried = {option.field: declared.parsed(cls, option.name) for option in OPTIONS.values() if option.field not in ("", HOST_OPTIONS)}
    return AppSpec(
        name=name_of(cls),
        class_name=cls.__name__,
        python_version=_python(cls, python_version or this_python()),
        pins=tuple(f"{package}=={_installed(package)}" for package in PINNED),
        endpoints=tuple(_endpoint(cls, name, route) for name, route in routes.items()),
        health_check=_health_check(routes),
        description=_description(cls, routes),
        host_options=_host_options(cls),
        **{field: value for field, value in carried.items() if value is not None},
    )


def this_python() -> str:
    """This interpreter as major.minor."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _python(cls: type[App], local: str) -> str:
    asked = declared.parsed(cls, "python_version")
    if asked is not None and asked != local:
        raise ValueError(
            f"Local Python {local} differs from the app's python_version={asked}: the class is pickled here and loaded there. "
            f"Run roost under Python {asked}, or remove python_version"
        )
    return local


def _installed(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _endpoint(cls: type[App], name: str, route: Route) -> EndpointSpec:
    return EndpointSpec(route.path, name, route.is_websocket, inspect.getdoc(getattr(cls, name)) or "")


def _health_check(routes: dict[str, Route]) -> HealthCheckSpec | None:
    for route in routes.values():
        check = route.health_check
        if check is not None:
            return HealthCheckSpec(
                path=route.path,
                start_period_ms=round(check.start_period_seconds * 1000),
                timeout_ms=round(check.timeout_seconds * 1000),
                failure_threshold=check.failure_threshold,
                call_regularly=check.call_regularly,
                method=check.method,
            )
    return None


def _description(cls: type[App], routes: dict[str, Route]) -> str:
    """The root endpoint's docstring describes the model (spec: app-class.md §1.7), else the class's own."""
    root = next((name for name, route in routes.items() if route.path == "/"), None)
    own = inspect.cleandoc(cls.__doc__ or "") if "__doc__" in vars(cls) else ""
    return (inspect.getdoc(getattr(cls, root)) if root is not None else None) or own


def _host_options(cls: type[App]) -> dict[str, Any]:
    shown = {option.name: declared.parsed(cls, option.name) for option in OPTIONS.values() if option.field == HOST_OPTIONS}
    return {name: value for name, value in shown.items() if value is not None}
