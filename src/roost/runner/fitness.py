"""Whether a process may be forked: what an app's imports and preload() left behind that would not work in a child.

Each finding is a sentence that names what was found and where, for the author who reads why there is no template (guide: preload).
"""

from __future__ import annotations

import os
import re
import struct
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Final

_GPU_DEVICES: Final = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")
_LEFT_OPEN: Final = {
    "socket:": "a socket",
    "pipe:": "a pipe",
    "anon_inode:[eventpoll]": "an event loop (epoll)",
    "anon_inode:[eventfd]": "an eventfd",
    "anon_inode:[io_uring]": "an event loop (io_uring)",
}

# Threads that their libraries do without in a child, as many of each as its import alone starts. Python's runtime and the C
# library are below every thread, so that they tell nothing of whose it is.
HARMLESS: Final = {"openblas": 1_000, "onnxruntime": 1, "jemalloc": 1}
_EVERYWHERE: Final = re.compile(
    r"^(libc|libpthread|ld-linux.*|libstdc\+\+|libgcc_s|libpython[\d.]+|python[\d.]*|libm|libdl|librt)[.-]?(so)?[\d.]*$"
)
_STACK_LIMIT: Final = 256 * 1024
_LOOKS: Final = 50
_LOOK_EVERY_S: Final = 0.004


def open_files() -> dict[int, str]:
    """Every descriptor of this process and what it stands for."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own
    return found


def findings(before: dict[int, str]) -> list[str]:
    """What stands in the way of a fork; `before` are the descriptors that were open before anything of the author was imported."""
    return [*_gpu(), *_python_threads(), *_files(before), *_children()]


def _gpu() -> Iterator[str]:
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_initialized():
        yield "CUDA is initialised (torch.cuda.is_initialized() is true), and a CUDA context does not survive a fork: move to the GPU in setup()"
        return
    devices = {target for target in open_files().values() if target.startswith(_GPU_DEVICES)}
    if devices:
        yield f"a GPU is in use ({', '.join(sorted(devices))} is open), and its context does not survive a fork: move to the GPU in setup()"


def _python_threads() -> Iterator[str]:
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  also those that `_thread` started and `threading` does not know
        if ident != own:
            # Its first frame outside of `threading` is what the author wrote, or called.
            stack = [entry for entry in traceback.extract_stack(frame) if os.path.basename(entry.filename) != "threading.py"]
            where = f", in {stack[0].name}() of {stack[0].filename}:{stack[0].lineno}" if stack else ""
            yield f"the thread {names.get(ident, 'without a name')!r} is running{where}; a fork leaves threads behind: start it in setup()"


def _files(before: dict[int, str]) -> Iterator[str]:
    left = Counter(
        what
        for fd, target in open_files().items()
        if before.get(fd) != target
        for prefix, what in _LEFT_OPEN.items()
        if target.startswith(prefix)
    )
    for what, times in left.items():
        shown = what if times == 1 else f"{what}, {times} times,"
        yield f"{shown} was left open, and all runners would share it: close it, or open it in setup()"


def _children() -> Iterator[str]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            pids = file.read().split()
    except OSError:
        return  # a kernel that does not tell
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline") as command:
                shown = command.read().replace("\0", " ").strip()
        except OSError:
            continue
        yield f"a process was left running ({shown[:80] or pid}), and it belongs to nobody's runner: start it in setup()"


# Threads of libraries. Python has no word for them: whose one is, its stack tells.


def native_threads() -> list[str]:
    """Threads of libraries that a child would miss. To be asked after a fork: some libraries take theirs down before one."""
    # The main thread's number by itself: after a fork, Python still has the one of the thread that forked.
    python = {os.getpid(), *(thread.native_id for thread in threading.enumerate())}
    owners = Counter(_owner(int(tid)) for tid in os.listdir("/proc/self/task") if int(tid) not in python)
    found: list[str] = []
    for owner, count in owners.items():
        allowed = max((number for name, number in HARMLESS.items() if name in owner), default=0)
        if count > allowed:
            found.append(
                f"{count} thread{'s' if count > 1 else ''} of {owner or 'a library'} {'are' if count > 1 else 'is'} running; a fork leaves threads "
                "behind, and what needs them would wait for ever: make it in setup()"
            )
    return found


def _owner(tid: int) -> str:
    """The library whose code runs in this thread: the lowest on its stack that is not found on every stack. "" if it cannot be told."""
    try:
        pointer = int(_syscall(tid)[-2], 16)
        regions = _regions()
        end = next(stop for start, stop, _, _ in regions if start <= pointer < stop)
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(pointer)
            stack = memory.read(min(end - pointer, _STACK_LIMIT))
    except (OSError, ValueError, IndexError, StopIteration):
        return ""
    code = [(start, stop, os.path.basename(path)) for start, stop, executable, path in regions if executable and path.startswith("/")]
    code = [entry for entry in code if not _EVERYWHERE.match(entry[2])]
    owner = ""
    for (word,) in struct.iter_unpack("=Q", stack[: len(stack) // 8 * 8]):
        for start, stop, name in code:
            if start <= word < stop:
                owner = name
    return owner


def _syscall(tid: int) -> list[str]:
    """What the kernel says of a thread that waits. Of one that computes it says nothing: that one is asked again for a moment."""
    for _ in range(_LOOKS):
        with open(f"/proc/self/task/{tid}/syscall") as file:
            words = file.read().split()
        if len(words) > 1:
            return words
        time.sleep(_LOOK_EVERY_S)
    return []


def _regions() -> list[tuple[int, int, bool, str]]:
    """(start, end, executable, file) of everything that is mapped."""
    found: list[tuple[int, int, bool, str]] = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, mode, _, _, _, *path = line.rstrip("\n").split(None, 5)
            start, _, stop = span.partition("-")
            found.append((int(start, 16), int(stop, 16), "x" in mode, path[0] if path else ""))
    return found
