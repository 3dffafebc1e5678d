"""Many time limits at the price of few timers."""

from __future__ import annotations

import asyncio

import pytest

from roost.kit.timeouts import Timeouts
from roost.testkit.loop import VirtualLoop


class CountingLoop(VirtualLoop):
    """Counts its timers."""

    timers = 0

    def call_at(self, when, callback, *args, context=None):  # type: ignore[no-untyped-def]  # as the loop has it
        self.timers += 1
        return super().call_at(when, callback, *args, context=context)


@pytest.fixture
def loop():
    loop = CountingLoop()
    yield loop
    loop.close()


def pass_time(loop: VirtualLoop, seconds: float) -> None:
    loop.run_until_complete(asyncio.sleep(seconds))


def test_limits_of_several_lengths_ring_at_their_time_in_order(loop: CountingLoop):
    rung: list[tuple[str, float]] = []
    began = loop.time()
    timeouts = Timeouts(loop)

    def ring(name: str):
        return lambda: rung.append((name, round(loop.time() - began, 3)))

    timeouts.start(10, ring("ten"))
    pass_time(loop, 1)
    timeouts.start(3, ring("three"))
    timeouts.start(10, ring("eleven"))
    pass_time(loop, 30)
    assert rung == [("three", 4), ("ten", 10), ("eleven", 11)]


def test_a_cancelled_limit_never_rings(loop: CountingLoop):
    rung: list[str] = []
    timeouts = Timeouts(loop)
    first = timeouts.start(5, lambda: rung.append("first"))
    timeouts.start(5, lambda: rung.append("second"))
    first.cancel()
    first.cancel()
    pass_time(loop, 10)
    assert rung == ["second"]


def test_a_limit_may_begin_or_end_others_when_it_rings(loop: CountingLoop):
    rung: list[str] = []
    timeouts = Timeouts(loop)

    def first() -> None:
        rung.append("first")
        second.cancel()
        timeouts.start(5, lambda: rung.append("third"))

    timeouts.start(5, first)
    second = timeouts.start(5, lambda: rung.append("second"))
    pass_time(loop, 20)
    assert rung == ["first", "third"]


def test_a_thousand_short_lives_cost_one_timer(loop: CountingLoop):
    timeouts = Timeouts(loop)
    for _ in range(1_000):
        timeouts.start(60, lambda: None).cancel()
    assert loop.timers == 1
    pass_time(loop, 61)
    assert timeouts._running == {}


def test_a_limit_whose_callback_fails_does_not_keep_others_from_ringing(loop: CountingLoop):
    rung: list[str] = []
    failed: list[object] = []
    loop.set_exception_handler(lambda loop, context: failed.append(context["exception"]))
    timeouts = Timeouts(loop)
    error = ValueError("broken")

    def fail() -> None:
        raise error

    timeouts.start(5, fail)
    timeouts.start(5, lambda: rung.append("second"))
    pass_time(loop, 10)
    assert (rung, failed) == (["second"], [error])
