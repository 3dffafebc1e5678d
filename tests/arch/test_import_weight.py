"""`import roost` stands at the top of every app: it may cost a few milliseconds, on the author's machine and in each runner's start."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

LIMIT_MS = 20
HELP_LIMIT_MS = 250

HEAVY = {
    "asyncio",
    "concurrent",
    "email",
    "http",
    "logging",
    "multiprocessing",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "unittest",
    "urllib",
}
"""Standard library that costs milliseconds to import."""


def run(script: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def loaded_by(module: str) -> set[str]:
    """Top-level modules that importing `module` adds to a bare interpreter."""
    return set(run(f"import sys; bare = set(sys.modules); import {module}; print(*{{n.split('.')[0] for n in set(sys.modules) - bare}})"))


def children_ms() -> float:
    """Processor time of the programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def test_import_roost_loads_nobody_elses_package():
    assert {name for name in loaded_by("roost") if name not in sys.stdlib_module_names} == {"roost"}


def test_import_roost_loads_nothing_heavy():
    assert loaded_by("roost") & HEAVY == set()


def test_import_roost_takes_at_most_20_ms():
    # Time of the processor, and the best of several: a wait for the machine's other work is not ours.
    script = "from time import process_time as now; start = now(); import roost; print((now() - start) * 1000)"
    assert min(float(run(script)[0]) for _ in range(7)) <= LIMIT_MS


def test_the_command_line_starts_without_anybody_elses_package():
    assert {name for name in loaded_by("roost.cli.main") if name not in sys.stdlib_module_names} == {"roost"}


def test_roost_help_takes_at_most_250_ms():
    def once() -> float:
        start = children_ms()
        subprocess.run([Path(sys.executable).parent / "roost", "--help"], check=True, stdout=subprocess.DEVNULL)
        return children_ms() - start

    assert min(once() for _ in range(5)) <= HELP_LIMIT_MS
