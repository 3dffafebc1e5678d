"""`import roost` stands at the top of every app: it may cost a few milliseconds, on the author's machine and in each runner's start."""

from __future__ import annotations

import subprocess
import sys
import time
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


def test_import_roost_loads_nobody_elses_package():
    assert {name for name in loaded_by("roost") if name not in sys.stdlib_module_names} == {"roost"}


def test_import_roost_loads_nothing_heavy():
    assert loaded_by("roost") & HEAVY == set()


def test_import_roost_takes_at_most_20_ms():
    # The best of several: the others measure what else the machine was doing.
    script = "from time import perf_counter as now; start = now(); import roost; print((now() - start) * 1000)"
    assert min(float(run(script)[0]) for _ in range(7)) <= LIMIT_MS


def test_the_command_line_starts_without_anybody_elses_package():
    assert {name for name in loaded_by("roost.cli.main") if name not in sys.stdlib_module_names} == {"roost"}


def test_roost_help_takes_at_most_250_ms():
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([Path(sys.executable).parent / "roost", "--help"], check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - start) * 1000

    assert min(once() for _ in range(5)) <= HELP_LIMIT_MS
