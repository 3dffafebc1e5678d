"""A health check's call, with the app replaced by a function."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from roost.runner.dispatch import AsgiApp
from roost.runner.logs import Output
from roost.runner.probe import Prober
from roost.testkit.loop import VirtualLoop

Send = Callable[[dict[str, Any]], Awaitable[None]]
ORDER = {"op": "health", "id": 7, "path": "/ready", "method": "POST", "timeout_ms": 5_000}


def on_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**cases: Any) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(test(**cases))
        finally:
            loop.close()

    return run


class Asked:
    """A prober, what it reported, and how often it said that the process ends."""

    def __init__(self, app: AsgiApp) -> None:
        self.reports: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ends = 0
        self.prober = Prober(app, Output(), self.reports.put_nowait, self._end)

    def _end(self) -> None:
        self.ends += 1

    async def __call__(self, **changes: Any) -> dict[str, Any]:
        """The report of one question."""
        self.prober.ask({**ORDER, **changes})
        return await self.reports.get()


async def answer(send: Send, status: int = 200, *, whole: bool = True) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"{}", "more_body": not whole})


@pytest.mark.parametrize("status", [200, 302, 503])
@on_virtual_time
async def test_the_status_is_reported(status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, status)

    assert await Asked(app)() == {"op": "health", "id": 7, "status": status}


@pytest.mark.parametrize(("method", "body"), [("POST", b"{}"), ("GET", b"")])
@on_virtual_time
async def test_the_app_sees_a_platforms_probe_of_its_path_and_method(method: str, body: bytes) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        message = await receive()
        seen.append((scope["method"], scope["path"], message["body"], headers[b"content-length"], headers[b"x-fal-runner-health-check"]))
        assert b"x-fal-request-id" not in headers and b"x-fal-caller-user-id" not in headers
        await answer(send)

    await Asked(app)(method=method)
    assert seen == [(method, "/ready", body, b"%d" % len(body), b"true")]


@on_virtual_time
async def test_an_answer_that_takes_too_long_is_none_and_the_handler_is_told() -> None:
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        told.append((await receive())["type"])
        await answer(send)

    asked = Asked(app)
    began = asyncio.get_running_loop().time()
    assert await asked() == {"op": "health", "id": 7, "status": 0, "detail": "did not answer within 5 s"}
    assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.1)
    await asyncio.sleep(1)
    # What it answered after that is nobody's.
    assert told == ["http.disconnect"] and asked.reports.empty()


@on_virtual_time
async def test_a_body_that_never_ends_is_no_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, whole=False)
        await asyncio.sleep(60)

    assert (await Asked(app)())["detail"] == "did not answer within 5 s"


@on_virtual_time
async def test_a_check_that_still_runs_is_not_begun_a_second_time() -> None:
    begun = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await asyncio.sleep(12)
        await answer(send)

    asked = Asked(app)
    await asked()
    assert (await asked(id=8)) == {"op": "health", "id": 8, "status": 0, "detail": "is still busy with the check before"}
    await asyncio.sleep(10)
    await asked(id=9)
    assert begun == 2


@on_virtual_time
async def test_what_the_app_lets_escape_is_named() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    assert (await Asked(app)())["detail"] == "raised ZeroDivisionError"


@on_virtual_time
async def test_a_call_without_an_answer_is_none() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    assert (await Asked(app)())["detail"] == "ended the call without an answer"


def test_a_check_that_calls_exit_ends_the_process_as_any_handler_does() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise SystemExit(3)

    asked = Asked(app)

    async def main() -> None:
        # What ends a process is raised by its loop; that the task has it too is not news.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        asked.prober.ask(ORDER)
        await asyncio.sleep(60)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert asked.ends == 1
