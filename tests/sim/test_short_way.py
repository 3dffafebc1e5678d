"""The short way of direct calls: when it is taken, every way out of it, and that nobody can tell it from the ordinary one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from roost.core.model import Key
from roost.gateway.forward import Successor
from roost.testkit.calling import Reply
from roost.testkit.dialling import Dialling, request_bytes
from roost.testkit.script import Answer, Crash, Received, Script, always
from roost.testkit.world import World
from roost.web.auth import hash_secret
from roost.web.http import HttpServer
from roost.web.protocol import LimitedProtocol
from roost.web.shortcut import Request

PATH = "/me/app"
HOST = (b"host", b"roost.test")
JSON = (b"content-type", b"application/json")


def ask(body: bytes = b"{}", *more: tuple[bytes, bytes], method: str = "POST", path: str = PATH) -> bytes:
    length = [(b"content-length", b"%d" % len(body))] if body or method == "POST" else []
    return request_bytes(method, path, [HOST, JSON, *length, *more], body)


@pytest.fixture
async def world(home: Path) -> AsyncIterator[World]:
    world = await World.open(home)
    yield world
    await world.close()


@dataclass
class Edge:
    """A server's HTTP edge, and how many requests reached the application behind it."""

    world: World
    shortcut: bool
    to_app: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.to_app.append(scope)
            await self.world.server.gateway(scope, receive, send)

        self.http = HttpServer(app, self.world.server.shortcut if self.shortcut else None)

    def dial(self, *pieces: bytes) -> Dialling:
        return Dialling(self.http.newcomer(), list(pieces), self.world.clock.now_ms)


@pytest.fixture
def edge(world: World) -> Edge:
    return Edge(world, shortcut=True)


async def warm(world: World, answer: Any = None, **spec: Any) -> None:
    """An app with one runner that is there."""
    await world.app(Script(answer=answer or always(Answer())), **{"min_concurrency": 1, "max_multiplexing": 4, **spec})
    await world.advance(3)
    assert len(world.running()) == 1


def run(world: World) -> list[Received]:
    """The calls that ran, without those that say that a caller has gone."""
    return [call for call in world.backend.received if not call.bypass]


# when it is taken


async def test_a_usual_call_needs_no_application(world: World, edge: Edge) -> None:
    await warm(world)
    dialling = edge.dial(ask())
    assert ((await dialling).status, dialling.reply.body, edge.to_app) == (200, b"ok", [])
    assert (run(world)[0].body, run(world)[0].path) == (b"{}", "/")


async def test_calls_on_one_connection_are_each_answered_with_an_id_of_their_own(world: World, edge: Edge) -> None:
    await warm(world)
    dialling = edge.dial(ask())
    ids = [(await dialling).headers["x-fal-request-id"]]
    for body in (b"{}", b"[]", b"other", b"{}"):
        dialling.ask([ask(body)])
        ids.append((await dialling).headers["x-fal-request-id"])
        await world.settle()
    assert ids == [call.request_id for call in run(world)]
    assert len(set(ids)) == 5
    assert [call.body for call in run(world)] == [b"{}", b"{}", b"[]", b"other", b"{}"]
    assert (edge.to_app, world.in_flight()) == ([], 0)


@pytest.mark.parametrize(
    "pieces",
    [
        [ask(b"0123456789")[:-10], b"0123456789"],
        [ask(b"0123456789")[:-4], b"6789"],
        [ask(b"0123456789")[:30], ask(b"0123456789")[30:]],
        [bytes([byte]) for byte in ask(b"0123456789")],
    ],
    ids=["head, then body", "within the body", "within the head", "byte by byte"],
)
async def test_a_request_that_comes_in_pieces_is_usual_too(world: World, edge: Edge, pieces: list[bytes]) -> None:
    await warm(world)
    assert (await edge.dial(*pieces)).status == 200
    assert (run(world)[0].body, edge.to_app) == (b"0123456789", [])


async def test_a_body_that_does_not_come_is_waited_for_by_the_application(world: World, edge: Edge) -> None:
    await warm(world)
    dialling = edge.dial(ask(b"0123456789")[:-4])
    await world.advance(0.5)
    assert edge.to_app == []
    await world.advance(1)
    assert len(edge.to_app) == 1
    dialling.protocol.data_received(b"6789")
    assert ((await dialling).status, run(world)[0].body) == (200, b"0123456789")


