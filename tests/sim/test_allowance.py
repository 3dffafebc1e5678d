"""max_concurrent_per_key: a key that was given away has so many direct calls under way, whichever way they go."""

from __future__ import annotations

from roost.core.model import Key
from roost.server.settings import Settings
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import OWNER, World
from roost.web.auth import hash_secret
from tests.sim.conftest import Another

SLOW = Script(answer=always(Answer(after_ms=5_000)))


async def key(world: World, name: str, scope: str) -> dict[str, str]:
    server = world.server
    await server.store.keys.create(Key(name, OWNER, scope, "", hash_secret(server.pepper, "secret"), world.clock.now_ms(), None))
    await server.reload_keys()
    return {"authorization": f"Key {name}:secret"}


async def test_a_key_has_so_many_calls_at_once_and_others_have_theirs(another: Another) -> None:
    world = await another(Settings(max_concurrent_per_key=2))
    world.over_http = True
    await world.app(SLOW, min_concurrency=1, max_multiplexing=20)
    mine, yours = await key(world, "mine", "API"), await key(world, "yours", "API")
    admin, runner = await key(world, "admin", "ADMIN"), await key(world, "runner", "RUNNER")
    await world.advance(3)
    calls = [world.call(headers=mine) for _ in range(3)]
    await world.advance(1)
    refused = [call.reply for call in calls if call.done]
    assert [reply.status for reply in refused] == [429]
    assert refused[0].error_type == "concurrent_requests_limit" and refused[0].headers["x-fal-needs-retry"] == "1"
    assert "2 direct calls" in refused[0].detail
    free = [world.call(headers=headers) for headers in (yours, yours, admin, admin, admin, runner, runner, runner, {}, {}, {})]
    await world.advance(1)
    assert not any(call.done for call in free)
    assert (await world.submit(authorization=mine["authorization"])) != ""
    for call in [*calls, *free]:
        await call
    assert all(call.reply.status == 200 for call in free)
    # What has ended, in whatever way, counts no longer.
    leaving = [world.call(headers=mine) for _ in range(2)]
    await world.advance(1)
    for call in leaving:
        call.hang_up()
    await world.advance(1)
    assert (await world.call(headers=mine)).status == 200


async def test_without_a_limit_calls_with_a_key_go_the_short_way(another: Another) -> None:
    world = await another()
    world.over_http = True
    await world.app(SLOW, min_concurrency=1, max_multiplexing=20)
    mine = await key(world, "mine", "API")
    await world.advance(3)
    calls = [world.call(headers=mine) for _ in range(20)]
    await world.advance(1)
    assert world.server.http.busy == 20 and not world.server.http._state.tasks
    assert [(await call).status for call in calls] == [200] * 20
