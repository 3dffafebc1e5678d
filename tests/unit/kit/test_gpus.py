from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roost.kit import gpus
from roost.kit.gpus import Gpu, Inventory

MB = 1024 * 1024


class Nvml:
    """The driver's library, as far as it is asked: `cards` in its own order are (bus, name, UUID, bytes)."""

    def __init__(self, cards: list[tuple[int, str, str, int]], init: int = 0) -> None:
        self._cards = cards
        self._init = init
        self.shut = 0

    def nvmlInit_v2(self) -> int:
        return self._init

    def nvmlShutdown(self) -> int:
        self.shut += 1
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self._cards)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number: Any, handle: Any) -> int:
        handle._obj.value = number.value + 1
        return 0

    def nvmlDeviceGetPciInfo_v3(self, handle: Any, pci: Any) -> int:
        pci._obj.bus = self._cards[handle.value - 1][0]
        return 0

    def nvmlDeviceGetName(self, handle: Any, text: Any, size: Any) -> int:
        text.value = self._cards[handle.value - 1][1].encode()
        return 0

    def nvmlDeviceGetUUID(self, handle: Any, text: Any, size: Any) -> int:
        text.value = self._cards[handle.value - 1][2].encode()
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.total = self._cards[handle.value - 1][3]
        return 0


def no_library(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


def test_gpus_are_numbered_by_their_pci_addresses_not_by_the_librarys_order(tmp_path: Path) -> None:
    nvml = Nvml([(0x41, "NVIDIA H100", "GPU-b", 81_559 * MB), (0x01, "NVIDIA L40", "GPU-a", 46_068 * MB)])
    found = gpus.find(lambda name: nvml, tmp_path)
    assert found == Inventory((Gpu(0, "NVIDIA L40", "GPU-a", 46_068), Gpu(1, "NVIDIA H100", "GPU-b", 81_559)), "NVML")
    assert nvml.shut == 1


@pytest.mark.parametrize("load", [no_library, lambda name: Nvml([], init=9)], ids=["no library", "no driver"])
def test_without_the_library_the_drivers_listing_is_read(load: Any, tmp_path: Path) -> None:
    for address, model in (("0000:41:00.0", "NVIDIA H100"), ("0000:01:00.0", "NVIDIA L40")):
        (tmp_path / address).mkdir()
        (tmp_path / address / "information").write_text(f"Model: \t\t {model}\nIRQ:   45\nGPU UUID: \t GPU-{address}\n")
    found = gpus.find(load, tmp_path)
    assert found.gpus == (Gpu(0, "NVIDIA L40", "GPU-0000:01:00.0"), Gpu(1, "NVIDIA H100", "GPU-0000:41:00.0"))
    assert found.source == str(tmp_path)


def test_a_machine_without_a_driver_has_none(tmp_path: Path) -> None:
    assert gpus.find(no_library, tmp_path / "none") == Inventory((), "no driver")


FOUR = gpus.pretended(["A", "B", "C", "D"])


@pytest.mark.parametrize(
    ("visible", "left"),
    [(None, "ABCD"), ("", ""), ("2,0", "AC"), ("GPU-pretended-3", "D"), ("NoDevFiles", ""), ("1, 3", "BD")],
)
def test_the_servers_own_restriction_holds_for_runners_too(visible: str | None, left: str) -> None:
    assert "".join(gpu.model for gpu in FOUR.only(visible).gpus) == left


def test_a_restricted_gpu_keeps_its_number() -> None:
    assert [gpu.index for gpu in FOUR.only("2,3").gpus] == [2, 3]


@pytest.mark.parametrize(
    ("places", "models", "indexes"),
    [
        ((), "AB", [0, 1]),
        (("GPU-pretended-1", "GPU-pretended-0"), "BA", [1, 0]),
        (("GPU-old", "GPU-pretended-1"), "BA", [gpus.GONE, 1, 0]),
        (("GPU-pretended-1",), "BA", [1, 0]),
    ],
    ids=["none known", "another order", "one is gone", "one is new"],
)
def test_a_gpu_keeps_its_place_whatever_becomes_of_others(places: tuple[str, ...], models: str, indexes: list[int]) -> None:
    found = gpus.pretended(["A", "B"]).in_places(places).gpus
    assert "".join(gpu.model for gpu in found) == models
    assert [gpu.index for gpu in found] == indexes


def test_gpus_that_cannot_be_told_apart_are_as_they_come() -> None:
    found = Inventory((Gpu(0, "A"), Gpu(1, "B")), "a listing")
    assert found.in_places(("GPU-x",)) == found
