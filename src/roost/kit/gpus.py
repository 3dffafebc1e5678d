"""The GPUs of this machine: from the driver's library (NVML), else from the driver's listing in /proc, else none.

The library is asked directly, with six of its calls: it comes with every driver, so that nothing has to be installed.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

GONE: Final = -1
"""Index of a GPU that was here when its runner started, and is not now."""
_SUCCESS: Final = 0
_LONGEST_TEXT: Final = 96


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Pci(ctypes.Structure):
    _fields_ = (
        ("legacy_id", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("pci_device_id", ctypes.c_uint),
        ("subsystem_id", ctypes.c_uint),
        ("id", ctypes.c_char * 32),
    )


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `model` is what its driver says: "NVIDIA H100 80GB HBM3"."""

    index: int
    """Its place in the order of PCI addresses, which is what CUDA counts by with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    model: str
    uuid: str = ""
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """`source` says who was asked, for `roost doctor`."""

    gpus: tuple[Gpu, ...]
    source: str

    def only(self, visible: str | None) -> Inventory:
        """What is left when the server itself was started with a CUDA_VISIBLE_DEVICES: indexes, or the beginnings of UUIDs."""
        if visible is None:
            return self
        wanted = [name.strip() for name in visible.split(",") if name.strip()]
        left = tuple(gpu for gpu in self.gpus if any(name == str(gpu.index) or (gpu.uuid and gpu.uuid.startswith(name)) for name in wanted))
        return Inventory(left, f"{self.source}; CUDA_VISIBLE_DEVICES of the server leaves {len(left)} of {len(self.gpus)}")

    def in_places(self, places: Sequence[str]) -> Inventory:
        """The same GPUs, each at the place that its UUID has in `places`. One that is gone leaves its place empty; new ones come last.

        Without UUIDs nobody can tell which is which, and they are as they come.
        """
        by_uuid = {gpu.uuid: gpu for gpu in self.gpus}
        if "" in by_uuid:
            return self
        kept = [by_uuid.pop(uuid, Gpu(GONE, "", uuid)) for uuid in places]
        return Inventory((*kept, *by_uuid.values()), self.source)


NO_GPUS: Final = Inventory((), "nobody looked")


def pretended(models: Sequence[str]) -> Inventory:
    """GPUs that are not there, for tests and for trying things out."""
    return Inventory(
        tuple(Gpu(index, model, f"GPU-pretended-{index}") for index, model in enumerate(models)), "pretended by the setting gpus"
    )


def find(load: Callable[[str], Any] = ctypes.CDLL, listing: Path = Path("/proc/driver/nvidia/gpus")) -> Inventory:
    """All that the machine has, in the order of their PCI addresses."""
    with contextlib.suppress(OSError, AttributeError):
        return Inventory(tuple(_ask(load("libnvidia-ml.so.1"))), "NVML")
    listed = tuple(Gpu(index, model, uuid) for index, (model, uuid) in enumerate(_listed(listing)))
    return Inventory(listed, f"{listing}" if listed else "no driver")


def _ask(nvml: Any) -> list[Gpu]:
    """Raises OSError when the library is there but its driver is not."""
    _check(nvml.nvmlInit_v2(), "nvmlInit_v2")
    try:
        count = ctypes.c_uint()
        _check(nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)), "nvmlDeviceGetCount_v2")
        found = sorted((_one(nvml, number) for number in range(count.value)), key=lambda pair: pair[0])
    finally:
        nvml.nvmlShutdown()
    return [Gpu(index, gpu.model, gpu.uuid, gpu.memory_mb) for index, (_, gpu) in enumerate(found)]


def _one(nvml: Any, number: int) -> tuple[tuple[int, int, int], Gpu]:
    """A GPU with its PCI address: the library's own order may change from boot to boot."""
    handle, pci, memory = ctypes.c_void_p(), _Pci(), _Memory()
    name, uuid = ctypes.create_string_buffer(_LONGEST_TEXT), ctypes.create_string_buffer(_LONGEST_TEXT)
    _check(nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(number), ctypes.byref(handle)), "nvmlDeviceGetHandleByIndex_v2")
    _check(nvml.nvmlDeviceGetPciInfo_v3(handle, ctypes.byref(pci)), "nvmlDeviceGetPciInfo_v3")
    _check(nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(_LONGEST_TEXT)), "nvmlDeviceGetName")
    _check(nvml.nvmlDeviceGetUUID(handle, uuid, ctypes.c_uint(_LONGEST_TEXT)), "nvmlDeviceGetUUID")
    nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))  # machines that share their memory with the GPU have no answer
    gpu = Gpu(number, name.value.decode(errors="replace"), uuid.value.decode(errors="replace"), memory.total // (1024 * 1024))
    return (pci.domain, pci.bus, pci.device), gpu


def _check(code: int, call: str) -> None:
    if code != _SUCCESS:
        raise OSError(f"{call} answered {code}")


def _listed(folder: Path) -> list[tuple[str, str]]:
    """Model and UUID of each; the folders' names are the PCI addresses."""
    found: list[tuple[str, str]] = []
    for information in sorted(folder.glob("*/information")):
        said = dict(_pairs(information.read_text(errors="replace").splitlines()))
        if "Model" in said:
            found.append((said["Model"], said.get("GPU UUID", "")))
    return found


def _pairs(lines: Collection[str]) -> list[tuple[str, str]]:
    return [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
