"""What this machine has: processors, memory, GPUs by model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from roost.core.placement import Node
from roost.kit import gpus


def this_node(inventory: gpus.Inventory) -> Node:
    """The machine as placement sees it, with these GPUs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Node(float(os.cpu_count() or 1), memory // (1024 * 1024), tuple(gpu.model for gpu in inventory.gpus))


def gpus_for_runners(pretended: Sequence[str], environ: Mapping[str, str] = os.environ) -> gpus.Inventory:
    """Those that runners may get: all that the server itself may see, or those that it shall pretend to have."""
    return gpus.pretended(pretended) if pretended else gpus.find().only(environ.get("CUDA_VISIBLE_DEVICES"))
