"""Machine types and where they fit: CPU and memory are shares that may be promised more than once, GPUs belong to one runner.

Source: scaling-routing.md §7, app-class.md §1.12.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_GPUS = 8


@dataclass(frozen=True, slots=True)
class MachineType:
    """What an author may ask for. `gpus` is how many a runner gets without `num_gpus`; `gpu_model` "" = any model."""

    name: str
    cpus: float
    memory_mb: int
    gpus: int = 0
    gpu_model: str = ""


def machine_table(*types: MachineType) -> dict[str, MachineType]:
    return {kind.name: kind for kind in types}


DEFAULT_MACHINE_TYPES: Final[Mapping[str, MachineType]] = machine_table(
    MachineType("XS", 0.5, 512),
    MachineType("S", 1, 1024),
    MachineType("M", 2, 2048),
    MachineType("L", 4, 15 * 1024),
    MachineType("XL", 8, 30 * 1024),
    MachineType("GPU-A100", 12, 60 * 1024, 1, "A100"),
    MachineType("GPU-L40", 6, 100 * 1024, 1, "L40"),
    MachineType("GPU-H100", 12, 112 * 1024, 1, "H100"),
    MachineType("GPU-RTXPRO6000", 6, 100 * 1024, 1, "RTXPRO6000"),
    MachineType("GPU-H200", 12, 112 * 1024, 1, "H200"),
    MachineType("GPU-B200", 19, 210 * 1024, 1, "B200"),
    # Named in older public pages without sizes; these are ours.
    MachineType("CPU", 1, 1024),
    MachineType("GPU", 4, 16 * 1024, 1),
    MachineType("GPU-A6000", 6, 60 * 1024, 1, "A6000"),
    MachineType("GPU-RTX4090", 6, 60 * 1024, 1, "RTX4090"),
    MachineType("GPU-RTX5090", 6, 60 * 1024, 1, "RTX5090"),
)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that the table lacks."""

    name: str
    detail: str
    hint: str


def resolve(names: Sequence[str], table: Mapping[str, MachineType]) -> tuple[MachineType, ...] | Unknown:
    """The types behind an author's ordered list, or the first name that is none, with what may have been meant."""
    for name in names:
        if name not in table:
            folded = {known.casefold(): known for known in table}
            close = difflib.get_close_matches(name.casefold(), folded, n=1)
            guess = f"Did you mean {folded[close[0]]!r}? " if close else ""
            return Unknown(name, f"there is no machine type {name!r}", f"{guess}This server has: {', '.join(table)}.")
    return tuple(table[name] for name in names)


@dataclass(frozen=True, slots=True)
class Node:
    """One machine. `gpus` are model names as its driver says them ("NVIDIA H100 80GB HBM3"), by index; "" is one that is gone."""

    cpus: float
    memory_mb: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overcommit:
    """How often a core and a megabyte may be promised: runners mostly sleep, so a small machine admits many small ones."""

    cpus: float = 16.0
    memory: float = 4.0


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """What the machine has left, whatever was promised, and below how much nothing more is started."""

    available_mb: int
    floor_mb: int


@dataclass(frozen=True, slots=True)
class Used:
    """What the runners on a node were promised. `gpus` are indexes."""

    cpus: float = 0.0
    memory_mb: int = 0
    gpus: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Fit:
    """At least one of the asked types would fit the empty node."""


@dataclass(frozen=True, slots=True)
class Never:
    """Not even the empty node could hold it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """Start it as this type, with exactly these GPUs (indexes)."""

    type: MachineType
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NoRoom:
    """It would fit the node but does not now; `reason` has a sentence for each type tried."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A runner that is wanted and has no place: PENDING, to whoever asks."""

    since_ms: int
    reason: str
    revision_id: str
    machine_types: tuple[str, ...]


NOTHING: Final = Used()
USUAL: Final = Overcommit()