UNUSUAL: dict[str, bytes] = {
    "a trace is asked for": ask(b"{}", (b"x-roost-trace", b"1")),
    "it has a start deadline": ask(b"{}", (b"x-fal-request-timeout", b"30")),
    "the connection ends after it": ask(b"{}", (b"connection", b"close")),
    "it waits for a 100": ask(b"{}", (b"expect", b"100-continue")),
    "another protocol is asked for": ask(b"", (b"connection", b"upgrade"), (b"upgrade", b"h2c"), method="GET"),
    "HTTP/1.0": ask().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "an unknown app": ask(path="/me/other"),
    "a preflight": ask(b"", (b"access-control-request-method", b"POST"), method="OPTIONS"),
    "a body beyond the window": ask(b"x" * 300_000),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("request_", UNUSUAL.values(), ids=UNUSUAL)
async def test_what_is_unusual_about_a_request_is_left_to_the_application(world: World, edge: Edge, request_: bytes) -> None:
    await warm(world)
    without = await Edge(world, shortcut=False).dial(request_)
    given = await edge.dial(request_)
    assert len(edge.to_app) == 1
    assert (given.status, given.body) == (without.status, without.body)


async def test_a_free_slot_is_left_to_who_waits(world: World, edge: Edge) -> None:
    await warm(world, always(Answer(after_ms=1000)), max_multiplexing=1, max_concurrency=1)
    callings = [edge.dial(ask(b"%d" % number)) for number in range(4)]
    await world.advance(10)
    assert [call.body for call in run(world)] == [b"0", b"1", b"2", b"3"]
    assert [calling.reply.status for calling in callings] == [200] * 4


async def test_a_revoked_key_is_refused_from_the_same_connection(world: World, edge: Edge) -> None:
    await world.app(Script(), auth="private", min_concurrency=1, max_multiplexing=4)
    await world.advance(3)
    server = world.server
    await server.store.keys.create(Key("k", "me", "API", "", hash_secret(server.pepper, "s"), world.clock.now_ms(), None))
    await server.reload_keys()
    request = ask(b"{}", (b"authorization", b"Key k:s"))
    dialling = edge.dial(request)
    assert (await dialling).status == 200
    server.keys.replace([])
    dialling.ask([request])
    assert (await dialling).status == 401


async def test_an_app_that_became_private_asks_for_a_key(world: World, edge: Edge) -> None:
    await warm(world)
    dialling = edge.dial(ask())
    await dialling
    await world.app(Script(), auth="private")
    await world.advance(6)
    dialling.ask([ask()])
    assert (await dialling).status == 401


# the ways out


OUTCOMES: dict[str, Answer | Crash] = {
    "an answer": Answer(body=b"true", headers=((b"x-a", b"1"), (b"X-B".lower(), b"\xe9"))),
    "no body": Answer(204, body=b""),
    "an empty body": Answer(body=b""),
    "not modified": Answer(304, body=b""),
    "an error of the app": Answer(422, body=b"{}"),
    "a server error": Answer(500, body=b"oops"),
    "two lengths": Answer(body=b"true", headers=((b"content-length", b"4"),)),
    "a wrong length": Answer(body=b"true", headers=((b"content-length", b"3"),)),
    "a connection field": Answer(headers=((b"connection", b"close"),)),
    "a stop header": Answer(headers=((b"x-fal-stop-runner", b"0"),)),
    "a retry header": Answer(headers=((b"x-fal-needs-retry", b"1"),)),
    "a large head": Answer(headers=((b"x-large", b"a" * 17_000),)),
    "a large answer": Answer(body=b"x" * 1_000_000),
    "a stream": Answer(stream_ms=50),
    "a late answer": Answer(after_ms=5_000),
    "a slot that is held longer": Answer(linger_ms=500),
    "a crash": Crash(after_ms=10),
    "a crash in the answer": Crash(head_first=True),
    "too long": Answer(after_ms=100_000),
}
_NEW_EACH_TIME = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
async def test_every_outcome_is_the_same_to_the_byte_both_ways(world: World, outcome: Answer | Crash) -> None:
    seen: list[tuple[object, ...]] = []
    await warm(world, lambda call: Answer(404) if call.bypass else outcome, request_timeout_ms=30_000)
    for shortcut in (False, True):
        edge = Edge(world, shortcut=shortcut)
        dialling = edge.dial(ask())
        await dialling
        await world.advance(60)
        if not dialling.closed:
            dialling.ask([ask()])  # the head is known now
            await dialling
            await world.advance(60)
        received = _NEW_EACH_TIME.sub(b"-", dialling.received)
        seen.append((received, dialling.reply.broken, dialling.closed, len(run(world)), world.in_flight(), edge.http.busy))
        world.backend.received.clear()
    assert seen[0] == seen[1]
    assert seen[0][4:] == (0, 0)


async def test_a_busy_runner_sends_the_call_elsewhere_and_it_runs_once(world: World, edge: Edge) -> None:
    await world.app(Script(), Script(), min_concurrency=2, max_multiplexing=1)
    await world.advance(3)
    busy, free = world.running()
    busy.occupy()
    replies = [await edge.dial(ask()) for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3
    assert [reply.headers["x-fal-request-id"] for reply in replies] == [call.request_id for call in run(world)]
    assert {call.runner_id for call in run(world)} == {free.id}
    assert edge.to_app, "none of them was sent to the busy one first"


async def test_a_caller_that_hangs_up_is_told_to_the_app_and_its_slot_is_free_again(world: World, edge: Edge) -> None:
    await warm(world, lambda call: Answer(404) if call.bypass else Answer(after_ms=60_000, minds_caller=True))
    dialling = edge.dial(ask())
    await world.advance(1)
    assert (world.in_flight(), edge.http.busy) == (1, 1)
    dialling.hang_up()
    await world.advance(1)
    assert (world.in_flight(), edge.http.busy, edge.to_app) == (0, 0, [])
    assert [call.path for call in world.backend.received] == ["/", "/cancel"]
    assert world.backend.received[0].request_id == world.backend.received[1].request_id


async def test_a_caller_that_hangs_up_as_its_runner_dies_leaves_nothing_behind(world: World, edge: Edge) -> None:
    await warm(world, always(Answer(after_ms=60_000)))
    dialling = edge.dial(ask())
    await world.advance(1)
    world.running()[0].kill()
    dialling.hang_up()
    await world.advance(60)
    assert (world.in_flight(), edge.http.busy) == (0, 0)


async def test_a_killed_runner_is_a_named_error(world: World, edge: Edge) -> None:
    await warm(world, always(Answer(after_ms=60_000)))
    dialling = edge.dial(ask())
    await world.advance(1)
    world.running()[0].kill()
    reply: Reply = await dialling
    assert (reply.status, reply.error_type, "SIGKILL" in reply.detail) == (503, "runner_disconnected", True)
    await world.advance(1)
    assert (len(run(world)), world.in_flight()) == (1, 0)


async def test_a_call_that_takes_too_long_ends_when_its_time_is_over_and_not_later(world: World, edge: Edge) -> None:
    await warm(world, always(Answer(after_ms=100_000)), request_timeout_ms=5_000)
    reply: Reply = await edge.dial(ask())
    assert (reply.status, reply.error_type, reply.ms) == (504, "request_timeout", 5_000)


async def test_a_stream_that_takes_too_long_is_broken_off_in_time(world: World, edge: Edge) -> None:
    await warm(world, always(Answer(stream_ms=100_000)), request_timeout_ms=5_000)
    dialling = edge.dial(ask())
    await world.advance(4.9)
    assert dialling.reply.status == 200 and not dialling.done
    await world.advance(0.2)
    assert dialling.reply.broken


async def test_requests_sent_without_waiting_are_answered_in_order(world: World, edge: Edge) -> None:
    slow_first = lambda call: Answer(body=call.body, after_ms=1000 if call.body == b"1" else 0)  # noqa: E731
    await warm(world, slow_first)
    dialling = edge.dial(ask(b"1") + ask(b"2") + ask(b"3"))
    await world.advance(5)
    assert re.findall(rb"\r\n\r\n(\d)", dialling.received) == [b"1", b"2", b"3"]
    dialling.ask([ask(b"4")])
    assert (await dialling).body == b"4"
    assert len(edge.to_app) == 3, "the fourth is usual again"


async def test_a_caller_that_does_not_read_gets_its_answer_when_it_does(world: World, edge: Edge) -> None:
    await warm(world)
    dialling = edge.dial(ask())
    dialling.protocol.pause_writing()
    await world.advance(1)
    assert dialling.received == b""
    dialling.protocol.resume_writing()
    assert (await dialling).status == 200
    assert world.in_flight() == 0


# the end of the server


async def test_a_call_on_its_way_keeps_the_server_busy_and_ends_its_connection_after_a_hand_over(world: World, edge: Edge) -> None:
    await warm(world, always(Answer(after_ms=1000)))
    dialling = edge.dial(ask())
    await world.advance(0.1)
    assert edge.http.busy == 1
    world.server.hand_over_calls(Successor("http://successor.test", world.server.seal))
    edge.http.shut_idle()
    assert edge.http.busy == 1
    reply: Reply = await dialling
    assert (reply.status, reply.headers["connection"], dialling.closed) == (200, "close", True)
    await world.settle()
    assert (edge.http.busy, edge.http.connections) == (0, 0)


async def test_a_call_whose_body_is_still_on_its_way_is_finished_before_its_connection_ends(world: World, edge: Edge) -> None:
    await warm(world)
    dialling = edge.dial(ask(b"0123456789")[:-4])
    await world.advance(0.1)
    edge.http.shut_idle()
    assert edge.http.busy == 1 and not dialling.closed
    dialling.protocol.data_received(b"6789")
    assert ((await dialling).status, dialling.closed) == (200, True)


async def test_after_a_hand_over_nothing_is_taken(world: World, edge: Edge) -> None:
    await warm(world)
    dialling = edge.dial(ask())
    await dialling
    world.server.hand_over_calls(Successor("http://127.0.0.1:1", world.server.seal))
    before = len(run(world))
    assert world.server.shortcut.begin(plan_of(world, dialling.protocol), dialling.protocol, b"{}") is None
    assert len(run(world)) == before


def plan_of(world: World, protocol: LimitedProtocol) -> Any:
    return world.server.shortcut.plan(Request("POST", PATH.encode(), b"", [HOST], "http", "1.1", True))
