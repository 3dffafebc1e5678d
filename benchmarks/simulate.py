"""How well the past is replayed: the waits that were measured beside those of `roost simulate` with the same settings."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import at_least, at_most
from benchmarks.harness.programs import until
from benchmarks.harness.roosts import Roost

QUEUE = "/_queue"
CALLERS = 128
_APART_S = 2
"""Between the runners that a deploy starts and the first call: the time that is replayed begins in the middle of it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One call to be made: when, in seconds from the beginning, how long it works, and whether through the queue."""

    at_s: float
    ms: int
    queued: bool = False


def bursty(seconds: float, dice: random.Random) -> Iterator[Sent]:
    """Two dozen calls within a moment, every few seconds."""
    at_s = 0.0
    while at_s < seconds:
        for _ in range(24):
            yield Sent(at_s + dice.uniform(0, 0.3), round(dice.uniform(100, 500)))
        at_s += dice.uniform(6, 10)


def steady(seconds: float, dice: random.Random) -> Iterator[Sent]:
    """Calls at random, as of many callers who do not know of each other; each second one through the queue."""
    at_s, number = dice.expovariate(8), 0
    while at_s < seconds:
        yield Sent(at_s, round(dice.lognormvariate(5.5, 0.5)), queued=number % 2 == 0)
        at_s, number = at_s + dice.expovariate(8), number + 1


def on_off(seconds: float, dice: random.Random) -> Iterator[Sent]:
    """Some seconds of calls, then nothing for longer than an idle runner stays."""
    at_s = 0.0
    while at_s < seconds:
        until_s = at_s + 4
        while at_s < until_s:
            yield Sent(at_s, round(dice.uniform(100, 300)))
            at_s += dice.expovariate(4)
        at_s = until_s + 5


TRACES = {"bursty": bursty, "steady": steady, "on_off": on_off}


def run(bench: Bench) -> None:
    seconds = 20 if bench.options.quick else 60
    with bench.roost("roost") as roost, ThreadPoolExecutor(CALLERS) as callers:
        paths = {name: roost.deploy(APPS / f"simulated_{name}.py") for name in TRACES}
        for path in paths.values():
            roost.stop_runners(path)
        bench.say(f"{seconds} s of calls to three apps at a time")
        time.sleep(_APART_S)
        begin = time.time()
        play(roost, paths, seconds, callers)
        drained(roost, paths)
        rows: list[list[str]] = []
        speeds: list[float] = []
        for name, path in paths.items():
            found = roost.api("POST", f"/v1/apps{path}/simulate", {"last_s": time.time() - begin + _APART_S / 2})
            rows += [row(name, "measured", found["recorded"]), row("", "simulated", found["simulated"])]
            was, would = found["recorded"]["wait_p95_ms"], found["simulated"]["wait_p95_ms"]
            bench.record(f"{name}.p95_apart", "%", [abs(would - was) / max(1, was) * 100], at_most(15))
            replays = 1 + len(found["variants"])
            speeds.append(replays * (found["until_ms"] - found["since_ms"]) / max(1, found["took_ms"]))
    bench.record("speed", "x real time", speeds, at_least(1_000))
    bench.show(["", "", "calls", "p50 ms", "p95 ms", "p99 ms", "waited", "starts", "most", "runner s"], rows)


def play(roost: Roost, paths: dict[str, str], seconds: float, callers: ThreadPoolExecutor) -> None:
    """Make the calls of all traces, each at its time, and wait for their answers. Those through the queue are only handed in."""
    plan = [(sent, paths[name]) for name, trace in TRACES.items() for sent in trace(seconds, random.Random(name))]
    plan.sort(key=lambda item: item[0].at_s)
    begin = time.monotonic()
    made: list[Any] = []
    for sent, path in plan:
        time.sleep(max(0, begin + sent.at_s - time.monotonic()))
        made.append(callers.submit(roost.call, f"{QUEUE}{path}" if sent.queued else path, b'{"ms": %d}' % sent.ms))
    for call in made:
        call.result()


def drained(roost: Roost, paths: dict[str, str]) -> None:
    """Until what was handed in to the queue has ended."""
    for path in paths.values():
        until(f"{path} has no call any more", lambda path=path: not roost.api("GET", f"/v1/apps{path}")["in_flight"])


def row(name: str, what: str, figures: dict[str, Any]) -> list[str]:
    names = ("calls", "wait_p50_ms", "wait_p95_ms", "wait_p99_ms", "waited", "starts", "peak", "runner_s")
    return [name, what, *(f"{figures[one]:g}" for one in names)]
