"""What this machine has: processors, memory, GPUs by model."""

from __future__ import annotations

import os
from pathlib import Path

from roost.core.placement import Node


def this_node(gpus: Path = Path("/proc/driver/nvidia/gpus")) -> Node:
    """The machine as placement sees it. GPUs are read from the driver's own listing, so that nothing has to be installed for it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Node(float(os.cpu_count() or 1), memory // (1024 * 1024), tuple(_models(gpus)))


def _models(folder: Path) -> list[str]:
    found: list[str] = []
    for information in sorted(folder.glob("*/information")):
        for line in information.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                found.append(value.strip())
    return found
