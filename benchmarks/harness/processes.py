"""What processes take, from /proc: memory as PSS (shared pages are divided among those that share them), processor time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_TICKS_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time so far."""
    # The name in the second field may hold spaces; what follows it does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def pss_mb(pids: Iterable[int]) -> float:
    """Of all of them together; those that end meanwhile count nothing."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += pss_kb(pid)
    return total / 1024


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    todo = [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def family(root: int) -> dict[int, str]:
    """A process and its descendants, each with when it began: a number alone may be another's tomorrow."""
    return {pid: began for pid in tree(root) if (began := _began(pid))}


def still(family: dict[int, str]) -> list[int]:
    """Those of them that live on."""
    return [pid for pid, began in family.items() if _began(pid) == began]


def _began(pid: int) -> str:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""
