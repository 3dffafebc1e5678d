"""What flows know of the server: the apps' names, and the marks that calls leave (tests/apps/compat/parrot.py)."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fal_client

OWNER = os.environ["OWNER"]
PARROT = f"{OWNER}/parrot"
SINGLE = f"{OWNER}/single-parrot"
MORTAL = f"{OWNER}/mortal-parrot"
RECORD = Path(os.environ["RECORD"])
WAY = os.environ["WAY"]
"""How this server is reached: direct, nginx or connect."""
VERSION = tuple(int(part) for part in fal_client.__version__.split(".")[:2])
_slot = threading.Lock()


def mark() -> str:
    return uuid.uuid4().hex


def calls(of: str) -> int:
    """How often the app was called with this mark."""
    file = RECORD / of
    return len(file.read_text().splitlines()) if file.exists() else 0


def called_at(of: str) -> int:
    """When the app was called with this mark, in nanoseconds."""
    return (RECORD / of).stat().st_mtime_ns


def until(what: str, condition: Callable[[], bool], patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"after {patience_s:g} s still not: {what}"
        time.sleep(0.02)


def raised(call: Callable[[], object], kinds: tuple[type[Exception], ...] = (Exception,)) -> Exception:
    """The error that a call ends with."""
    try:
        answer = call()
    except kinds as error:
        return error
    raise AssertionError(f"no error but {answer!r}")


def failure(call: Callable[[], object]) -> fal_client.FalClientHTTPError:
    """The error that the client makes of an answer of ours."""
    return _ours(raised(call, (fal_client.FalClientHTTPError,)))


async def failure_of(answer: Awaitable[object]) -> fal_client.FalClientHTTPError:
    try:
        got = await answer
    except fal_client.FalClientHTTPError as error:
        return _ours(error)
    raise AssertionError(f"no error but {got!r}")


def _ours(error: Exception) -> fal_client.FalClientHTTPError:
    assert isinstance(error, fal_client.FalClientHTTPError)
    # The client takes an error without it for the page of some proxy, and tries again.
    assert "x-fal-request-id" in error.response_headers
    return error


@contextmanager
def slot_taken() -> Iterator[fal_client.SyncRequestHandle]:
    """The only slot of `single-parrot` is taken by this request, and free again afterwards. One flow at a time."""
    with _slot:
        me = mark()
        handle = fal_client.submit(SINGLE, {"mark": me}, path="/patient")
        until("the slot is taken", lambda: calls(me) == 1)
        try:
            yield handle
        finally:
            with suppress(fal_client.FalClientHTTPError):  # the flow may have done it
                handle.cancel()
            until("the slot is free", lambda: isinstance(handle.status(), fal_client.Completed))
