from __future__ import annotations

import asyncio

import pytest

from roost.builders.joined import Joined, Say, Stopped


async def test_who_comes_late_sees_what_was_said_and_gets_the_same_end() -> None:
    go = asyncio.Event()

    async def work(say: Say) -> str:
        say("one")
        await go.wait()
        say("two")
        return "done"

    job = Joined(work, "test")
    early: list[str] = []
    late: list[str] = []
    first = asyncio.create_task(job.join(early.append))
    await asyncio.sleep(0)
    second = asyncio.create_task(job.join(late.append))
    await asyncio.sleep(0)
    go.set()
    assert await first == await second == "done"
    assert early == late == ["one", "two"]


async def test_the_work_goes_on_until_the_last_one_leaves() -> None:
    undone = asyncio.Event()

    async def work(say: Say) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            undone.set()

    job = Joined(work, "test")
    askers = [asyncio.create_task(job.join(lambda _: None)) for _ in range(2)]
    await asyncio.sleep(0)
    askers[0].cancel()
    await asyncio.sleep(0)
    assert not job.abandoned
    askers[1].cancel()
    await asyncio.wait(askers)
    await job.ended()
    assert job.abandoned and undone.is_set()


async def test_stopping_is_told_apart_from_the_asker_s_own_cancellation() -> None:
    async def work(say: Say) -> None:
        await asyncio.Event().wait()

    job = Joined(work, "test")
    asker = asyncio.create_task(job.join(lambda _: None))
    await asyncio.sleep(0)
    await job.stop()
    with pytest.raises(Stopped):
        await asker


async def test_stopping_work_that_was_abandoned_does_not_break_off_its_clean_up() -> None:
    cleaning, go_on = asyncio.Event(), asyncio.Event()
    cleaned = False

    async def work(say: Say) -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await go_on.wait()
            cleaned = True

    job = Joined(work, "test")
    asker = asyncio.create_task(job.join(lambda _: None))
    await asyncio.sleep(0)
    asker.cancel()
    await cleaning.wait()
    stopping = asyncio.create_task(job.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    assert cleaned
