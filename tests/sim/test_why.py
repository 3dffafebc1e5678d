"""What `roost why` answers while things happen: each kind of waiting, against a whole server."""

from __future__ import annotations

import json
from typing import Any

from roost.core.model import Key
from roost.core.placement import Node
from roost.kit.spawn import Enforcement
from roost.server import api
from roost.testkit.calling import Calling
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import OWNER, World
from roost.web.auth import hash_secret
from tests.sim.conftest import Another

SLOW = Script(answer=always(Answer(after_ms=30_000)))


async def why(world: World, path: str) -> dict[str, list[str]]:
    """The sentences by the title above them."""
    server = world.server
    if await server.store.keys.get("why") is None:
        await server.store.keys.create(Key("why", OWNER, "ADMIN", "", hash_secret(server.pepper, "s"), world.clock.now_ms(), None))
        await server.reload_keys()
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": f"/v1/why/{path}",
        "raw_path": f"/v1/why/{path}".encode(),
        "query_string": b"",
        "headers": [(b"authorization", b"Key why:s"), (b"host", b"roost.test")],
    }
    reply = await Calling(api.build(server, _no_restart, _not_asked), scope, b"", world.clock.now_ms)
    assert reply.status == 200, reply.body
    return {part["title"]: [said["text"] for said in part["said"]] for part in json.loads(reply.body)["parts"]}


async def _no_restart() -> None:
    raise AssertionError("nobody asked for a restart")


async def _not_asked() -> Enforcement:
    raise AssertionError("nobody asked how limits are kept")


async def test_behind_a_busy_runner_it_waits_for_that_runner(world: World) -> None:
    await world.app(SLOW, max_concurrency=1)
    first, second = await world.submits(2)
    await world.advance(11)
    said = (await why(world, f"request/{second}"))["Now"]
    assert said[1:] == [
        "It is the next to go.",
        "The one runner is busy with 1 call, the oldest queued call for 10 s.",
        "max_concurrency 1 is reached.",
    ]
    assert (await why(world, f"request/{first}"))["Now"][0].startswith("Attempt 1 has been under way for 10 s on runner ")


async def test_while_a_runner_starts_it_waits_for_that_start(world: World) -> None:
    await world.app(Script(setup_ms=60_000))
    request = await world.submit()
    await world.advance(5)
    said = (await why(world, f"request/{request}"))["Now"]
    assert said[2].endswith("was started 5 s ago and its setup() runs; it has 10 min for each (startup_timeout).")


async def test_after_failed_starts_it_waits_for_the_next_try_and_the_app_lists_them(world: World) -> None:
    await world.app(Script(setup_error="ValueError: no weights"))
    request = await world.submit()
    await world.advance(11)
    said = (await why(world, f"request/{request}"))["Now"]
    assert said[2] == "1 start in a row failed, the last one because setup() raised: ValueError: no weights; the next is tried in 20 s."
    failed = (await why(world, "app/me/app"))["Starts that did not become ready"]
    assert len(failed) == 1 and failed[0].endswith("ended after 1 s: setup() raised: ValueError: no weights")


async def test_without_room_it_says_what_is_missing(another: Another) -> None:
    world = await another(node=Node(cpus=1, memory_mb=1024))
    await world.app(name="hog", machine_types=("S",), min_concurrency=4)
    await world.advance(5)
    await world.app(machine_types=("M",))
    request = await world.submit()
    await world.advance(25)
    said = (await why(world, f"request/{request}"))["Now"]
    assert said[2].startswith("For 25 s there has been no room for a further runner: ")


async def test_a_retry_says_when_it_is_due(world: World) -> None:
    await world.app(Script(answer=always(Answer(503))))
    request = await world.submit()
    await world.advance(1.2)
    said = (await why(world, f"request/{request}"))["Now"]
    assert said[1].startswith("A retry is due in ") and "because attempt 1 ended with" in said[1]


async def test_a_runner_remembers_why_it_was_started_and_what_its_start_took(world: World) -> None:
    await world.app(Script())
    call = world.call()
    await world.settle()
    runner = world.running()[0]
    world.server.births.asked(runner.id, "fork")
    assert (await call).status == 200
    await world.settle()
    said = (await why(world, f"runner/{runner.id}"))["Now"]
    assert said[1].startswith("It was started 1 s ago: 1 waiting")
    assert said[2].startswith("Its cold start took ") and "fork" in said[2] and "setup" in said[2]
    await world.crash()
    await world.start_server()
    await world.advance(1)
    assert (await why(world, f"runner/{runner.id}"))["Now"][2] == said[2]


async def test_an_app_tells_what_was_decided_when(world: World) -> None:
    await world.app(SLOW, keep_alive_ms=1_000, max_concurrency=3)
    await world.submits(2)
    await world.advance(40)
    told = await why(world, "app/me/app")
    assert told["Decisions"][0] == "0 runners: no demand" and any(each.startswith("2 runners: ") for each in told["Decisions"])
