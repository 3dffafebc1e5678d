"""Control groups for runners, below a group that is ours alone: memory that the kernel caps, processor time by weight, one group a runner.

Both versions, told apart by what is mounted. "Ours alone" means that nothing but us runs in the group that we were started in, as in a
systemd unit with `Delegate=` or in a container: to move a stranger's processes, or to make groups beside them, would be their owner's
business. Nothing here decides what a limit should be.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.kit.linux import signal_process
from roost.kit.spawn import Limits

PREFIX: Final = "roost-"
PLATFORM: Final = "roost-platform"
"""Where the supervisor and the servers go under version 2, in which a group with groups below it may have no processes of its own."""
_PLATFORM_CPUS: Final = 10.0
"""The server's weight, as if it were a machine type with so many processors: runners that burn all they get must not make callers wait."""


@dataclass(frozen=True, slots=True)
class _Words:
    """What one version calls things."""

    version: int
    memory_limit: str
    kills: str
    """A file with a line "oom_kill N": how often anybody's OOM killer took one of the group."""
    full: tuple[str, str]
    """A file, and the word before the number in it, of allocations that the limit refused."""
    peak: str
    weight: str
    weight_of_a_cpu: int
    lightest: int
    heaviest: int


_V2: Final = _Words(2, "memory.max", "memory.events", ("memory.events", "oom"), "memory.peak", "cpu.weight", 100, 1, 10_000)
_V1: Final = _Words(
    1, "memory.limit_in_bytes", "memory.oom_control", ("memory.failcnt", ""), "memory.max_usage_in_bytes", "cpu.shares", 1024, 2, 262_144
)


@dataclass(frozen=True, slots=True)
class Use:
    """What a runner's group saw: whether the kernel killed somebody in it, whether its limit was why, and the most that was held at once."""

    killed: bool
    at_limit: bool
    peak_mb: int


@dataclass(frozen=True, slots=True)
class Unavailable:
    """There is no group that we may divide."""

    reason: str


class Groups:
    """The groups of runners. `memory` and `cpu` are the folders of our own group in which those can be limited; None: they cannot."""

    def __init__(self, words: _Words, memory: Path | None, cpu: Path | None) -> None:
        self._words = words
        self._memory = memory
        self._cpu = cpu

    @property
    def version(self) -> int:
        return self._words.version

    @property
    def limits_memory(self) -> bool:
        return self._memory is not None

    @property
    def limits_cpu(self) -> bool:
        return self._cpu is not None

    def put(self, name: str, pids: Collection[int], limits: Limits) -> None:
        """Make the group of this runner and put these processes into it; what they fork from now on is in it too. Raises OSError."""
        for parent in self._parents():
            (parent / f"{PREFIX}{name}").mkdir(exist_ok=True)
        if self._memory is not None and limits.memory_mb:
            group = self._memory / f"{PREFIX}{name}"
            (group / self._words.memory_limit).write_text(str(limits.memory_mb * 1024 * 1024))
            if self.version == 2:
                # Else the kernel picks one process of the tree, and what is left is half an app.
                (group / "memory.oom.group").write_text("1")
        if self._cpu is not None and limits.cpus:
            _weigh(self._cpu / f"{PREFIX}{name}", limits.cpus, self._words)
        for parent in self._parents():
            for pid in pids:
                # One that has ended meanwhile needs no place.
                with contextlib.suppress(ProcessLookupError):
                    (parent / f"{PREFIX}{name}" / "cgroup.procs").write_text(str(pid))

    def use(self, name: str) -> Use | None:
        """None if memory is not limited by its group."""
        if self._memory is None:
            return None
        group = self._memory / f"{PREFIX}{name}"
        full, word = self._words.full
        peak_mb = _number(_read(group / self._words.peak)) // (1024 * 1024)
        return Use(_number(_read(group / self._words.kills), "oom_kill") > 0, _number(_read(group / full), word) > 0, peak_mb)

    def end(self, name: str) -> None:
        """SIGKILL to all that is in the group, wherever it has hidden from its session."""
        for parent in self._parents():
            group = parent / f"{PREFIX}{name}"
            if (group / "cgroup.kill").exists():
                with contextlib.suppress(OSError):
                    (group / "cgroup.kill").write_text("1")
            else:
                # Version 1, and kernels before 5.14.
                for pid in _read(group / "cgroup.procs").split():
                    signal_process(int(pid), signal.SIGKILL)

    def remove(self, name: str) -> bool:
        """Whether the group is gone. It cannot go before its last process has."""
        gone = [_remove(parent / f"{PREFIX}{name}") for parent in self._parents()]
        return all(gone)

    def _parents(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(folder for folder in (self._memory, self._cpu) if folder is not None))


