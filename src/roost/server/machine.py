"""What this machine has: processors, memory, GPUs by model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from roost.core.placement import Node
from roost.kit import gpus, log
from roost.store.meta import Meta


def this_node(inventory: gpus.Inventory) -> Node:
    """The machine as placement sees it, with these GPUs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Node(float(os.cpu_count() or 1), memory // (1024 * 1024), tuple(gpu.model for gpu in inventory.gpus))


def gpus_for_runners(pretended: Sequence[str], environ: Mapping[str, str] = os.environ) -> gpus.Inventory:
    """Those that runners may get: all that the server itself may see, or those that it shall pretend to have."""
    return gpus.pretended(pretended) if pretended else gpus.find().only(environ.get("CUDA_VISIBLE_DEVICES"))


async def in_known_places(found: gpus.Inventory, meta: Meta, in_use: bool) -> gpus.Inventory:
    """The GPUs at the places that runners' rows know them by. `in_use`: a living runner has one.

    Without this a GPU that drops out while the server is down would move all behind it up by one, onto those that runners have.
    """
    before = json.loads(await meta.get("gpus") or "[]")
    placed = found.in_places(before if in_use else ())
    now = [gpu.uuid for gpu in placed.gpus]
    if now != before:
        await meta.set("gpus", json.dumps(now))
    for gpu in placed.gpus:
        if gpu.index == gpus.GONE:
            log.warning("gpu.gone", uuid=gpu.uuid)
    return placed
