"""`roost run --local`: serve an app in this process, with the same application that a runner serves (spec: app-class.md §1.6, §1.10).

On the author's side only: uvicorn is not in runners.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from roost.sdk import declared
from roost.sdk.app import App, create, forget
from roost.sdk.lifecycle import run_handle_exit, run_setup, run_teardown
from roost.wire.errors import RoostError

if TYPE_CHECKING:
    from fastapi import FastAPI

_DEFAULT_GRACE_MS = 5_000
_KEEP_ALIVE_S = 300


def serve_local(cls: type[App], host: str = "127.0.0.1", port: int = 8080, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Run setup(), serve until Ctrl-C or SIGTERM, let calls in flight end inside the grace period, run teardown().

    `on_ready` hears the URL once calls are answered. Port 0 takes a free one. What setup() raises comes through; so does RoostError
    for an address that cannot be used. Call it on the main thread, where signals arrive.
    """
    from roost.sdk.annotations import resolve_annotations
    from roost.sdk.asgi import build_asgi

    resolve_annotations(cls)
    listener = _listen(host, port)
    with listener, runner_environment():
        app = create(cls)
        try:
            url = f"http://{'[' + host + ']' if ':' in host else host}:{listener.getsockname()[1]}"
            asyncio.run(_serve(app, build_asgi(app), listener, lambda: on_ready(url) if on_ready else None))
        except KeyboardInterrupt:
            pass  # uvicorn has stopped in good order and passes Ctrl-C on
        finally:
            forget(app)


async def _serve(app: App, asgi: FastAPI, listener: socket.socket, ready: Callable[[], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            run_handle_exit(app)
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    # asyncio turns the first Ctrl-C into a cancellation, which a setup() that loads a model would not notice.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = time.monotonic()
    await run_setup(app)  # before uvicorn, which would turn what it raises into a line of its log
    _warn_if_slow(type(app), round((time.monotonic() - begun) * 1000))
    grace_ms = declared.parsed(type(app), "termination_grace_period_seconds") or _DEFAULT_GRACE_MS
    config = uvicorn.Config(asgi, lifespan="on", timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, grace_ms // 1000))
    try:
        await Server(config).serve(sockets=[listener])
    finally:
        await run_teardown(app)


def _warn_if_slow(cls: type[App], took_ms: int) -> None:
    limit_ms = declared.parsed(cls, "startup_timeout")
    if limit_ms is not None and took_ms > limit_ms:
        import warnings

        warnings.warn(
            f"setup() took {took_ms / 1000:.1f} s; a runner would be ended after startup_timeout={limit_ms / 1000:g}", stacklevel=2
        )


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket, taken before setup() so that a port in use costs nobody a minute of loading models."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RoostError("conflict", f"cannot listen on {host}:{port}: {reason}", hint="Choose another with --exposed-port") from error


@contextmanager
def runner_environment() -> Generator[None]:
    """What tells code that it runs inside a runner, for the time of the block."""
    names = ("IS_ISOLATE_AGENT", "ROOST_RUNNER", "FAL_RUNNER_STATE", "ROOST_RUNNER_STATE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(IS_ISOLATE_AGENT="1", ROOST_RUNNER="1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