def find(ours: Collection[int], membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Groups | Unavailable:
    """The groups that we may make. `ours` are the pids that may be in our own group; under version 2 they are moved one down."""
    own: dict[str, str] = {}
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    if (root / "cgroup.controllers").exists():
        return _version_2(_folder(root, own.get("", "/")), ours)
    found: dict[str, Path] = {}
    reasons: list[str] = []
    for controller in ("memory", "cpu"):
        folder = _folder(root / controller, own.get(controller, "/"))
        if reason := _obstacle(folder, ours):
            reasons.append(reason)
        else:
            found[controller] = folder
            _sweep(folder)
    return Groups(_V1, found.get("memory"), found.get("cpu")) if found else Unavailable("; ".join(dict.fromkeys(reasons)))


def _version_2(own: Path, ours: Collection[int]) -> Groups | Unavailable:
    if reason := _obstacle(own, ours):
        return Unavailable(reason)
    there = set(_read(own / "cgroup.controllers").split())
    if "memory" not in there:
        return Unavailable(f"the group {own} may not limit memory (its cgroup.controllers: {' '.join(sorted(there)) or 'none'})")
    _sweep(own)
    wanted = [controller for controller in ("memory", "cpu") if controller in there]
    try:
        platform = own / PLATFORM
        platform.mkdir(exist_ok=True)
        for pid in _read(own / "cgroup.procs").split():
            (platform / "cgroup.procs").write_text(pid)
        (own / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in wanted))
        if "cpu" in wanted:
            _weigh(platform, _PLATFORM_CPUS, _V2)
    except OSError as error:
        return Unavailable(f"the group {own} could not be divided: {error.strerror}")
    return Groups(_V2, own, own if "cpu" in wanted else None)


def _folder(mount: Path, path: str) -> Path:
    # In a container the path may be the host's; the group that we see then is the mount itself.
    folder = mount / path.lstrip("/")
    return folder if folder.is_dir() else mount


def _obstacle(folder: Path, ours: Collection[int]) -> str:
    """Why groups must not be made below this one; "" if they may."""
    if not (folder / "cgroup.procs").exists():
        return f"there is no control group at {folder}"
    if not os.access(folder, os.W_OK) or not os.access(folder / "cgroup.procs", os.W_OK):
        return f"the control group {folder} is not ours to write to"
    strangers = {int(pid) for pid in _read(folder / "cgroup.procs").split()} - set(ours)
    return f"other programs run in the control group {folder} too" if strangers else ""


def _sweep(folder: Path) -> None:
    """Groups of runners whose supervisor was killed are empty, and nobody else's."""
    for left in folder.glob(f"{PREFIX}*"):
        _remove(left)


def _remove(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _weigh(group: Path, cpus: float, words: _Words) -> None:
    (group / words.weight).write_text(str(min(words.heaviest, max(words.lightest, round(cpus * words.weight_of_a_cpu)))))


def _number(text: str, word: str = "") -> int:
    """The number behind this word, on a line of its own; 0 if there is none."""
    for line in text.splitlines():
        before, _, number = line.rpartition(" ")
        if before == word and number.isdecimal():
            return int(number)
    return 0


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
