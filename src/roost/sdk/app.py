"""The class that an author writes a subclass of (spec: app-class.md §1.2-1.4).

Options are attributes of the class or keywords in its header; the table with every one of them is roost/sdk/options.py
(docs/reference/app-options.md). Those that only later versions make effective are carried and shown, and say so there.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from roost.sdk import context, declared, endpoint, lifecycle, names
from roost.sdk.context import RequestContext
from roost.sdk.endpoint import Route
from roost.sdk.options import OPTIONS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from roost import AppSpawnInfo
    from roost.sdk.health import HealthCheck
    from roost.sdk.retry import RetryConfig

A = TypeVar("A", bound="App")


class App:
    """One app: methods marked with `@roost.endpoint` answer calls, `setup()` prepares each runner.

    ```python
    class Hello(roost.App, keep_alive=300):
        requirements = ["numpy"]

        @roost.endpoint("/")
        def greet(self, input: Input) -> Output: ...
    ```
    """

    # Each line is explained in roost/sdk/options.py, which also sets the defaults below.
    app_name: ClassVar[str | None]
    app_auth: ClassVar[str | None]
    version: ClassVar[str]
    requirements: ClassVar[list[str] | list[list[str]]]
    requirements_context_dir: ClassVar[str | os.PathLike[str] | None]
    local_python_modules: ClassVar[list[str]]
    python_version: ClassVar[str | None]
    resolver: ClassVar[str]
    kind: ClassVar[str | None]
    image: ClassVar[Any]
    compile_bytecode: ClassVar[bool | None]
    app_files: ClassVar[list[str]]
    app_files_ignore: ClassVar[list[str]]
    app_files_context_dir: ClassVar[str | os.PathLike[str] | None]
    machine_type: ClassVar[str | list[str]]
    num_gpus: ClassVar[int | None]
    regions: ClassVar[list[str] | None]
    keep_alive: ClassVar[float | None]
    min_concurrency: ClassVar[int | None]
    max_concurrency: ClassVar[int | None]
    concurrency_buffer: ClassVar[int | None]
    concurrency_buffer_perc: ClassVar[int | None]
    scaling_delay: ClassVar[float | None]
    max_multiplexing: ClassVar[int | None]
    request_timeout: ClassVar[float | None]
    request_start_timeout: ClassVar[float | None]
    startup_timeout: ClassVar[float | None]
    termination_grace_period_seconds: ClassVar[float | None]
    skip_retry_conditions: ClassVar[list[str] | None]
    retry_config: ClassVar[RetryConfig | dict[str, dict[str, int]] | None]
    secrets: ClassVar[list[str] | None]
    data_mounts: ClassVar[list[str] | None]
    private_logs: ClassVar[bool | None]
    exposed_port: ClassVar[int | None]
    metrics_port: ClassVar[int | None]
    limit_max_requests: ClassVar[int | None]
    local_file_path: ClassVar[str | None]
    isolate_channel: ClassVar[Any]
    host_kwargs: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Check everything the class declares. Raises ValueError with what to write instead."""
        super().__init_subclass__()
        if cls.__init__ is not App.__init__:
            raise ValueError(f"{cls.__name__}: an App has no __init__ of its own, runners make it without arguments. Prepare it in setup()")
        if inspect.iscoroutinefunction(cls.preload):
            raise ValueError(
                f"{cls.__name__}.preload() must be a plain `def`: it runs where there is no event loop. What must be awaited belongs in setup()"
            )
        declared.take(cls, keywords)
        endpoint.collect(cls)

    def __init__(self) -> None:
        if not any(os.environ.get(name) for name in ("ROOST_RUNNER", "IS_ISOLATE_AGENT")):
            raise NotImplementedError(
                f"{type(self).__name__} is made by its runner. Call it with `roost run`, or in a test with roost.AppClient.local({type(self).__name__})"
            )

    # What an author may override.

    def preload(self) -> None:
        """Load what all runners of this app can share: weights, tables, tokenizers. Put it on `self` or on the class.

        Runs once, in the process that runners are forked from, before any of them has its `setup()`: its results are in memory once,
        however many runners there are, for as long as nobody writes to them. So here, unlike in `setup()`: plain `def` only, no
        threads and no processes that stay, nothing on a GPU, no open connections, no secrets and no `current_request`. What breaks
        these rules is named in `roost apps show`; runners then start afresh, and each runs `preload()` itself right before `setup()`.
        Random generators made here are the same in every runner (`random` and `numpy.random` themselves are seeded anew).
        """

    def setup(self) -> Any:
        """Prepare the runner, once, before its first call: load models here. `def` or `async def`."""

    def teardown(self) -> Any:
        """Clean up after the last call, inside the grace period. `def` or `async def`."""

    def handle_exit(self) -> Any:
        """Called at once when the runner is told to stop, while calls are still running: tell long work to end. Be quick."""

    def health(self) -> dict[str, Any]:
        """The answer of `GET /health`. May be `async def` too."""
        return {"version": self.version}

    def provide_hints(self) -> list[str]:
        """Values that callers may ask for with `X-Fal-Runner-Hint`, for example the models in memory; sent with each response."""
        raise NotImplementedError

    # What a handler may look at.

    @property
    def current_request(self) -> RequestContext | None:
        """The request that the calling code works for; without fields outside of one, None before the app has begun."""
        return context.current() if lifecycle.has_begun(self) else None

    # What the class says about itself.

    @classmethod
    def collect_routes(cls) -> dict[str, Route]:
        """Routes by method name, in the order in which they are written."""
        return endpoint.collect(cls)

    @classmethod
    def get_endpoints(cls) -> list[str]:
        """The paths."""
        return [route.path for route in endpoint.collect(cls).values()]

    @classmethod
    def get_health_check_config(cls) -> HealthCheck | None:
        return next((route.health_check for route in endpoint.collect(cls).values() if route.health_check is not None), None)

    @classmethod
    def openapi(cls) -> dict[str, Any]:
        """The OpenAPI document (`sdk.openapi.build_openapi`)."""
        from roost.sdk.openapi import build_openapi

        return build_openapi(cls)

    @classmethod
    def build_metadata(cls) -> dict[str, Any]:
        return {"openapi": cls.openapi()}

    @classmethod
    def run_local(cls, exposed_port: int | None = None, *, host: str = "127.0.0.1") -> None:
        """Serve the app in this process until Ctrl-C, on port 8080 unless told otherwise (`sdk.local.serve_local`)."""
        from roost.sdk.local import serve_local

        serve_local(cls, host, 8080 if exposed_port is None else exposed_port)

    @classmethod
    def spawn(cls) -> AppSpawnInfo:
        """Begin a run of it on the server of the profile, as `roost run` does; `.wait()` for it, `.cancel()` it (`roost.spawn`)."""
        from roost import spawn

        return spawn(cls)

    # Hooks of the framework; overriding is for those who know FastAPI, and wants a call of super().

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        """Around the serving: setup() before, teardown() after, each only if it has not run yet."""
        await lifecycle.run_setup(self)
        try:
            yield
        finally:
            await lifecycle.run_teardown(self)

    def _build_app(self) -> FastAPI:
        """The ASGI application."""
        from roost.sdk.asgi import assemble

        return assemble(self)

    def _add_extra_middlewares(self, app: FastAPI) -> None:
        """Add middlewares of your own; they run inside CORS and the request's context."""

    def _add_extra_routes(self, app: FastAPI) -> None:
        """Add routes of your own; this adds `GET /health` unless the path is taken."""
        from roost.sdk.asgi import add_health_route

        add_health_route(self, app)


for _option in OPTIONS.values():
    if not _option.keyword_only:
        setattr(App, _option.name, _option.default)


def name_of(cls: type[App]) -> str:
    """The app's name: as the author set it (also on a parent), or derived from the class's own name. Raises ValueError."""
    explicit = declared.value(cls, "app_name")
    return names.check(names.derive(cls.__name__) if explicit is None else explicit)


# The app of this process

_apps: list[App] = []


def create(cls: type[A]) -> A:
    """The instance that serves, registered as the current app. For runners and local serving; authors never make one."""
    app = cls.__new__(cls)
    _apps.append(app)
    return app


def forget(app: App) -> None:
    """Undo the registration: for those who serve several apps after or beside each other in one process, such as tests."""
    _apps[:] = [other for other in _apps if other is not app]


def get_current_app() -> App | None:
    """The app that this process serves, for code outside of the class; None where there is none.

    Where tests serve several, the one that began last.
    """
    return _apps[-1] if _apps else None
