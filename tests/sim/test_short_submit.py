"""The short way of submits: when it is taken, every way out of it, and that nobody can tell it from the ordinary one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roost.core.requests import Input, Request
from roost.demand.queue import Queue
from roost.gateway.short_submit import SubmitShortcut
from roost.gateway.submit import Submits
from roost.kit.hints import Hints
from roost.store.requests import Requests
from roost.testkit.dialling import Dialling, request_bytes
from roost.testkit.flaky import FlakyDriver
from roost.testkit.loop import VirtualLoop
from roost.web.http import HttpServer
from tests.sim.queue_desk import HOST, Desk, desk_in

KEY = (b"authorization", b"Key ada:s")
_ID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with desk_in(tmp_path, loop.clock) as desk:
        await desk.app()
        await desk.specs.of("revision-of-app")
        yield desk


class Edge:
    """A server's HTTP edge, and how many requests reached the application behind it."""

    def __init__(self, desk: Desk, *, short: bool = True) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.to_app += 1
            await desk.gateway(scope, receive, send)

        self.desk = desk
        self.to_app = 0
        submits = Submits(desk.queue, desk.payloads, desk.specs.of, desk.clock.now_ms)
        shortcut = SubmitShortcut(desk.queued, submits, desk.routes, desk.keys, desk.gateway.may_call, desk.specs.known)
        self.http = HttpServer(app, shortcut if short else None)

    def dial(self, *pieces: bytes) -> Dialling:
        return Dialling(self.http.newcomer(), list(pieces), self.desk.clock.now_ms)


def submit(body: bytes = b"{}", *more: tuple[bytes, bytes], path: str = "/me/app", key: tuple[bytes, bytes] = KEY) -> bytes:
    fields = [(b"host", HOST.encode()), (b"content-length", b"%d" % len(body)), key, *more]
    return request_bytes("POST", path, fields, body)


async def stored(desk: Desk, request_id: str) -> tuple[Request, Input]:
    """Without what differs from one submit to the next."""
    request, sent = await desk.store.requests.get(request_id), await desk.store.requests.input(request_id)
    assert request is not None and sent is not None
    assert request.gateway_request_id == request.id
    return request._replace(id="", gateway_request_id="", seq=0, created_ms=0), sent


async def waiting(desk: Desk) -> int:
    return len(await desk.store.requests.living(desk.clock.now_ms()))


SUBMITS = {
    "plain": submit(),
    "an endpoint": submit(b"[1]", path="/me/app/sub/p%C3%A4th"),
    "a query": submit(path="/me/app?a=1&b=%20"),
    "a webhook": submit(path="/me/app?a=1&fal_webhook=https%3A%2F%2FX.test%2Fhook%3Fb"),
    "fields": submit(b"x", (b"content-type", b"text/plain"), (b"x-fal-no-retry", b"1"), (b"x-fal-store-io", b"0"), (b"x-own", b"1")),
    "priority and hint": submit(b"x", (b"x-fal-queue-priority", b"low"), (b"x-fal-runner-hint", b"lora-7")),
    "the owner": submit(b"", (b"x-fal-retry-config", b'{"timeout":{"retries":1}}'), key=(b"authorization", b"Key me:s")),
}


@pytest.mark.parametrize("asked", SUBMITS.values(), ids=SUBMITS)
async def test_answer_and_row_are_those_of_the_ordinary_way(desk: Desk, asked: bytes) -> None:
    ordinary, short = Edge(desk, short=False), Edge(desk)
    callers = [edge.dial(asked) for edge in (ordinary, short)]
    ids = [(await caller).json["request_id"] for caller in callers]
    received = [_ID.sub(b"ID", caller.received) for caller in callers]
    assert received[0].replace(b'"queue_position":0', b'"queue_position":1') == received[1]
    assert await stored(desk, ids[0]) == await stored(desk, ids[1])
    assert (ordinary.to_app, short.to_app, ids[0] != ids[1]) == (1, 0, True)


async def test_submits_on_one_connection_are_each_a_request(desk: Desk) -> None:
    edge = Edge(desk)
    caller = edge.dial(submit(b"[0]"))
    ids = [(await caller).json["request_id"]]
    for n in range(1, 4):
        caller.ask([submit(b"[%d]" % n)])
        ids.append((await caller).json["request_id"])
    bodies = [(await stored(desk, one))[1].content.inline for one in ids]
    assert (bodies, edge.to_app, edge.http.busy) == ([b"[0]", b"[1]", b"[2]", b"[3]"], 0, 0)


