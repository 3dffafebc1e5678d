"""Math libraries' threads around a fork: one while a template imports and preloads, the usual number again in its children.

A fork copies the calling thread alone. OpenBLAS knows that and takes its pool down before a fork; OpenMP does not: a child whose
parent has computed with several threads waits for ever for those that are not there (faults.md F-27).
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# (file name of the library, the variable that names its number of threads, its function that sets it, holds for one thread only)
_LIBRARIES: Final = (
    (re.compile(r"openblas"), "OPENBLAS_NUM_THREADS", "openblas_set_num_threads", False),
    (re.compile(r"lib(gomp|omp|iomp5)\b"), "OMP_NUM_THREADS", "omp_set_num_threads", True),
    (re.compile(r"libmkl_rt\b"), "MKL_NUM_THREADS", "MKL_Set_Num_Threads", False),
    (re.compile(r"libblis\b"), "BLIS_NUM_THREADS", "bli_thread_set_num_threads", False),
)
_SPELLINGS: Final = ("{}", "{}64_", "scipy_{}", "scipy_{}64_", "{}_64")


@dataclass(frozen=True)
class _Setter:
    variable: str
    function: Callable[[int], object]
    per_thread: bool


class Pools:
    """`hold()` before the first import; `find()` when all is imported, before the forks; `release()` in the child."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}
        self._setters: list[_Setter] = []

    def hold(self) -> None:
        """One thread for whatever is imported from now on."""
        for name in VARIABLES:
            self._before[name] = os.environ.get(name)
            os.environ[name] = "1"

    def find(self) -> None:
        """Look up what the loaded libraries call the setting of their threads: looking costs more than a fork."""
        self._setters = []
        for path in sorted(_loaded()):
            for name, variable, function, per_thread in _LIBRARIES:
                if name.search(os.path.basename(path)) and (found := _function(path, function)) is not None:
                    self._setters.append(_Setter(variable, found, per_thread))

    def release(self) -> None:
        """As if the template had never held anything: the variables, and the libraries that read them at their import."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for setter in self._setters:
            setter.function(self._count(setter.variable))
        for module in ("torch", "numexpr"):
            if (loaded := sys.modules.get(module)) is not None and hasattr(loaded, "set_num_threads"):
                loaded.set_num_threads(self._count("OMP_NUM_THREADS"))
        each = [setter for setter in self._setters if setter.per_thread]
        if each:
            # OpenMP keeps the number for each thread that may begin a parallel region, and gives new ones what it read at its import.
            threading.setprofile(_at_thread_start(lambda: [setter.function(self._count(setter.variable)) for setter in each]))

    def _count(self, variable: str) -> int:
        for name in (variable, "OMP_NUM_THREADS"):
            value = self._before.get(name) or ""
            if value.isdecimal() and int(value) > 0:
                return int(value)
        return len(os.sched_getaffinity(0))


def _at_thread_start(work: Callable[[], object]) -> Callable[[FrameType, str, Any], None]:
    """A profile function that works once, at the first thing that its thread does, and takes itself away."""

    def begin(frame: FrameType, event: str, argument: Any) -> None:
        sys.setprofile(None)
        work()

    return begin


def _loaded() -> set[str]:
    """The files of all shared libraries of this process."""
    found: set[str] = set()
    with open("/proc/self/maps") as maps:
        for line in maps:
            _, slash, path = line.rstrip("\n").partition("/")
            if ".so" in path:
                found.add(slash + path)
    return found


def _function(path: str, name: str) -> Callable[[int], object] | None:
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None  # unloaded, or replaced on the disk
    for spelling in _SPELLINGS:
        function = getattr(library, spelling.format(name), None)
        if function is not None:
            function.argtypes, function.restype = [ctypes.c_int], None
            return function
    return None
