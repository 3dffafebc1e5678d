"""Environments that hold an official client and nothing of ours, made once and kept in `.compat/` for later runs.

The versions are pinned with all that they need (`python/pinned/`, `js/pinned/`), so that a red build is about us. COMPAT=latest, which
`make compat-latest` sets, takes whatever the registries have now instead, anew each time; `.compat/latest.txt` says what that was.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from roost.builders.base import BuildSettings
from roost.builders.surroundings import uv_environ

KEPT = Path(__file__).parent.parent.parent / ".compat"
LATEST = os.environ.get("COMPAT") == "latest"
LATEST_VERSIONS = KEPT / "latest.txt"


def kept(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The environment of this recipe; `make` fills an empty folder with it. A folder with its name is complete."""
    folder = KEPT / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not folder.exists():
        KEPT.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT, prefix=".making-") as scratch:
            making = Path(scratch, "made")
            making.mkdir()
            make(making)
            # Another test process may have been faster.
            if not folder.exists():
                making.rename(folder)
    return folder


def installed(words: list[str], env: dict[str, str], what: str) -> None:
    """Run a package manager. A registry out of reach fails where CI says that all is there, and skips elsewhere."""
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return
    message = f"{what} could not be installed: {' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def note_latest(line: str) -> None:
    KEPT.mkdir(exist_ok=True)
    with LATEST_VERSIONS.open("a") as file:
        file.write(line + "\n")


def python_with(requirements: str, name: str, *words: str) -> Path:
    """An interpreter of our own version that has these requirements (the text of a requirements file) and nothing else. `words`: for uv."""
    uv = str(Path(sys.executable).parent / "uv")
    env = uv_environ(os.environ, BuildSettings(), Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "uv"), KEPT)

    def make(folder: Path) -> None:
        (folder / "requirements.txt").write_text(requirements)
        python = str(folder / "env" / "bin" / "python")
        installed([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env")], env, name)
        installed([uv, "pip", "install", "--quiet", "--python", python, *words, "-r", str(folder / "requirements.txt")], env, name)

    return kept(name, f"{sys.version}\n{requirements}", make) / "env" / "bin" / "python"


def newest_python(package: str) -> Path:
    """The same with what the index has now."""
    for old in KEPT.glob(f"{package}-latest-*"):
        shutil.rmtree(old)
    python = python_with(package, f"{package}-latest", "--refresh-package", package)
    version = f"import importlib.metadata as m; print(m.version({package!r}))"
    note_latest(f"{package} {subprocess.run([python, '-c', version], capture_output=True, text=True, check=True).stdout.strip()}")
    return python
