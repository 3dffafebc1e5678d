"""A reverse proxy before the server: what apps and answers say then, on the short ways as on the ordinary one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roost.testkit.dialling import Dialling, request_bytes
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World
from roost.web.forwarded import Trusted
from roost.web.http import HttpServer
from roost.wire.frames import Headers

PROXY, OTHER_PROXY, STRANGER = "10.0.0.7", "10.0.0.8", "198.51.100.66"
FORWARDED: Headers = [
    (b"x-forwarded-for", b"203.0.113.1, 203.0.113.5"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"roost.test"),
    (b"x-forwarded-prefix", b"/ai"),
    (b"x-real-ip", b"203.0.113.5"),
]
ORDINARY = (b"x-roost-trace", b"1")
"""Keeps a call off the short way."""


@pytest.fixture
async def world(home: Path) -> AsyncIterator[World]:
    world = await World.open(home)
    revision = await world.app(Script(answer=always(Answer())), min_concurrency=1, max_multiplexing=4)
    await world.server.specs.of(revision.id)
    await world.advance(3)
    yield world
    await world.close()


class Edge:
    """The server's HTTP edge as wired, but with proxies of ours; counts what reaches the application."""

    def __init__(self, world: World) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.to_app += 1
            await world.server.gateway(scope, receive, send)

        self.to_app = 0
        self._world = world
        self._http = HttpServer(app, world.server.shortcuts, proxies=Trusted(["10.0.0.0/24"]))

    async def ask(self, peer: str, method: str, path: str, *more: tuple[bytes, bytes], body: bytes = b"{}") -> Dialling:
        length = [(b"content-length", b"%d" % len(body))] if method == "POST" else []
        sent = request_bytes(method, path, [(b"host", b"upstream:8700"), *length, *more], body if method == "POST" else b"")
        dialling = Dialling(self._http.newcomer(), [sent], self._world.clock.now_ms, method=method, peer=peer)
        await dialling
        return dialling


def told(world: World) -> list[dict[str, str]]:
    """What each call of the app so far was told of its caller."""
    names = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix", "x-real-ip", "host")
    calls = [call for call in world.backend.received if not call.bypass]
    return [{name: call.header(name) for name in names if call.header(name)} for call in calls]


BEHIND = {"x-forwarded-for": f"203.0.113.5, {PROXY}", "x-forwarded-proto": "https", "host": "roost.test"}
ALONE = {"x-forwarded-for": STRANGER, "x-forwarded-proto": "http", "host": "upstream:8700"}


@pytest.mark.parametrize("more", [(), (ORDINARY,)], ids=["short", "ordinary"])
async def test_an_app_is_told_who_called_and_only_what_a_proxy_of_ours_says(world: World, more: tuple[tuple[bytes, bytes], ...]) -> None:
    edge = Edge(world)
    for peer in (PROXY, STRANGER):
        assert (await edge.ask(peer, "POST", "/me/app", *FORWARDED, *more)).reply.status == 200
    assert told(world) == [BEHIND, ALONE]
    assert edge.to_app == (2 if more else 0)


async def test_a_head_that_is_remembered_means_for_each_peer_what_it_says_there(world: World) -> None:
    edge = Edge(world)
    for peer in (STRANGER, PROXY, OTHER_PROXY, STRANGER, PROXY, OTHER_PROXY):
        assert (await edge.ask(peer, "POST", "/me/app", *FORWARDED)).reply.status == 200
    other = {**BEHIND, "x-forwarded-for": f"203.0.113.5, {OTHER_PROXY}"}
    assert told(world) == [ALONE, BEHIND, other] * 2
    assert edge.to_app == 0


@pytest.mark.parametrize("more", [(), ((b"idempotency-key", b"k"),)], ids=["short", "ordinary"])
async def test_the_queues_addresses_begin_with_what_was_dialled_at_the_proxy(world: World, more: tuple[tuple[bytes, bytes], ...]) -> None:
    edge = Edge(world)
    for peer, base in ((PROXY, "https://roost.test/ai/_queue"), (STRANGER, "http://upstream:8700/_queue")) * 2:
        key = [(name, value + peer.encode() + b"%d" % edge.to_app) for name, value in more]
        submitted = (await edge.ask(peer, "POST", "/_queue/me/app", *FORWARDED, *key)).reply
        address = f"{base}/me/app/requests/{submitted.json['request_id']}"
        assert (submitted.status, submitted.json["status_url"]) == (200, f"{address}/status")
        path = f"/_queue/me/app/requests/{submitted.json['request_id']}/status"
        for _ in range(2):
            polled = (await edge.ask(peer, "GET", path, *FORWARDED)).reply
            assert polled.json["response_url"] == address
    assert (edge.to_app == 0) == (not more)


async def test_a_queued_request_keeps_what_its_app_is_told(world: World) -> None:
    edge = Edge(world)
    for peer in (PROXY, STRANGER):
        await edge.ask(peer, "POST", "/_queue/me/app", *FORWARDED)
        await world.advance(1)
    assert told(world) == [BEHIND, ALONE]


async def test_a_host_name_of_a_role_counts_as_the_proxy_says_it(world: World) -> None:
    edge = Edge(world)
    said = [(b"x-forwarded-host", b"queue.roost.test"), (b"x-forwarded-proto", b"https")]
    submitted = (await edge.ask(PROXY, "POST", "/me/app", *said)).reply
    assert submitted.json["status_url"].startswith("https://queue.roost.test/me/app/requests/")
    assert (await edge.ask(STRANGER, "POST", "/me/app", *said)).reply.body == b"ok"
