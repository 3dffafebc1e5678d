"""What people install is what is here."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.arch.sources import PACKAGE, ROOT


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("roost/")}
    files = {f"roost/{file.relative_to(PACKAGE)}" for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert shipped == files


def test_the_lock_file_names_one_index():
    registries = set(re.findall(r'registry = "([^"]+)"', (ROOT / "uv.lock").read_text()))
    assert len(registries) == 1, "run `uv lock` without an index of your own"
