"""Many calls at once to what sleeps: 200 to one app, and one to each of 50 apps."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.cold import has_template
from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import Goal, at_most, percentile
from benchmarks.harness.programs import Broken
from benchmarks.harness.roosts import Roost
from benchmarks.harness.tables import number, spread

CALLS = 200
MANY_APPS = 50


def run(bench: Bench) -> None:
    tries, apps = (3, 10) if bench.options.quick else (10, MANY_APPS)
    rows: list[list[str]] = []
    with contextlib.ExitStack() as stack:
        servers = {
            "template": stack.enter_context(bench.roost("template")),
            "fresh": stack.enter_context(bench.roost("fresh", ROOST_TEMPLATE_MEMORY_MB="0")),
        }
        rows += one_app(bench, servers["template"], tries)
        for name, roost in servers.items():
            rows += many_apps(bench, name, roost, apps, at_most(3_000 if name == "template" else 10_000))
    bench.show(["at once", "ms", "min-max"], rows)


def one_app(bench: Bench, roost: Roost, tries: int) -> list[list[str]]:
    path = roost.deploy(APPS / "burst.py")
    bench.say(f"{tries} bursts of {CALLS} calls to an app that sleeps")
    # A burst before the template is there starts twenty processes afresh, which is the next subject's matter.
    if not has_template(roost, path):
        raise Broken("the app has no template")
    middle: list[float] = []
    last: list[float] = []
    for _ in range(tries):
        roost.stop_runners(path)
        ms = at_once(roost, [path] * CALLS)
        middle.append(percentile(ms, 50))
        last.append(max(ms))
    roost.stop_runners(path)
    p50 = bench.record("burst.p50", "ms", middle, at_most(700))
    all_of_them = bench.record("burst.last", "ms", last)
    return [
        [f"{CALLS} calls, p50 of a burst", number(p50.median), spread(p50.samples)],
        [f"{CALLS} calls, the last one", number(all_of_them.median), spread(all_of_them.samples)],
    ]


def many_apps(bench: Bench, name: str, roost: Roost, count: int, goal: Goal) -> list[list[str]]:
    """One call to each of so many apps, none of which has a runner."""
    bench.say(f"{count} apps, {name}: deploying")
    folder = bench.folder / f"apps-{name}"
    folder.mkdir()
    paths = [roost.deploy(written(folder, number_of_app)) for number_of_app in range(count)]
    wakes: list[float] = []
    for _ in range(3):
        with ThreadPoolExecutor(8) as stopping:
            list(stopping.map(roost.stop_runners, paths))
        wakes.append(max(at_once(roost, paths)))
    figure = bench.record(f"{count}_apps.{name}", "ms", wakes, goal)
    return [[f"{count} apps, {name}, the last one", number(figure.median), spread(figure.samples)]]


def written(folder: Path, number_of_app: int) -> Path:
    """The small app under another name."""
    text = (APPS / "small.py").read_text().replace("class Small(", f"class Small{number_of_app}(")
    file = folder / f"small{number_of_app}.py"
    file.write_text(text)
    return file


def at_once(roost: Roost, paths: list[str]) -> list[float]:
    """Milliseconds of a call to each, all sent at the same moment. Raises Broken if one is not answered with 200."""
    ready = threading.Barrier(len(paths))

    def call(path: str) -> float:
        ready.wait()
        begin = time.perf_counter()
        roost.call(path)
        return (time.perf_counter() - begin) * 1000

    with ThreadPoolExecutor(len(paths)) as callers:
        try:
            return list(callers.map(call, paths))
        except threading.BrokenBarrierError as error:
            raise Broken("the callers did not begin together") from error
