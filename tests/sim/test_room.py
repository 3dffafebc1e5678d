"""Who gets a place on the machine: GPUs belong to one runner, what does not fit waits and says why, and memory has a floor."""

from __future__ import annotations

import random

import pytest

from roost.core.placement import Node
from roost.server.settings import Settings
from roost.testkit.script import Answer, Script, always
from roost.testkit.world import World
from tests.sim.conftest import Another

TWO_GPUS = Node(64, 512 * 1024, ("NVIDIA L40", "NVIDIA L40"))
LONG = Script(answer=always(Answer(after_ms=30_000)))


def gpus(world: World) -> list[int]:
    """Of the living runners, each as often as it has an owner."""
    return [index for runner in world.backend.running() for index in runner.launch.place.gpus]


async def test_what_does_not_fit_is_wanted_with_its_reason_until_a_place_is_free(another: Another) -> None:
    world = await another(node=TWO_GPUS)
    await world.app(LONG, machine_types=("GPU-L40",), num_gpus=1, keep_alive_ms=1_000)
    calls = await world.calls(3)
    await world.advance(5)
    assert sorted(gpus(world)) == [0, 1]
    wanted = world.server.fleet.unplaced()["me/app"]
    assert wanted.reason == "GPU-L40 needs 1 x L40, and 2 of 2 are in use"
    assert wanted.machine_types == ("GPU-L40",)
    assert [(await call).status for call in calls] == [200, 200, 200]
    assert world.server.fleet.unplaced() == {}


async def test_nobody_is_wanted_any_more_when_the_callers_have_gone(another: Another) -> None:
    world = await another(node=Node(1, 300))
    await world.app(machine_types=("XL",))
    call = world.call()
    await world.advance(3)
    assert "me/app" in world.server.fleet.unplaced()
    call.hang_up()
    await world.advance(3)
    assert world.server.fleet.unplaced() == {}


async def test_a_second_choice_is_taken_when_the_first_has_no_room(another: Another) -> None:
    world = await another(node=Node(64, 512 * 1024, ("NVIDIA L40",)))
    await world.app(LONG, machine_types=("GPU-L40", "S"))
    await world.calls(2)
    await world.advance(5)
    assert sorted(launch.place.type.name for launch in world.backend.launches) == ["GPU-L40", "S"]


async def test_below_the_floor_of_free_memory_nothing_starts_and_the_next_try_is_20_s_later(another: Another) -> None:
    world = await another(settings=Settings(free_memory_floor_mb=256))
    world.available_mb = 200
    await world.app()
    began_ms = world.clock.now_ms()
    call = world.call()
    await world.advance(5)
    assert world.backend.launches == []
    reason = world.server.fleet.unplaced()["me/app"].reason
    assert reason.startswith("the machine has 200 MB of memory left")
    world.available_mb = 2_000
    assert (await call).status == 200
    assert world.backend.started_ms[0] - began_ms == pytest.approx(20_000, abs=2_500)


async def test_a_free_place_is_tried_at_once(another: Another) -> None:
    world = await another(node=Node(64, 512 * 1024, ("NVIDIA L40",)))
    await world.app(Script(answer=always(Answer(after_ms=3_000))), name="first", machine_types=("GPU-L40",), keep_alive_ms=1_000)
    await world.app(name="second", machine_types=("GPU-L40",))
    first = world.call("/me/first")
    await world.advance(1)
    second = world.call("/me/second")
    assert (await first).status == 200
    reply = await second
    assert (reply.status, reply.ms < 10_000) == (200, True)


@pytest.mark.parametrize("seed", range(8))
async def test_no_gpu_ever_has_two_living_runners(another: Another, seed: int) -> None:
    """Through scaling, deploys, crashes of runners, crashes of the server and planned restarts."""
    dice = random.Random(seed)
    world = await another(node=Node(64, 512 * 1024, ("NVIDIA L40",) * 4))
    for name, wanted in (("one", 1), ("two", 2)):
        script = Script(answer=always(Answer(after_ms=dice.randrange(200, 4_000))))
        await world.app(script, name=name, machine_types=("GPU-L40",), num_gpus=wanted, keep_alive_ms=2_000, max_concurrency=3)
    for _ in range(40):
        match dice.randrange(10):
            case 0:
                await world.crash()
                await world.start_server()
            case 1:
                await world.hand_over()
            case 2 if world.backend.running():
                dice.choice(world.backend.running()).kill()
            case _:
                world.call(f"/me/{dice.choice(('one', 'two'))}")
        await world.advance(dice.uniform(0.05, 2))
        owned = gpus(world)
        assert len(owned) == len(set(owned)), f"seed {seed}: {owned}"
    assert max(world.backend.most.values()) >= 1
