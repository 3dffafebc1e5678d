"""How long requests stay after their end, and that nothing of them is left afterwards (GAPS B5)."""

from __future__ import annotations

from roost.server.settings import Settings
from roost.testkit.script import Answer, Script, always
from tests.sim.conftest import Another

BIG = b"x" * 100_000
HOUR_S = 3_600


async def test_a_request_and_its_files_are_gone_after_their_time_and_not_before(another: Another) -> None:
    world = await another(Settings(request_days=1 / 24))
    await world.app(Script(answer=always(Answer(body=BIG))))
    request_id = await world.submit(body=BIG)
    await world.advance(5)
    assert len(await world.server.store.requests.payload_files()) == 2
    await world.advance(0.9 * HOUR_S)
    assert (await world.result(request_id)).body == BIG
    await world.advance(0.2 * HOUR_S)
    assert (await world.result(request_id)).status == 404
    assert await world.server.store.requests.get(request_id) is None
    assert not list(world.server.paths.payloads.glob("??/*"))


async def test_a_request_without_store_io_is_kept_for_an_hour(another: Another) -> None:
    world = await another(Settings())
    await world.app()
    request_id = await world.submit(x_fal_store_io="0")
    await world.advance(0.9 * HOUR_S)
    assert (await world.result(request_id)).status == 200
    await world.advance(0.2 * HOUR_S)
    assert (await world.result(request_id)).status == 404


async def test_many_expired_requests_go_without_keeping_others_waiting(another: Another) -> None:
    world = await another(Settings(request_days=0.01))
    await world.app(max_multiplexing=64)
    await world.submits(600)
    await world.advance(0.3 * HOUR_S)
    assert await world.server.store.requests.list(limit=1000) == ()


async def test_files_that_no_row_names_are_swept_at_the_next_start(another: Another) -> None:
    world = await another()
    orphan = await world.server.payloads.put(BIG)
    await world.crash()
    await world.start_server()
    assert not (world.server.paths.payloads / orphan.file[:2] / orphan.file).exists()
