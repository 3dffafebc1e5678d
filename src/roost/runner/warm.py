"""What a forked process does while it waits for its ticket: everything that is slow only the first time.

A fork's memory is its template's until it is written to, and the first event loop, the first thread and the first request write to
much of it. Nothing of the author's code is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

from roost.runner.dispatch import AsgiApp
from roost.runner.load import Loaded


def warm_up(loaded: Loaded | None) -> None:
    """A thread, an event loop, a worker thread, and a request for a path that no app has."""
    thread = threading.Thread(target=_nothing)
    thread.start()
    thread.join()
    # What it finds broken, the runner will find again, and can say to somebody.
    with contextlib.suppress(Exception):
        asyncio.run(_exercise(loaded.front if loaded is not None else None))


async def _exercise(app: AsgiApp | None) -> None:
    import anyio.to_thread

    await anyio.to_thread.run_sync(_nothing)
    if app is None:
        return
    path = "/-/-/nowhere"
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }
    await app(scope, _body, _drop)


async def _body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"{}", "more_body": False}


async def _drop(message: Any) -> None:
    del message


def _nothing() -> None:
    pass
