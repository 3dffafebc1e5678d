"""From zero to the first answer: the app has no runner, a request is sent, its answer has come."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import Goal, at_most, percentile
from benchmarks.harness.programs import Broken
from benchmarks.harness.roosts import Roost
from benchmarks.harness.tables import number, spread

TRIES = 100
# A start without a template is a whole second of work: a fifth of the tries show its median as well.
WITH_TO_WITHOUT = 5
PER_APP_S = 60.0
STAGES = "x-roost-stages"
_STAGE = re.compile(r"([a-z_]+);dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Subject:
    """One app, and what is promised of its starts."""

    app: str
    packages: str = ""
    """What its module imports, so that the machine which deploys needs it too."""
    with_template: Goal | None = None
    without: Goal | None = None


PLAIN = Subject("small", with_template=at_most(40), without=at_most(1200))
NUMPY = Subject("with_numpy", "numpy", at_most(40), at_most(1200))
TORCH = Subject("with_torch", "torch", at_most(90))


@dataclass(frozen=True, slots=True)
class Starts:
    """The tries of one app on one server."""

    ms: list[float] = field(default_factory=list[float])
    stages: list[dict[str, float]] = field(default_factory=list[dict[str, float]])


def run(bench: Bench) -> None:
    subjects = [PLAIN, NUMPY, *([TORCH] if bench.options.torch else [])]
    with contextlib.ExitStack() as stack:
        servers = {
            "template": stack.enter_context(bench.roost("template")),
            "fresh": stack.enter_context(bench.roost("fresh", ROOST_TEMPLATE_MEMORY_MB="0")),
        }
        rows: list[list[str]] = []
        for subject in subjects:
            measured = tries(bench, subject, servers)
            rows += record(bench, subject, measured)
    bench.show(["from zero", "tries", "p50 ms", "p90 ms", "min-max", "stages ms (median)"], rows)


def tries(bench: Bench, subject: Subject, servers: Mapping[str, Roost]) -> dict[str, Starts]:
    """Interleaved: a few with a template, one without, and again; at most so many, for at most so long."""
    packages = installed(bench, subject.packages) if subject.packages else None
    paths = {name: roost.deploy(APPS / f"{subject.app}.py", packages) for name, roost in servers.items()}
    starts = {name: Starts() for name in servers}
    count, enough = (10, 10.0) if bench.options.quick else (TRIES, PER_APP_S)
    bench.say(f"{subject.app}: up to {count} starts with a template, a fifth as many without")
    for name, roost in servers.items():
        start_once(roost, paths[name])  # the first start of all makes templates and fills the disk's cache
    until = time.monotonic() + enough
    for number_of_try in range(count):
        if time.monotonic() > until:
            break
        for name in servers if number_of_try % WITH_TO_WITHOUT == 0 else ("template",):
            ms, stages = start_once(servers[name], paths[name])
            starts[name].ms.append(ms)
            if stages:
                starts[name].stages.append(stages)
    for name, roost in servers.items():
        roost.stop_runners(paths[name])
    return starts


def start_once(roost: Roost, path: str) -> tuple[float, dict[str, float]]:
    """From no runner at all; answers milliseconds, and by stage when the server says them."""
    roost.stop_runners(path)
    answer = roost.call(path, x_roost_trace="1")
    return answer.ms, stages_of(answer.headers.get(STAGES, ""))


def has_template(roost: Roost, path: str, within_s: float = 30.0) -> bool:
    """Start again and again until a start is a fork; False when that takes too long."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if "fork" in start_once(roost, path)[1]:
            return True
    return False


def stages_of(header: str) -> dict[str, float]:
    """Milliseconds by stage, from `decide;dur=0.4, fork;dur=3.1`."""
    return {name: float(ms) for name, ms in _STAGE.findall(header)}


def installed(bench: Bench, packages: str) -> Path:
    """A folder with these packages, for PYTHONPATH: the module that is deployed imports them. Kept for the next run."""
    folder = bench.kept / f"packages-{packages}"
    if not folder.exists():
        bench.say(f"installing {packages} for the author's side, once")
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        uv = str(Path(sys.executable).parent / "uv")
        words = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(unfinished), packages]
        if bench.options.find_links:
            words += ["--find-links", bench.options.find_links]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise Broken(f"uv could not install {packages}: {done.stderr}")
        unfinished.rename(folder)
    return folder


def record(bench: Bench, subject: Subject, measured: Mapping[str, Starts]) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, starts in measured.items():
        goal = subject.with_template if name == "template" else subject.without
        figure = bench.record(f"{subject.app}.{name}", "ms", starts.ms, goal)
        bench.record(f"{subject.app}.{name}.p90", "ms", [percentile(starts.ms, 90)])
        if starts.stages:
            bench.record(f"{subject.app}.{name}.forked", "%", [100 * sum("fork" in stages for stages in starts.stages) / len(starts.ms)])
        told: list[str] = []
        for stage in dict.fromkeys(stage for stages in starts.stages for stage in stages):
            ms = [stages[stage] for stages in starts.stages if stage in stages]
            bench.record(f"{subject.app}.{name}.{stage}", "ms", ms)
            told.append(f"{stage} {number(median(ms))}")
        p90 = number(percentile(starts.ms, 90))
        rows.append([f"{subject.app}, {name}", str(len(starts.ms)), number(figure.median), p90, spread(starts.ms), ", ".join(told)])
    return rows
