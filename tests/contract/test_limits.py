"""Limits as a real supervisor keeps them: whoever takes more memory than it may is ended and named, and nobody else."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.kit import linux
from roost.kit.spawn import Limits
from roost.server.supervised import SupervisedSpawner
from tests.contract.test_adoption import leave
from tests.contract.test_spawner import Exits, contents, ended, python, supervised

GREEDY = "import time\nheld = []\nwhile True:\n    held.append(b'x' * (8 << 20)); time.sleep(0.01)"
"""Takes 800 MB a second at most, so that a test costs the machine little."""


@pytest.fixture
async def spawner(tmp_path: Path) -> AsyncIterator[SupervisedSpawner]:
    async with supervised(tmp_path) as made:
        assert isinstance(made, SupervisedSpawner)
        yield made


@pytest.fixture
def exits(spawner: SupervisedSpawner) -> Exits:
    subscriber = Exits()
    spawner.subscribe("runner", subscriber)
    return subscriber


async def test_whoever_takes_more_than_its_limit_is_ended_and_its_neighbour_goes_on(
    spawner: SupervisedSpawner, exits: Exits, tmp_path: Path
) -> None:
    neighbour = python("import time; time.sleep(600)", limits=Limits(64, 1))
    pid = await spawner.start(neighbour)
    greedy = python(GREEDY, limits=Limits(96, 1))
    await spawner.start(greedy)
    exited = await exits.of(greedy.name)
    assert (exited.signal, exited.oom_killed, exited.memory_limit_mb) == (signal.SIGKILL, True, 96)
    assert 96 <= exited.memory_peak_mb < 96 + 400
    assert linux.stat(pid) is not None
    await spawner.kill(neighbour.name)
    exited = await exits.of(neighbour.name)
    assert (exited.oom_killed, exited.memory_limit_mb) == (False, 0)


async def test_children_count_and_go_with_their_parent(spawner: SupervisedSpawner, exits: Exits, tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[2]], start_new_session=True)\n"
        "open(sys.argv[1], 'w').write(str(child.pid)); time.sleep(600)"
    )
    parent = python(program, str(tmp_path / "child"), GREEDY, limits=Limits(96))
    await spawner.start(parent)
    child = int(await contents(tmp_path / "child"))
    exited = await exits.of(parent.name)
    assert (exited.oom_killed, exited.memory_limit_mb) == (True, 96)
    await ended(child)


async def test_a_fork_pays_only_for_what_it_takes_itself(spawner: SupervisedSpawner, exits: Exits, tmp_path: Path) -> None:
    program = (
        "weights = b'x' * (120 << 20)\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        f"mine = b'x' * (40 << 20)\nopen({str(tmp_path / 'held')!r}, 'w').write('yes')\n"
        f"while not os.path.exists({str(tmp_path / 'on')!r}): time.sleep(0.01)\n{GREEDY}"
    )
    template, pid = await leave(spawner, tmp_path, program)

    # Adopted when it holds its weights, as a fork does that has its template's.
    while (stat := Path(f"/proc/{pid}/status").read_text()) and int(stat.split("RssAnon:")[1].split()[0]) < 120 * 1024:
        pass
    await spawner.adopt("fork", "runner", pid, 5_000, Limits(96))
    (tmp_path / "go").touch()
    await contents(tmp_path / "held")
    assert [living.name for living in await spawner.living() if living.kind == "runner"] == ["fork"]
    (tmp_path / "on").touch()
    exited = await exits.of("fork")
    assert (exited.oom_killed, exited.memory_limit_mb) == (True, 96)
    assert exited.memory_peak_mb < 96 + 400
    await spawner.kill(template)


async def test_somebody_elses_kill_is_not_blamed_on_memory(spawner: SupervisedSpawner, exits: Exits) -> None:
    spawn = python("import time; time.sleep(600)", limits=Limits(512))
    pid = await spawner.start(spawn)
    linux.signal_process(pid, signal.SIGKILL)
    exited = await exits.of(spawn.name)
    assert (exited.signal, exited.oom_killed, exited.memory_limit_mb) == (signal.SIGKILL, False, 0)


async def test_the_supervisor_says_how_limits_are_kept(spawner: SupervisedSpawner) -> None:
    how = await spawner.enforcement()
    assert how.memory.startswith("by ")
    assert how.cpu
