"""What is asked of a replay, and what is told of its answer."""

from __future__ import annotations

from typing import Any

import pytest

from roost.core.model import RunnerState, Scale
from roost.core.whatif import Lived
from tests.unit.api.world import NOW_MS, STRANGER, World

PATH = "/v1/apps/ada/hello/simulate"


def asked(world: World) -> tuple[str, int, int, list[Lived], list[Scale]]:
    return world.asked_to_simulate  # type: ignore[return-value]


async def simulated(world: World, **body: Any) -> dict[str, Any]:
    answer = await world.call("POST", PATH, body)
    assert answer.status == 200, answer.body
    return answer.json


async def test_without_settings_usual_values_of_keep_alive_are_compared(world: World) -> None:
    await world.app()
    found = await simulated(world)
    application, since_ms, until_ms, _, scales = asked(world)
    assert (application, until_ms, until_ms - since_ms) == ("ada/hello", NOW_MS, 86_400_000)
    assert scales == [Scale(), *(Scale(keep_alive_ms=ms) for ms in (0, 10_000, 60_000, 300_000))]
    assert found["simulated"]["wait_p95_ms"] == 0
    assert [(item["settings"], item["wait_p95_ms"]) for item in found["variants"]][:2] == [({"keep_alive": 0}, 1), ({"keep_alive": 10}, 2)]
    assert found["recorded"] == {"calls": 3, "wait_p95_ms": 7, "runner_s": 1.5}


async def test_lists_of_values_are_all_their_combinations(world: World) -> None:
    await world.app()
    found = await simulated(world, last_s=60, keep_alive=[1, 2], max_concurrency=[3, 4], concurrency_buffer=1)
    assert [item["settings"] for item in found["variants"]] == [
        {"keep_alive": 1, "max_concurrency": 3, "concurrency_buffer": 1},
        {"keep_alive": 1, "max_concurrency": 4, "concurrency_buffer": 1},
        {"keep_alive": 2, "max_concurrency": 3, "concurrency_buffer": 1},
        {"keep_alive": 2, "max_concurrency": 4, "concurrency_buffer": 1},
    ]
    assert asked(world)[1] == NOW_MS - 60_000


async def test_it_is_given_the_lives_of_this_apps_runners_only(world: World) -> None:
    await world.app()
    await world.app("other", revision_id="rev-2")
    await world.runner("r-1", RunnerState.PENDING)
    await world.runner("r-2", RunnerState.PENDING, "rev-2")
    await world.moved("r-1", RunnerState.IDLE, ready_ms=NOW_MS + 400)
    world.clock.ms += 1_000
    await world.moved("r-1", RunnerState.TERMINATED)
    await simulated(world)
    assert asked(world)[3] == [Lived(NOW_MS, NOW_MS + 400, NOW_MS + 1_000)]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"last_s": 0}, "last_s must be a number of seconds"),
        ({"last_s": "a day"}, "last_s must be a number of seconds"),
        ({"last_s": True}, "last_s must be a number of seconds"),
        ({"keep_alife": 3}, "there is no setting 'keep_alife'"),
        ({"keep_alive": [1, -1]}, "keep_alive must be at least 0"),
        ({"min_concurrency": 20}, "min_concurrency 20 is more than max_concurrency 10"),
        ({"keep_alive": list(range(10)), "max_concurrency": [1, 2, 3, 4]}, "more than 32 combinations"),
        ({"keep_alive": []}, "at least one value"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_name(world: World, body: dict[str, Any], detail: str) -> None:
    await world.app()
    status, error_type, said = (await world.call("POST", PATH, body)).refusal()
    assert (status, error_type) == (422, "unprocessable") and detail in said


async def test_somebody_elses_app_is_unknown(world: World) -> None:
    await world.app()
    assert (await world.call("POST", PATH, {}, key=STRANGER)).status == 404


@pytest.mark.parametrize(
    ("simulated_as", "body", "note"),
    [
        ({"recorded": {"calls": 0, "runner_ms": 0}}, {}, "No call is on record"),
        ({"since_ms": NOW_MS}, {}, "more calls than can be replayed"),
        ({"starts_known": 0}, {}, "1 s is assumed"),
        ({}, {}, "deployed or scaled during this time"),
        ({}, {"last_s": 100_000}, "on record for a day"),
        ({}, {"request_timeout": 3}, "request_timeout changes nothing"),
    ],
)
async def test_notes_say_what_makes_it_less_than_it_seems(
    world: World, simulated_as: dict[str, Any], body: dict[str, Any], note: str
) -> None:
    await world.app()
    world.simulated |= simulated_as
    assert any(note in said for said in (await simulated(world, **body))["notes"])
