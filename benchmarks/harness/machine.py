"""On what it was measured: without this line a number says nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

_PACKAGES = ("roost", "fastapi", "pydantic", "uvicorn", "uvloop", "httptools")


def machine() -> dict[str, str]:
    """Processor, memory, kernel, and how busy it is with other things."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_gb:.0f} GB",
        "kernel": platform.release(),
        "load_before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        found[name] = importlib.metadata.version(name)
    for program, flag in (("wrk", "-v"), ("nginx", "-v")):
        if shutil.which(program):
            said = subprocess.run([program, flag], capture_output=True, text=True, check=False)
            number = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
            found[program] = number.group() if number else "?"
    return found


def described(facts: dict[str, str]) -> str:
    return " · ".join(f"{name} {value}" for name, value in facts.items())


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()
