"""Nudges between loops."""

from __future__ import annotations

import asyncio

from roost.kit.hints import Hints
from roost.testkit.loop import VirtualLoop


def test_a_thousand_hints_within_a_time_are_one_at_its_end():
    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        hints = Hints()
        began, woken = loop.time(), list[float]()
        with hints.listen("calls") as nudge:
            for _ in range(2):
                nudge.clear()
                for _ in range(1_000):
                    hints.give_within("calls", 0.1)
                await nudge.wait()
                woken.append(round(loop.time() - began, 3))
        return woken

    loop = VirtualLoop()
    try:
        assert loop.run_until_complete(run()) == [0.1, 0.2]
    finally:
        loop.close()
