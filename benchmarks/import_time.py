"""What starting costs: `import roost` over a bare interpreter, and `roost --help` as a person at a shell waits for it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15


def wall_ms(*command: str) -> list[float]:
    """Times of RUNS runs of a command, after one that fills the caches."""
    times: list[float] = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - start) * 1000)
    return times[1:]


def report(what: str, times: list[float], limit_ms: int) -> None:
    print(f"{what:<28} best {min(times):7.1f} ms   median {statistics.median(times):7.1f} ms   limit {limit_ms} ms")


def main() -> None:
    python = sys.executable
    bare = statistics.median(wall_ms(python, "-c", "pass"))
    report("import roost, over bare", [ms - bare for ms in wall_ms(python, "-c", "import roost")], 20)
    report("roost --help", wall_ms(str(Path(python).parent / "roost"), "--help"), 250)


if __name__ == "__main__":
    main()
