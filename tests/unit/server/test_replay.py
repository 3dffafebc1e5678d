"""The process that replays, and who asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.core.model import Scale
from roost.core.whatif import REACTION_MS, Lived
from roost.data.traffic import HOUR_MS, Served, Traffic
from roost.kit.process import LocalSpawner
from roost.server import replay
from roost.server.simulations import Simulations
from roost.wire.errors import RoostError

NOON = 500_000 * HOUR_MS
APP = "me/app"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    traffic = Traffic(tmp_path / "traffic")
    traffic.write([Served(APP, NOON + at_ms, NOON + at_ms + 400, NOON + at_ms + 500) for at_ms in (0, 60_000)])
    return tmp_path


@pytest.fixture
async def spawner() -> AsyncIterator[LocalSpawner]:
    spawner = LocalSpawner()
    yield spawner
    await spawner.close()


def asked(folder: Path, *scales: Scale) -> dict[str, object]:
    text = replay.question(folder / "traffic", APP, NOON, NOON + 120_000, [Lived(NOON, NOON + 400, NOON + 2_000)], list(scales))
    return json.loads(text)


def test_each_of_the_settings_gets_its_figures(folder: Path) -> None:
    told = replay.answer(asked(folder, Scale(keep_alive_ms=1_000), Scale(keep_alive_ms=100_000)))
    short, long = told["replayed"]
    assert told["recorded"]["calls"] == 2 and told["starts_known"] == 1
    assert (short["starts"], short["wait_p99_ms"], long["starts"]) == (2, 400 + REACTION_MS, 1)


def test_of_too_many_calls_the_newest_are_replayed(folder: Path) -> None:
    told = replay.answer(asked(folder, Scale(), Scale()), most_calls=2)
    assert told["since_ms"] == NOON + 60_000 and told["recorded"]["calls"] == 1


async def test_the_process_answers_what_the_function_does(folder: Path, spawner: LocalSpawner) -> None:
    flushed: list[bool] = []

    async def flush() -> None:
        flushed.append(True)

    simulations = Simulations(spawner, folder / "traffic", folder, flush)
    told = await simulations.ask(APP, NOON, NOON + 120_000, [Lived(NOON, NOON + 400, NOON + 2_000)], [Scale()])
    assert told | {"took_ms": 0} == replay.answer(asked(folder, Scale())) | {"took_ms": 0}
    assert flushed == [True] and not (folder / "simulation").exists()


async def test_a_replay_that_fails_says_how(folder: Path, spawner: LocalSpawner) -> None:
    (folder / "traffic" / APP / "x").mkdir(parents=True)
    (file,) = (folder / "traffic").rglob("*.bin")
    file.unlink()
    file.mkdir()
    simulations = Simulations(spawner, folder / "traffic", folder, lambda: asyncio.sleep(0))
    with pytest.raises(RoostError, match="the simulation failed: exit 1: IsADirectoryError") as raised:
        await simulations.ask(APP, NOON, NOON + 1, [], [Scale()])
    assert raised.value.status == 500


async def test_more_than_a_few_at_once_are_refused(folder: Path, spawner: LocalSpawner) -> None:
    held = asyncio.Event()
    simulations = Simulations(spawner, folder / "traffic", folder, held.wait)
    waiting = [asyncio.ensure_future(simulations.ask(APP, NOON, NOON + 1, [], [Scale()])) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RoostError, match="2 simulations are under way"):
        await simulations.ask(APP, NOON, NOON + 1, [], [Scale()])
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
