"""Webhooks from a real server to a real receiver, while the server is killed again and again (faults.md F-69).

ROOST_LONG=1 (`make soak`) has 2,000 of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.histories.check import check, counts
from tests.histories.history import History, read
from tests.soak.load import Job, Load
from tests.soak.nemesis import again_and_again, kill_server
from tests.soak.receiver import Receiver
from tests.soak.sweep import Strike, Target, target
from tests.system.roosts import until

LONG = os.environ.get("ROOST_LONG") == "1"
COUNT, RATE = (2000, 40) if LONG else (120, 30)
KILLS_EVERY_S = 3.0 if LONG else 1.5
PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("struck-webhooks"), cache, ("Recorder",)) as one:
        yield one


def proven(folder: Path) -> History:
    """The history in a folder, which holds what is promised."""
    history = read(folder)
    violations = check(history)
    assert not violations, "\n".join(map(str, violations[:20]))
    return history


async def test_webhooks_arrive_while_the_server_is_killed_again_and_again(struck: Target) -> None:
    """Each at least once, with the same bytes each time, although the receiver is rough too."""
    folder = struck.folder / "killed"
    kills: list[float] = []

    async def kill() -> None:
        kills.append(await kill_server(struck.roost))

    async with Receiver(folder) as receiver, Load(struck.roost, folder, webhook=receiver.url) as load:
        jobs = [Job(webhook="rough", answer_bytes=100_000 if n % 20 == 0 else 0) for n in range(COUNT)]
        work = asyncio.ensure_future(load.at_rate(jobs, RATE))
        await again_and_again(kill, KILLS_EVERY_S, asyncio.wait([work], timeout=COUNT / RATE))
        outcomes = await work
        last_at = time.monotonic()
        await receiver.told((outcome.request for outcome in outcomes), PATIENCE_S)
        settled_s = time.monotonic() - last_at
        await load.list_these({outcome.request for outcome in outcomes})
    history = proven(folder)
    print(
        f"\n{len(kills)} kills -9 under {RATE}/s: {counts(history)}; {len(history.notified)} tries for {COUNT} webhooks, "
        f"the last one there {settled_s:.1f} s after the last result"
    )
    assert {outcome.code for outcome in outcomes} == {200}
    assert len(kills) >= COUNT / RATE // (KILLS_EVERY_S + 2)
    assert len(history.notified) > COUNT, "nothing was tried twice: neither kills nor the receiver did any harm"


@pytest.mark.parametrize("point", ["webhooks.send:before", "webhooks.send:after", "webhooks.delivered:inside", "webhooks.delivered:after"])
async def test_killed_at_a_step_of_a_delivery_it_is_delivered_all_the_same(struck: Target, point: str) -> None:
    """F-69; the whole sweep is in tests/soak."""
    folder = struck.folder / point.replace(":", "-")
    async with Receiver(folder) as receiver, Load(struck.roost, folder, webhook=receiver.url) as load:
        struck.arm(Strike(point, "kill"))
        outcomes = await load.carry([Job(webhook="ok") for _ in range(5)], callers=5)
        await receiver.told(outcome.request for outcome in outcomes)
        await asyncio.to_thread(until, "the kill was written down", lambda: f"{point}=kill" in struck.names())
        tries = receiver.tries
    proven(folder)
    assert tries > 5 or point in ("webhooks.send:before", "webhooks.delivered:after"), (
        "what was answered and not written down is sent again"
    )
