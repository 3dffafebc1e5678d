"""Run the subjects, print their figures, and keep them in bench-results.json.

    python -m benchmarks                  all, in one go
    python -m benchmarks echo slots       some
    make bench ONLY=echo ARGS=--quick     the same from make

Slow is no failure: the exit code is 1 when something is broken.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import machine, wrk
from benchmarks.harness.bench import Bench, Options
from benchmarks.harness.programs import Broken

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench-results.json"
SUBJECTS = {
    "echo": "Roost beside bare uvicorn, 1 to 64 callers",
    "slots": "one slot of 20 ms, 1 to 64 callers",
    "cold": "from zero to the first answer",
    "burst": "200 calls at once to an app that sleeps, and to 50 apps that sleep",
    "queue": "durable submits, results and polls; Celery and dramatiq (only with their flags)",
    "subscribe": "the official Python client waits for a job of two seconds",
    "lost": "tasks that a kill -9 loses; BentoML's with --bentoml",
    "memory": "an idle server, many runners, many callers",
    "tls": "TLS on the port beside plain HTTP: calls, new connections, idle ones",
    "simulate": "waits as they were beside waits as simulated",
    "slow_callers": "what slow callers cost the others",
    "peers": "the echo under LitServe, BentoML, Ray Serve (only with their flags)",
    "import_time": "import roost, roost --help",
    "store_writes": "durable writes a second",
}
PEERS = ("litserve", "bentoml", "ray", "celery", "dramatiq")


def main() -> int:
    chosen, options = arguments()
    # Whoever ends us ends what we started: a SystemExit leaves every `with`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        wrk.require()
    except wrk.WrkFailed as error:
        print(error, file=sys.stderr)
        return 1
    facts, versions = machine.machine(), machine.versions()
    print(f"{machine.described(facts)}\n{machine.described(versions)}")
    failed: list[str] = []
    begin = time.monotonic()
    for name in chosen:
        bench = one(name, options)
        if bench is None:
            failed.append(name)
        elif bench.figures:
            print(f"\n{bench.report()}", flush=True)
            keep(name, bench, {"machine": facts, "versions": versions, "quick": options.quick})
    print(f"\n{time.monotonic() - begin:.0f} s, figures in {RESULTS.name}" + (f"; broken: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def arguments() -> tuple[list[str], Options]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What things cost, beside what they are compared with.")
    parser.add_argument("subjects", nargs="*", help=f"{', '.join(SUBJECTS)}; without any: all", metavar="SUBJECT")
    parser.add_argument("--quick", action="store_true", help="few rounds: does it work at all")
    parser.add_argument("--torch", action="store_true", help="cold starts with torch too (installs it)")
    parser.add_argument("--weights", action="store_true", help="memory of 20 runners with 500 MB preloaded")
    parser.add_argument("--find-links", default="", metavar="FOLDER", help="folder with wheels for what is installed")
    parser.add_argument("--millions", action="store_true", help="queue beside five million finished requests (takes minutes and gigabytes)")
    for peer in PEERS:
        parser.add_argument(f"--{peer}", action="store_true", help=f"compare with {peer} (installs it)")
    given = parser.parse_args()
    unknown = [name for name in given.subjects if name not in SUBJECTS]
    if unknown:
        parser.error(f"there is no subject {unknown[0]!r}; there are: {', '.join(SUBJECTS)}")
    peers = tuple(peer for peer in PEERS if getattr(given, peer))
    options = Options(peers, given.torch, given.weights, given.quick, given.find_links, given.millions)
    return given.subjects or list(SUBJECTS), options


def one(name: str, options: Options) -> Bench | None:
    """Run a subject; None when something in it is broken, which has been said then."""
    print(f"\n== {name}: {SUBJECTS[name]}", flush=True)
    subject = importlib.import_module(f"benchmarks.{name}")
    kept = ROOT / ".bench"
    kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="roost-bench-") as folder:
        bench = Bench(name, Path(folder), kept, options)
        try:
            subject.run(bench)
        except (Broken, wrk.WrkFailed, OSError) as error:
            print(f"{name} is broken: {error}\n{last_words(bench.folder)}", file=sys.stderr)
            return None
    return bench


def last_words(folder: Path) -> str:
    """The ends of the servers' logs: the folder is removed now."""
    logs = [*folder.glob("*.log"), *folder.glob("*/up.log")]
    return "\n".join(f"--- {log.relative_to(folder)}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted(logs))


def keep(name: str, bench: Bench, where: dict[str, Any]) -> None:
    """Replace this subject's figures in the results; those of others stay, each with its own time and machine."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    at = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    results[name] = {"at": at, **where, "figures": {figure.name: figure.to_json() for figure in bench.figures}}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
