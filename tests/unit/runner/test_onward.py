"""A handler's own calls belong to the call that it serves: on its loop, in its threads, and not after its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
import pytest

import roost
from roost.client import inherited
from roost.runner import onward
from roost.sdk import context

HEADERS = [(b"traceparent", b"00-aa-bb-01"), (b"x-fal-request-id", b"r1")]


@pytest.fixture(autouse=True)
def runner() -> Iterator[None]:
    onward.pass_on(60_000)
    yield
    inherited.served_by(lambda: None)


def scope(*more: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "path": "/", "headers": [*HEADERS, *more]}


def left_s(headers: dict[str, str]) -> float:
    return float(headers["x-fal-request-timeout"])


def test_outside_of_a_call_there_is_nothing_to_pass_on():
    assert roost.outgoing_headers() == {}


def test_a_call_passes_on_its_trace_and_what_its_app_leaves_it():
    token = context.enter(scope())
    try:
        found = roost.outgoing_headers()
        assert found["traceparent"] == "00-aa-bb-01"
        assert 30 < left_s(found) <= 60
        assert abs(int(found["x-roost-deadline"]) - (time.time() + 60) * 1000) < 30_000
    finally:
        context.leave(token)


def test_a_call_whose_caller_waits_shorter_passes_that_on():
    ends_ms = round(time.time() * 1000) + 20_000
    token = context.enter(scope((b"x-roost-deadline", str(ends_ms).encode())))
    try:
        assert roost.outgoing_headers()["x-roost-deadline"] == str(ends_ms)
        assert left_s(roost.outgoing_headers()) <= 20
        assert roost.outgoing_headers(deadline=False) == {"traceparent": "00-aa-bb-01"}
    finally:
        context.leave(token)


async def test_threads_and_tasks_of_a_handler_pass_on_the_same():
    token = context.enter(scope())
    try:
        inside = [
            await anyio.to_thread.run_sync(roost.outgoing_headers),
            await asyncio.to_thread(roost.outgoing_headers),
            await asyncio.create_task(_later()),
        ]
    finally:
        context.leave(token)
    assert [found["traceparent"] for found in inside] == ["00-aa-bb-01"] * 3
    assert all("x-fal-request-timeout" in found for found in inside)


async def test_a_task_that_outlives_its_call_has_its_trace_but_no_deadline():
    ended = asyncio.Event()

    async def background() -> dict[str, str]:
        await ended.wait()
        return roost.outgoing_headers()

    token = context.enter(scope())
    task = asyncio.create_task(background())
    context.leave(token)
    ended.set()
    assert await task == {"traceparent": "00-aa-bb-01"}


async def _later() -> dict[str, str]:
    return roost.outgoing_headers()