def could_ever_fit(types: Sequence[MachineType], num_gpus: int | None, node: Node, overcommit: Overcommit = USUAL) -> Fit | Never:
    """Whether an empty node could run any of these types, to be said when the author deploys instead of when callers wait."""
    obstacles = [obstacle for kind in types if (obstacle := _obstacle(kind, num_gpus, node, NOTHING, overcommit))]
    return Fit() if len(obstacles) < len(types) else Never("; ".join(obstacles))


def place(
    types: Sequence[MachineType],
    num_gpus: int | None,
    node: Node,
    used: Used,
    overcommit: Overcommit = USUAL,
    free: FreeMemory | None = None,
) -> Place | NoRoom:
    """The first of the author's types that the node has room for now. `free` None: nobody knows, or there is no floor."""
    if free is not None and free.available_mb < free.floor_mb:
        # Promises are one thing. Without this the kernel would have to choose whom to kill.
        return NoRoom(
            f"the machine has {free.available_mb} MB of memory left, and below {free.floor_mb} MB (free_memory_floor_mb) nothing is started"
        )
    obstacles: list[str] = []
    for kind in types:
        obstacle = _obstacle(kind, num_gpus, node, used, overcommit)
        if not obstacle:
            return Place(kind, _free_gpus(kind, node, used.gpus)[: _gpus_wanted(kind, num_gpus)])
        obstacles.append(obstacle)
    return NoRoom("; ".join(obstacles) or "no machine type was asked for")


def used_by(placed: Collection[Place]) -> Used:
    """The sum of what these runners were promised."""
    return Used(
        sum(p.type.cpus for p in placed),
        sum(p.type.memory_mb for p in placed),
        frozenset(index for p in placed for index in p.gpus),
    )


def _obstacle(kind: MachineType, num_gpus: int | None, node: Node, used: Used, overcommit: Overcommit) -> str:
    """Why this type does not go onto the node with `used` taken; "" = it does."""
    wanted = _gpus_wanted(kind, num_gpus)
    if num_gpus and not kind.gpus:
        return f"num_gpus={num_gpus} needs a GPU machine type, and {kind.name} has none"
    if wanted > MAX_GPUS:
        return f"num_gpus={wanted} is more than the {MAX_GPUS} that one runner may have"
    if wanted > len(_free_gpus(kind, node, used.gpus)):
        model = kind.gpu_model or "GPU"
        all_gpus = _free_gpus(kind, node, frozenset())
        if len(all_gpus) >= wanted:
            return f"{kind.name} needs {wanted} x {model}, and {len(all_gpus) - len(_free_gpus(kind, node, used.gpus))} of {len(all_gpus)} are in use"
        return f"{kind.name} needs {wanted} x {model}, and this machine has {', '.join(filter(None, node.gpus)) or 'no GPU'}"
    cpus = node.cpus * overcommit.cpus
    if used.cpus + kind.cpus > cpus:
        return f"{kind.name} needs {kind.cpus:g} CPUs, and {used.cpus:g} of {cpus:g} ({node.cpus:g} x overcommit {overcommit.cpus:g}) are promised"
    memory_mb = round(node.memory_mb * overcommit.memory)
    if used.memory_mb + kind.memory_mb > memory_mb:
        return (
            f"{kind.name} needs {kind.memory_mb} MB of memory, and {used.memory_mb} of {memory_mb} MB "
            f"({node.memory_mb} x overcommit {overcommit.memory:g}) are promised"
        )
    return ""


def _gpus_wanted(kind: MachineType, num_gpus: int | None) -> int:
    return kind.gpus if num_gpus is None else num_gpus


def _free_gpus(kind: MachineType, node: Node, taken: frozenset[int]) -> tuple[int, ...]:
    return tuple(index for index, name in enumerate(node.gpus) if index not in taken and is_model(kind.gpu_model, name))


def is_model(model: str, name: str) -> bool:
    """Whether a driver's name of a GPU means this model: "RTXPRO6000" is in "NVIDIA RTX PRO 6000 Blackwell", but "H200" not in "NVIDIA GH200"."""
    words = re.findall(r"[A-Z0-9]+", name.upper())
    return any("".join(words[at:]).startswith(model.upper()) for at in range(len(words)))
