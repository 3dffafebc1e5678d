"""The runtime folder: our own code for runners, one folder a version, so that a server upgrade never changes an old revision.

    runtimes/<version>-<8 hex of content>/roost/...  cloudpickle/...  roost-<version>.dist-info/  roost-start.py

The folder is what `sys.path` of a runner begins with; `<environment>/bin/python <folder>/roost-start.py` is how a runner is started.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from roost.builders import folders
from roost.wire.errors import RoostError

# What runs in the author's environment (ARCHITECTURE §2). Nothing of the server is there to be imported by accident.
_PACKAGES: Final = ("wire", "sdk", "toolkit", "client", "runner")
_MAKING: Final = ".making-"

_START: Final = '''\
"""Starts a runner: `python roost-start.py` with a launch ticket on stdin."""

if __name__ == "__main__":
    import os
    import sys

    here = os.path.dirname(os.path.abspath(__file__))
    # First, also where Python was told not to put the script's folder there (-P, -I): a cloudpickle or roost of the
    # environment's own could be another version than the one that pickled the app.
    sys.path[:] = [here, *(entry for entry in sys.path if entry != here)]
    from roost.runner.__main__ import main

    main()
'''


def ensure_runtime(runtimes: Path) -> Path:
    """The runtime folder of this very code, made if it is not there. Reads the packages' files, never imports them."""
    version = importlib.metadata.version("roost")
    files = dict(_files(version))
    place = runtimes / f"{version}-{_hash(files)}"
    if place.is_dir():
        return place
    runtimes.mkdir(parents=True, exist_ok=True, mode=0o700)
    making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=runtimes))
    try:
        for name, content in files.items():
            target = making / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        folders.publish(making, place)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return place


def find_runtime(runtimes: Path, version: str) -> Path:
    """The newest runtime folder of this version of roost. Raises `version_mismatch` if the server has none."""
    named = re.compile(rf"{re.escape(version)}-[0-9a-f]{{8}}")
    there = [folder for folder in runtimes.glob("*") if named.fullmatch(folder.name)]
    if there:
        return max(there, key=lambda folder: folder.stat().st_mtime_ns)
    versions = sorted({folder.name.rpartition("-")[0] for folder in runtimes.glob("[!.]*-*")})
    raise RoostError(
        "version_mismatch",
        f"the app was deployed with roost {version}, and this server has no runtime of that version (it has {', '.join(versions) or 'none'})",
        hint=f"Install roost {importlib.metadata.version('roost')}, the server's version, where you deploy from, and deploy again.",
    )


def sweep_runtimes(runtimes: Path) -> None:
    """Remove what an interrupted `ensure_runtime` left. Call at start."""
    for left in [*runtimes.glob(f"{_MAKING}*"), *runtimes.glob(f"{folders.REMOVING}*")]:
        shutil.rmtree(left, ignore_errors=True)


def _files(version: str) -> Iterator[tuple[str, bytes]]:
    """Every file of the runtime folder by its path below it."""
    roost = _package("roost")
    for file in sorted(roost.glob("*.py")):
        yield f"roost/{file.name}", file.read_bytes()
    for name in _PACKAGES:
        yield from _below(roost / name, f"roost/{name}")
    yield from _below(_package("cloudpickle"), "cloudpickle")
    # So that importlib.metadata answers in a runner what it answers on the author's machine.
    yield f"roost-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: roost\nVersion: {version}\n".encode()
    yield "roost-start.py", _START.encode()


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RoostError(
            "internal_error",
            f"the package {name} is not installed beside the server",
            hint="Install roost again: pip install 'roost[server]'",
        )
    return Path(spec.origin).parent


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
            yield f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes()


def _hash(files: dict[str, bytes]) -> str:
    content = hashlib.sha256()
    for name, data in sorted(files.items()):
        content.update(f"{name}\0{len(data)}\0".encode() + data)
    return content.hexdigest()[:8]
