from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from roost.core.placement import DEFAULT_MACHINE_TYPES, Node, NoRoom, Place, Used, place
from roost.kit.gpus import GONE, Inventory, pretended
from roost.server.machine import gpus_for_runners, in_known_places, this_node
from roost.store import Store
from roost.testkit.clock import VirtualClock

THREE = pretended(["L40", "L40", "H100"])


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    made = await Store.open(":memory:", VirtualClock())
    yield made
    await made.close()


def without(inventory: Inventory, place: int) -> Inventory:
    return Inventory(inventory.gpus[:place] + inventory.gpus[place + 1 :], inventory.source)


async def test_a_gpu_that_drops_out_while_runners_live_moves_no_other(store: Store) -> None:
    assert await in_known_places(THREE, store.meta, in_use=False) == THREE
    found = await in_known_places(without(THREE, 0), store.meta, in_use=True)
    assert [gpu.index for gpu in found.gpus] == [GONE, 1, 2]
    node = Node(64, 10**6, this_node(found).gpus)
    kind = DEFAULT_MACHINE_TYPES["GPU-L40"]
    assert place([kind], None, node, Used()) == Place(kind, (1,))
    assert place([kind], None, node, Used(gpus=frozenset({1}))) == NoRoom("GPU-L40 needs 1 x L40, and 1 of 1 are in use")
    # It comes back to its place.
    assert await in_known_places(THREE, store.meta, in_use=True) == THREE


async def test_when_no_runner_has_a_gpu_the_places_are_made_anew(store: Store) -> None:
    await in_known_places(THREE, store.meta, in_use=False)
    fewer = without(THREE, 1)
    assert await in_known_places(fewer, store.meta, in_use=False) == fewer
    assert await in_known_places(fewer, store.meta, in_use=True) == fewer


def test_the_setting_pretends_and_the_servers_own_variable_restricts() -> None:
    assert [gpu.model for gpu in gpus_for_runners(("L40", "H100"), {"CUDA_VISIBLE_DEVICES": ""}).gpus] == ["L40", "H100"]
    assert gpus_for_runners((), {"CUDA_VISIBLE_DEVICES": ""}).gpus == ()