UNUSUAL = {
    "a key of its own": (submit(b"{}", (b"idempotency-key", b"k")), 200),
    "a deadline": (submit(b"{}", (b"x-fal-request-timeout", b"5")), 200),
    "a limit": (submit(path="/me/app?fal_max_queue_length=10"), 200),
    "a webhook to where nothing is sent": (submit(path="/me/app?fal_webhook=http://127.0.0.1:80"), 400),
    "a webhook and a limit": (submit(path="/me/app?fal_webhook=http://x.test&fal_max_queue_length=10"), 200),
    "no such priority": (submit(b"{}", (b"x-fal-queue-priority", b"high")), 400),
    "no such app": (submit(path="/me/other"), 404),
    "no such key": (submit(key=(b"authorization", b"Key no:key")), 401),
    "a large body": (submit(b"x" * 70_000), 200),
}


@pytest.mark.parametrize(("asked", "status"), UNUSUAL.values(), ids=UNUSUAL)
async def test_what_is_no_usual_submit_is_answered_as_ever(desk: Desk, asked: bytes, status: int) -> None:
    edge = Edge(desk)
    caller = edge.dial(asked)
    assert ((await caller).status, edge.to_app) == (status, 1)
    caller.ask([asked])
    assert ((await caller).status, edge.to_app) == (status, 2)


async def test_a_start_timeout_of_the_app_is_for_its_owner_and_counts_from_each_submit(desk: Desk) -> None:
    await desk.app("slow", start_timeout_ms=5_000)
    await desk.specs.of("revision-of-slow")
    edge = Edge(desk)
    caller = edge.dial(submit(path="/me/slow", key=(b"authorization", b"Key me:s")))
    for n in range(2):
        request = await desk.store.requests.get((await caller).json["request_id"])
        assert request is not None and request.deadline_ms == request.created_ms + 5_000, n
        await asyncio.sleep(1)
        caller.ask([submit(path="/me/slow", key=(b"authorization", b"Key me:s"))])
    await caller


async def test_a_key_that_was_revoked_submits_no_more(desk: Desk) -> None:
    caller = Edge(desk).dial(submit())
    assert (await caller).status == 200
    desk.keys.replace([])
    caller.ask([submit()])
    assert (await caller).status == 401


async def test_a_caller_that_hangs_up_has_submitted_all_the_same(desk: Desk) -> None:
    edge = Edge(desk)
    caller = edge.dial(submit())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.hang_up()
    await asyncio.sleep(0.01)
    assert (await waiting(desk), edge.to_app, edge.http.busy) == (1, 0, 0)


async def test_two_submits_in_one_packet_are_answered_in_their_order_and_made_once_each(desk: Desk) -> None:
    edge = Edge(desk)
    caller = edge.dial(submit(b"[1]") + submit(b"[2]"))
    await caller
    await asyncio.sleep(0.01)
    ids = re.findall(rb'"request_id":"([^"]+)"', caller.received.replace(b"gateway_request_id", b""))
    bodies = [(await stored(desk, one.decode()))[1].content.inline for one in ids]
    assert (bodies, await waiting(desk)) == ([b"[1]", b"[2]"], 2)


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_disk_that_fails_is_told_and_what_is_on_it_counts(tmp_path: Path, fault: str) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with desk_in(tmp_path, loop.clock) as desk:
        await desk.app()
        await desk.specs.of("revision-of-app")
        flaky = FlakyDriver(desk.store.requests._driver)
        desk.store.requests = Requests(flaky)
        desk.serve(await Queue.open(desk.store.requests, Hints(), desk.clock.now_ms))
        edge = Edge(desk)
        caller = edge.dial(submit())
        assert (await caller).status == 200
        flaky.fault = fault
        caller.ask([submit()])
        reply = await caller
        # On disk although its write failed: it is read again, and is as good as any.
        assert (reply.status, await waiting(desk)) == ((503, 1) if fault == "before" else (200, 2))
        assert reply.status == 200 or (reply.headers["retry-after"], reply.json["detail"]) == ("1", "The disk fails.")
        caller.ask([submit()])
        assert (await caller).status == 200
        await desk.queue.close()
