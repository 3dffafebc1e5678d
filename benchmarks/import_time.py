"""What starting costs: `import roost` over a bare interpreter, and `roost --help` as a person at a shell waits for it."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.harness.bench import Bench
from benchmarks.harness.figures import at_most, interleaved


def run(bench: Bench) -> None:
    python = sys.executable
    programs = {
        "bare": (python, "-c", "pass"),
        "import": (python, "-c", "import roost"),
        "help": (str(Path(python).parent / "roost"), "--help"),
    }
    for words in programs.values():
        wall_ms(words)  # the first run fills the caches
    times = interleaved({name: partial(wall_ms, words) for name, words in programs.items()}, 5 if bench.options.quick else 15)
    over_bare = [ms - bare for ms, bare in zip(times["import"], times["bare"], strict=True)]
    bench.record("import_roost", "ms", over_bare, at_most(20))
    bench.record("roost_help", "ms", times["help"], at_most(250))
    bench.record("bare_python", "ms", times["bare"])


def wall_ms(words: tuple[str, ...]) -> float:
    begin = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1000
