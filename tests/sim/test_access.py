"""Who may call what, and what a caller is told of a wrong request."""

from __future__ import annotations

import pytest

from roost.core.model import Key
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World
from roost.web.auth import hash_secret


async def key(world: World, owner: str) -> dict[str, str]:
    server = world.server
    await server.store.keys.create(Key(f"{owner}-key", owner, "API", "", hash_secret(server.pepper, "s"), world.clock.now_ms(), None))
    await server.reload_keys()
    return {"Authorization": f"Key {owner}-key:s"}


@pytest.mark.parametrize(
    ("auth", "nobody", "stranger", "owner"), [("public", 200, 200, 200), ("shared", 401, 200, 200), ("private", 401, 403, 200)]
)
async def test_an_apps_mode_says_who_may_call_it(world: World, auth: str, nobody: int, stranger: int, owner: int) -> None:
    await world.app(auth=auth)
    found = [
        (await world.call()).status,
        (await world.call(headers=await key(world, "ada"))).status,
        (await world.call(headers=await key(world, "me"))).status,
    ]
    assert found == [nobody, stranger, owner]


async def test_a_key_of_another_world_does_not_close_a_public_app(world: World) -> None:
    await world.app()
    assert (await world.call(headers={"Authorization": "Key nobody:knows"})).status == 200


async def test_a_caller_that_may_not_call_wakes_nothing(world: World) -> None:
    await world.app(auth="private")
    reply = await world.call()
    await world.advance(3)
    assert reply.error_type == "unauthorized" and world.backend.launches == []


async def test_a_runners_own_key_calls_as_its_owner_and_ends_with_it(world: World) -> None:
    await world.app(auth="private")
    await world.call(headers=await key(world, "me"))
    own = {"Authorization": f"Key {world.backend.launches[0].env['FAL_KEY']}"}
    assert (await world.call(headers=own)).status == 200
    world.running()[0].kill()
    await world.advance(1)
    assert (await world.call(headers=own)).status == 401


async def test_an_unknown_app_is_not_found_and_says_so(world: World) -> None:
    reply = await world.call("/me/nothing")
    assert (reply.status, reply.error_type) == (404, "not_found") and "me/nothing" in reply.detail


async def test_every_answer_has_a_request_id_of_its_own(world: World) -> None:
    await world.app()
    replies = [await world.call(), await world.call(), await world.call("/me/nothing")]
    assert len({reply.headers["x-fal-request-id"] for reply in replies}) == 3
    assert [call.request_id for call in world.backend.received] == [reply.headers["x-fal-request-id"] for reply in replies[:2]]


async def test_the_app_gets_path_query_method_and_body_as_they_were_sent(world: World) -> None:
    await world.app(Script(answer=always(Answer(201, b"made"))))
    reply = await world.call("/me/app/a%2Fb//c?x=1&y", method="PUT", body=b"\x00raw")
    (call,) = world.backend.received
    assert (call.path, call.head.query, call.head.method, call.body) == ("/a%2Fb//c", b"x=1&y", "PUT", b"\x00raw")
    assert (reply.status, reply.body) == (201, b"made")


async def test_large_bodies_pass_in_both_directions(world: World) -> None:
    content = bytes(range(256)) * 12_000
    await world.app(Script(answer=always(Answer(body=content))))
    reply = await world.call(body=content)
    assert reply.body == content and world.backend.received[0].body == content


async def test_a_preflight_is_answered_without_a_key_or_a_runner(world: World) -> None:
    await world.app(auth="private")
    reply = await world.call(method="OPTIONS", headers={"Access-Control-Request-Method": "POST", "Origin": "https://a.test"})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (204, "*")
    assert world.backend.launches == []
