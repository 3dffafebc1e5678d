from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.core.model import RunnerState
from roost.demand.board import Waiter
from tests.unit.api.world import NOW_MS, STRANGER, URL, World


class Connection:
    """As much of a runner's connection as the directory looks at."""

    going_away = False


async def test_an_app_is_shown_in_seconds_with_its_runners_and_callers(world: World):
    await world.app("hello")
    await world.runner("r1")
    await world.runner("r2")
    await world.runner("r3", RunnerState.SETUP)
    world.directory.took(world.directory.add("r2", "rev-1", 1, Connection(), NOW_MS))  # type: ignore[arg-type]
    line = world.board.line("ada/hello")
    line.in_flight = 1
    line.waiting.append(Waiter(NOW_MS, asyncio.get_running_loop().create_future()))
    app = (await world.call("GET", "/v1/apps")).json["apps"][0]
    assert app == {
        "application": "ada/hello",
        "owner": "ada",
        "name": "hello",
        "environment": "main",
        "revision_id": "rev-1",
        "auth": "private",
        "ephemeral": False,
        "keep_alive": 60,
        "min_concurrency": 0,
        "max_concurrency": 10,
        "concurrency_buffer": 0,
        "concurrency_buffer_perc": 0,
        "scaling_delay": 0,
        "max_multiplexing": 1,
        "request_timeout": 3600,
        "request_start_timeout": None,
        "startup_timeout": 600,
        "machine_types": ["S"],
        "runners": {"IDLE": 1, "RUNNING": 1, "SETUP": 1},
        "waiting": 1,
        "in_flight": 1,
        "url": f"{URL}/ada/hello",
        "created_at": "2023-11-14T22:13:20.000+00:00",
        "updated_at": "2023-11-14T22:13:20.000+00:00",
    }


async def test_showing_one_app_tells_what_its_class_declares_and_why_it_has_its_runners(world: World):
    await world.app("hello")
    await world.store.decisions.record("ada/hello", 2, "two waiting", {}, NOW_MS)
    app = (await world.call("GET", "/v1/apps/ada/hello")).json
    assert app["endpoints"] == ["/", "/other"]
    assert app["spec"]["class_name"] == "Hello"
    assert app["openapi"] == {"openapi": "3.1.0"}
    assert app["revision"]["state"] == "DEPLOYED"
    assert (app["decision"]["runners"], app["decision"]["reason"]) == (2, "two waiting")


async def test_scaling_changes_what_is_named_and_leaves_the_rest(world: World):
    await world.app("hello")
    with world.hints.listen("apps") as apps, world.hints.listen("fleet") as fleet:
        answer = await world.call("PATCH", "/v1/apps/ada/hello", {"keep_alive": 1.5, "min_concurrency": 2})
        assert apps.is_set() and fleet.is_set()
    assert (answer.json["keep_alive"], answer.json["min_concurrency"], answer.json["max_concurrency"]) == (1.5, 2, 10)
    assert "notes" not in answer.json
    stored = await world.store.apps.get("ada", "hello")
    assert stored is not None
    assert (stored.scale.keep_alive_ms, stored.scale.min_concurrency) == (1_500, 2)


async def test_settings_that_belong_to_the_code_come_with_a_note(world: World):
    await world.app("hello")
    answer = await world.call("PATCH", "/v1/apps/ada/hello", {"max_multiplexing": 4, "machine_types": "M"})
    assert (answer.json["max_multiplexing"], answer.json["machine_types"]) == (4, ["M"])
    assert [note.split()[0] for note in answer.json["notes"]] == ["max_multiplexing", "machine_types"]


async def test_a_start_timeout_of_zero_removes_the_limit(world: World):
    await world.app("hello")
    assert (await world.call("PATCH", "/v1/apps/ada/hello", {"request_start_timeout": 3})).json["request_start_timeout"] == 3
    assert (await world.call("PATCH", "/v1/apps/ada/hello", {"request_start_timeout": 0})).json["request_start_timeout"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nothing to change"),
        ({"keep_alive": -1}, "keep_alive must be at least 0, not -1"),
        ({"max_concurrency": 0}, "max_concurrency must be at least 1, not 0"),
        ({"max_concurrency": 2.5}, "max_concurrency must be a whole number, not 2.5"),
        ({"min_concurrency": True}, "min_concurrency must be a whole number, not True"),
        ({"min_concurrency": "3"}, "min_concurrency must be a whole number, not '3'"),
        ({"min_concurrency": 5, "max_concurrency": 3}, "min_concurrency 5 is more than max_concurrency 3"),
        ({"min_concurrency": 11}, "min_concurrency 11 is more than max_concurrency 10"),
        ({"request_timeout": 0}, "request_timeout must be more than 0, not 0"),
        ({"request_timeout": None}, "request_timeout must be a number of seconds, not None"),
        ({"keep_alive": 10**12}, "at most"),
        ({"keep_alife": 3}, "there is no setting 'keep_alife'"),
        ({"machine_types": []}, "machine_types must be a list of names"),
        ({"machine_types": ["GPU-H1000"]}, "there is no machine type 'GPU-H1000'"),
    ],
)
async def test_settings_that_cannot_be_are_refused_and_nothing_changes(world: World, changes: dict[str, Any], said: str):
    before = await world.app("hello")
    status, code, detail = (await world.call("PATCH", "/v1/apps/ada/hello", changes)).refusal()
    assert (status, code) == (422, "unprocessable")
    assert said in detail
    assert await world.store.apps.get("ada", "hello") == before


async def test_a_mistyped_setting_gets_a_suggestion(world: World):
    await world.app("hello")
    assert (await world.call("PATCH", "/v1/apps/ada/hello", {"keep_alife": 3})).json["hint"] == "Did you mean 'keep_alive'?"


async def test_a_machine_type_that_never_fits_here_is_refused(world: World):
    await world.app("hello")
    status, code, _ = (await world.call("PATCH", "/v1/apps/ada/hello", {"machine_types": ["GPU-H100"]})).refusal()
    assert (status, code) == (422, "unsatisfiable")


async def test_two_changes_at_once_are_both_made(world: World):
    await world.app("hello")
    await asyncio.gather(
        *(
            world.call("PATCH", "/v1/apps/ada/hello", change)
            for change in ({"keep_alive": 1}, {"min_concurrency": 1}, {"max_concurrency": 7})
        )
    )
    app = (await world.call("GET", "/v1/apps/ada/hello")).json
    assert (app["keep_alive"], app["min_concurrency"], app["max_concurrency"]) == (1, 1, 7)


async def test_deleting_an_app_wakes_who_must_know(world: World):
    await world.app("hello")
    assert (await world.call("DELETE", "/v1/apps/ada/hello", key=STRANGER)).status == 404
    with world.hints.listen("apps") as apps, world.hints.listen("fleet") as fleet:
        assert (await world.call("DELETE", "/v1/apps/ada/hello")).json == {"deleted": "ada/hello"}
        assert apps.is_set() and fleet.is_set()
    assert (await world.call("DELETE", "/v1/apps/ada/hello")).status == 404
