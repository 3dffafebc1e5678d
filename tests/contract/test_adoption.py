"""Every Spawner adopts what a template forked and left to it: watched, stopped and killed like what it started itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.kit import linux
from roost.kit.spawn import Exited, Living, Spawner
from tests.contract.test_spawner import Exits, contents, ended, local, python, supervised

# Forks twice as a template does, writes the pid of what it left, and waits.
TEMPLATE = """
import os, sys, time
said, program = sys.argv[1:]
if os.fork() == 0:
    if os.fork():
        os._exit(0)
    os.setsid()
    open(said + '.new', 'w').write(str(os.getpid()))
    exec(program)
    os._exit(0)
os.wait()
while not (os.path.exists(said + '.new') and open(said + '.new').read()):
    time.sleep(0.005)
os.rename(said + '.new', said)
time.sleep(600)
"""


@contextlib.asynccontextmanager
async def reaping(folder: Path) -> AsyncIterator[Spawner]:
    linux.become_subreaper()
    try:
        async with local(folder) as spawner:
            yield spawner
    finally:
        linux.become_subreaper(False)


@pytest.fixture(params=[reaping, supervised])
async def spawner(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spawner]:
    async with request.param(tmp_path) as made:
        yield made


@pytest.fixture
def exits(spawner: Spawner) -> Exits:
    subscriber = Exits()
    spawner.subscribe("runner", subscriber)
    return subscriber


async def leave(spawner: Spawner, folder: Path, program: str) -> tuple[str, int]:
    """A template that has left one process: its name, and that one's pid."""
    spawn = python(TEMPLATE, str(folder / "left"), program, kind="template")
    await spawner.start(spawn)
    return spawn.name, int(await contents(folder / "left"))


async def test_an_adopted_process_is_among_the_living_and_its_exit_is_told(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    template, pid = await leave(spawner, tmp_path, "time.sleep(600)")
    await spawner.adopt("fork", "runner", pid, 5_000)
    assert Living("fork", "runner", pid, "running") in await spawner.living()
    os.kill(pid, signal.SIGUSR1)
    assert await exits.of("fork") == Exited("fork", "runner", pid, None, signal.SIGUSR1)
    await spawner.kill(template)


async def test_a_template_that_dies_takes_no_adopted_process_with_it(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    template, pid = await leave(spawner, tmp_path, "time.sleep(600)")
    await spawner.adopt("fork", "runner", pid, 5_000)
    await spawner.kill(template)

    async def is_alone() -> bool:
        return [living.name for living in await spawner.living()] == ["fork"]

    for _ in range(1000):
        if await is_alone():
            break
        await asyncio.sleep(0.005)
    assert await is_alone()
    assert linux.stat(pid) is not None
    await spawner.kill("fork")
    assert (await exits.of("fork")).signal == signal.SIGKILL


async def test_an_adopted_process_is_stopped_with_its_grace(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    deaf = (
        f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(tmp_path / 'deaf')!r}, 'w').write('yes'); time.sleep(600)"
    )
    template, pid = await leave(spawner, tmp_path, deaf)
    await spawner.adopt("fork", "runner", pid, 5_000)
    await contents(tmp_path / "deaf")
    await spawner.stop("fork", 50)
    assert (await exits.of("fork")).signal == signal.SIGKILL
    await spawner.kill(template)


async def test_killing_an_adopted_process_takes_its_group(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    written = tmp_path / "child"
    forks = f"pid = os.fork()\n    if pid: open({str(written)!r}, 'w').write(str(pid))\n    time.sleep(600)"
    template, pid = await leave(spawner, tmp_path, forks.replace("\n    ", "\n"))
    await spawner.adopt("fork", "runner", pid, 5_000)
    child = int(await contents(written))
    await spawner.kill("fork")
    await exits.of("fork")
    await ended(child)
    await spawner.kill(template)


async def test_what_nobody_left_cannot_be_adopted(spawner: Spawner) -> None:
    with pytest.raises(OSError, match="cannot adopt fork: 1 is no process that a template left to us"):
        await spawner.adopt("fork", "runner", 1, 5_000)


async def test_a_name_that_lives_cannot_be_given_to_another(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    template, pid = await leave(spawner, tmp_path, "time.sleep(600)")
    await spawner.adopt("fork", "runner", pid, 5_000)
    with pytest.raises(OSError, match="cannot adopt fork: a process of this name is running"):
        await spawner.adopt("fork", "runner", pid, 5_000)
    await spawner.kill("fork")
    await exits.of("fork")
    await spawner.kill(template)


async def test_an_exit_before_the_adoption_is_told_after_it(tmp_path: Path) -> None:
    async with supervised(tmp_path) as spawner:
        exits = Exits()
        spawner.subscribe("runner", exits)
        template, pid = await leave(spawner, tmp_path, "os._exit(7)")
        for _ in range(1000):
            if linux.stat(pid) is None:  # the supervisor has waited for it, and nobody had asked
                break
            await asyncio.sleep(0.005)
        await spawner.adopt("fork", "runner", pid, 5_000)
        assert await exits.of("fork") == Exited("fork", "runner", pid, 7, None)
        assert [living.name for living in await spawner.living()] == [template]
        await spawner.kill(template)
