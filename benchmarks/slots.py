"""A handler of 20 ms, one call at a time: handing the only slot to the next caller must cost next to nothing, however many wait."""

from __future__ import annotations

from functools import partial
from statistics import median

from benchmarks.harness import wrk
from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import at_least, at_most, interleaved
from benchmarks.harness.tables import number, spread

CALLERS = (1, 4, 16, 64)


def run(bench: Bench) -> None:
    rounds, seconds = (1, 2) if bench.options.quick else (4, 3)
    with bench.roost("roost") as roost:
        post = roost.post(roost.deploy(APPS / "slots.py"))
        wrk.press(post, 4, 1)
        bench.say(f"{rounds} rounds of {', '.join(map(str, CALLERS))} callers")
        measured = interleaved({str(callers): partial(wrk.press, post, callers, seconds) for callers in CALLERS}, rounds)
    figures = [
        bench.record(f"{callers}.calls_s", "calls/s", [load.calls_s for load in loads], at_least(42)) for callers, loads in measured.items()
    ]
    medians = [figure.median for figure in figures]
    bench.record("apart", "%", [(max(medians) / min(medians) - 1) * 100], at_most(10))
    rows = [
        [f"{callers} callers", number(figure.median), spread(figure.samples), number(median(load.p50_ms for load in loads))]
        for (callers, loads), figure in zip(measured.items(), figures, strict=True)
    ]
    bench.show(["", "calls/s", "min-max", "p50 ms"], rows)
