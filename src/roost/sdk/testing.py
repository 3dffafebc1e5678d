"""Call an app in an author's tests, in their own process or on a server (spec: app-class.md §1.10).

On the author's side only: httpx is not in runners.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import uuid
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from roost.sdk import endpoint
from roost.sdk.app import App, create, forget, name_of

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

T = TypeVar("T")


class AppClientError(Exception):
    """The app answered with an error: its status, its body's `detail` in the message, and its headers."""

    def __init__(self, message: str, status_code: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.headers = dict(headers or {})


class AppClient:
    """A client whose methods are the app's endpoints.

    ```python
    with roost.AppClient.local(MyApp) as client:
        answer = client.generate(Input(prompt="a roost"))     # or {"prompt": "a roost"}
    ```
    `local` serves it in this process, `connect` runs it on a server, in an environment of its own.
    Each takes one argument, a model or JSON, and returns what the endpoint's return annotation says, or the JSON itself.
    Errors of the app raise AppClientError.
    """

    def __init__(self, cls: type[App], send: Callable[[str, str, Any], httpx.Response]) -> None:
        """`send(method, path, json)` answers the response; see `local` and `connect`."""
        self._cls = cls
        self._send = send
        self._routes = {name: route for name, route in endpoint.collect(cls).items() if not route.is_websocket}

    @classmethod
    @contextmanager
    def local(cls, app: type[App]) -> Generator[AppClient]:
        """Run setup(), then calls in this process, on an event loop of their own; teardown() at the end.

        What setup() or teardown() raises comes through.
        """
        from roost.sdk.annotations import resolve_annotations
        from roost.sdk.local import runner_environment

        resolve_annotations(app)
        with runner_environment(), closing(_Loop()) as loop:
            instance = create(app)
            try:
                with _Serving(instance, loop) as send:
                    yield cls(app, send)
            finally:
                forget(instance)

    @classmethod
    @contextmanager
    def connect(
        cls, app: type[App], *, health_request_timeout: float = 30, startup_timeout: float = 60, health_check_interval: float = 0.5
    ) -> Generator[AppClient]:
        """Run it on the server of the profile (`App.spawn`), print what it prints, and call it when it is healthy; the run ends with the block.

        Raises what `AppSpawnInfo.wait` raises if it does not come up.
        """
        from roost import spawn

        # A test's output is where an author looks for what the app said.
        with spawn(app, on_log=lambda line: print(line.message, flush=True)) as info:  # noqa: T201  # it is data, not talk of ours
            info.wait(health_request_timeout, startup_timeout, health_check_interval)
            yield cls(app, info.send)

    def health(self) -> Any:
        """The answer of `GET /health`."""
        return _content(_checked(self._send("GET", "/health", None)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        route = self.__dict__.get("_routes", {}).get(name)
        if route is None:
            known = ", ".join(self.__dict__.get("_routes", {}))
            raise AttributeError(f"{self._cls.__name__} has no endpoint {name!r}. It has: {known}")

        def call(argument: Any = None, /) -> Any:
            response = _checked(self._send("POST", route.path, _plain(argument)))
            annotation = inspect.signature(getattr(self._cls, name)).return_annotation
            return _as_annotated(_content(response), annotation)

        call.__name__ = name
        return call

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._routes})


def _plain(argument: Any) -> Any:
    """A model as JSON; anything else as it is."""
    dump = getattr(argument, "model_dump", None)
    return argument if dump is None else dump(mode="json")


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    content = _content(response)
    detail = content.get("detail", "") if _is_object(content) else content
    raise AppClientError(f"{response.status_code} {detail}", response.status_code, response.headers)


def _content(response: httpx.Response) -> Any:
    """JSON as its value, text as text, the rest as bytes."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "application/json" or kind.endswith("+json"):
        return response.json()
    return response.text if kind.startswith("text/") else response.content


def _as_annotated(content: Any, annotation: Any) -> Any:
    """A model, if the endpoint says that it returns one and the answer is an object."""
    is_model = inspect.isclass(annotation) and hasattr(annotation, "model_fields")
    return annotation(**content) if is_model and _is_object(content) else content


def _is_object(content: object) -> bool:
    return isinstance(content, dict)


class _Loop:
    """An event loop in a thread, for tests that have none or are busy with their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="roost-app-client", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def begin(self, work: Awaitable[T]) -> Future[T]:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def run(self, work: Awaitable[T]) -> T:
        return self.begin(work).result()


class _Serving:
    """An app between its setup() and its teardown(). Entering answers the function that sends calls to it."""

    def __init__(self, app: App, loop: _Loop) -> None:
        self._app = app
        self._loop = loop

    def __enter__(self) -> Callable[[str, str, Any], httpx.Response]:
        self._ready: Future[FastAPI] = Future()
        self._stop = asyncio.Event()
        self._life = self._loop.begin(self._live())
        self._life.add_done_callback(self._fail_if_not_ready)
        asgi = self._ready.result()
        return lambda method, path, json: self._loop.run(self._send(asgi, method, path, json))

    def __exit__(self, *exc: object) -> None:
        self._loop.begin(self._set_stop()).result()
        self._life.result()

    async def _live(self) -> None:
        """In one task, since what a lifespan enters it must leave in the same task."""
        from roost.sdk.asgi import build_asgi
        from roost.sdk.lifecycle import run_setup, run_teardown

        await run_setup(self._app)
        asgi = build_asgi(self._app)
        async with asgi.router.lifespan_context(asgi):
            self._ready.set_result(asgi)
            await self._stop.wait()
        await run_teardown(self._app)

    def _fail_if_not_ready(self, life: Future[None]) -> None:
        error = life.exception()
        if error is not None and not self._ready.done():
            self._ready.set_exception(error)

    async def _set_stop(self) -> None:
        self._stop.set()

    async def _send(self, asgi: FastAPI, method: str, path: str, json: Any) -> httpx.Response:
        import httpx

        headers = {"x-fal-request-id": str(uuid.uuid4()), "x-fal-endpoint": f"local/{name_of(type(self._app))}{path}"}
        # Exceptions have become answers by now; one that still escapes broke an answer in the middle, and is the test's business.
        async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://local") as client:
            return await client.request(method, path, json=json, headers=headers)
