"""The long proof, `make soak`: the whole failpoint sweep, power losses by the thousand, every fault test in its long version; one table at the end.

python -m tests.soak             all, about forty minutes on two cores
python -m tests.soak sweep       the sweep alone; ONLY=requests.claim strikes at points that begin so
python -m tests.soak tests       the long tests alone
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.soak.sweep import EXCUSED, Strike, Target, Verdict, in_the_source, learn, strikes_at, target

ROOT = Path(__file__).parent.parent.parent
LONG_TESTS = (
    "tests/sim/test_power_loss.py",
    "tests/sim/test_queue_model.py",
    "tests/system/test_queue_faults.py",
    "tests/system/test_long_queue.py",
    "tests/system/test_webhooks.py",
)
LANES = 2
"""Servers that are struck at the same time."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the summary."""

    what: str
    good: bool
    numbers: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stages", nargs="*", choices=["sweep", "tests", []], help="without any: all")
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="strike at points that begin so")
    parser.add_argument("--lanes", type=int, default=LANES)
    given = parser.parse_args()
    stages = given.stages or ["sweep", "tests"]
    began = time.monotonic()
    lines: list[Line] = []
    if "sweep" in stages:
        lines += whole_sweep(given.only, given.lanes)
    if "tests" in stages:
        lines += long_tests()
    width = max(len(line.what) for line in lines)
    print("\n" + "\n".join(f"{'ok ' if line.good else 'RED'}  {line.what:{width}}  {line.numbers}" for line in lines))
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0 if all(line.good for line in lines) else 1


# the sweep


def whole_sweep(only: str, lanes: int) -> list[Line]:
    """F-03: learn the points, then one run a strike, on several servers side by side."""
    with tempfile.TemporaryDirectory(prefix="roost-soak-") as folder:
        here = Path(folder)
        cache = here / "cache"
        cache.mkdir()
        with target(here / "learn", cache) as one:
            usual, later = learn(one)
        strikes = [strike for strike in strikes_at(usual, later) if strike.point.startswith(only)]
        print(f"{len(usual)} points on the path of a request, {len(later)} more in a take-over; {len(strikes)} strikes on {lanes} servers")
        shares = [strikes[lane::lanes] for lane in range(lanes)]
        over = threading.Event()
        with ThreadPoolExecutor(lanes) as threads:
            work = [threads.submit(_lane, here / f"lane-{number}", cache, share, over) for number, share in enumerate(shares)]
            try:
                verdicts = [verdict for lane in work for verdict in lane.result()]
            finally:
                # Ctrl-C, or a lane that broke: the others end with their present strike, and their servers with them.
                over.set()
    return [*_judged(verdicts), _coverage({*usual, *later} | {verdict.strike.point for verdict in verdicts if verdict.hit}, only)]


def _lane(folder: Path, cache: Path, strikes: Sequence[Strike], over: threading.Event) -> list[Verdict]:
    with target(folder, cache) as one:
        return [_struck(one, strike) for strike in strikes if not over.is_set()]


def _struck(one: Target, strike: Strike) -> Verdict:
    verdict = asyncio.run(one.suffer(strike, one.workload_for(strike)))
    state = "ok" if verdict.good else "RED"
    print(f"{state:3} {strike!s:60} {'hit' if verdict.hit else 'not hit':8} {verdict.counts} ({verdict.took_s:.1f} s)", flush=True)
    for problem in verdict.problems[:5]:
        print(f"      {problem}", flush=True)
    return verdict


def _judged(verdicts: Sequence[Verdict]) -> list[Line]:
    lines: list[Line] = []
    for action in ("kill", "raise"):
        those = [verdict for verdict in verdicts if verdict.strike.action == action and verdict.hit]
        bad = [verdict for verdict in verdicts if verdict.strike.action == action and not verdict.good]
        accepted = sum(verdict.counts.accepted for verdict in those)
        names = {verdict.strike.point for verdict in those}
        numbers = f"{len(those)} strikes at {len(names)} points, {accepted} requests, {len(bad)} with a broken promise"
        lines.append(Line(f"F-03 sweep: {action}", bool(those) and not bad, numbers))
    return lines


def _coverage(visited: set[str], only: str) -> Line:
    """A point that is there and is never visited proves nothing."""
    known = {name for name in in_the_source() if name.startswith(only) and name.partition(":")[0] not in EXCUSED}
    missed = sorted(known - visited)
    return Line(
        "F-03 sweep: coverage",
        not missed,
        f"{len(known & visited)} of {len(known)} points visited" + (f"; missed {missed}" if missed else ""),
    )


# the long versions of tests


def long_tests() -> list[Line]:
    """Each file by itself, so that one that hangs does not hide the others."""
    lines: list[Line] = []
    for file in LONG_TESTS:
        if not (ROOT / file).exists():
            lines.append(Line(file, False, "there is no such file"))
            continue
        with tempfile.NamedTemporaryFile(suffix=".xml") as report:
            words = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-s",
                f"--junit-xml={report.name}",
                "-o",
                "junit_logging=system-out",
                "-o",
                "faulthandler_timeout=1800",
            ]
            words[words.index("-s")] = "--capture=tee-sys"
            subprocess.run([*words, file], cwd=ROOT, env={**os.environ, "ROOST_LONG": "1"}, check=False)
            lines += _reported(Path(report.name))
    return lines


def _reported(report: Path) -> list[Line]:
    """Each test with what it printed last."""
    lines: list[Line] = []
    for case in ET.parse(report).iter("testcase"):
        said = [
            line
            for output in case.iter("system-out")
            for line in (output.text or "").splitlines()
            if line.strip() and not line.startswith("---")
        ]
        good = case.find("failure") is None and case.find("error") is None
        lines.append(
            Line(
                str(case.get("name")).removeprefix("test_").replace("_", " "),
                good,
                (f"{said[-1].strip()} " if said else "") + f"({float(case.get('time') or 0):.0f} s)",
            )
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
