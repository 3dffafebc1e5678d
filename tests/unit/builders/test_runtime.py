from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roost.builders import runtime
from roost.wire.errors import RoostError


def test_the_folder_holds_what_a_runner_needs_and_nothing_of_the_server(tmp_path: Path) -> None:
    folder = runtime.ensure_runtime(tmp_path / "runtimes")
    packages = {entry.name for entry in (folder / "roost").iterdir() if entry.is_dir()}
    assert packages == {"wire", "sdk", "toolkit", "client", "runner"}
    assert (folder / "cloudpickle" / "__init__.py").exists()
    assert not list(folder.rglob("*.pyc"))


def test_the_same_code_is_the_same_folder_and_is_written_once(tmp_path: Path) -> None:
    folder = runtime.ensure_runtime(tmp_path)
    before = (folder / "roost-start.py").stat().st_ino
    assert runtime.ensure_runtime(tmp_path) == folder
    assert (folder / "roost-start.py").stat().st_ino == before
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


def test_in_a_runner_roost_and_cloudpickle_come_from_the_folder(tmp_path: Path) -> None:
    folder = runtime.ensure_runtime(tmp_path)
    code = "import json, sys, roost, cloudpickle, importlib.metadata as m; print(json.dumps([roost.__file__, cloudpickle.__file__, m.version('roost')]))"
    output = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(folder)}, check=True, capture_output=True, text=True
    ).stdout
    roost, cloudpickle, version = json.loads(output)
    assert Path(roost).is_relative_to(folder) and Path(cloudpickle).is_relative_to(folder)
    assert folder.name.startswith(f"{version}-")


@pytest.mark.parametrize("options", [[], ["-P"], ["-I"]])
def test_the_start_script_puts_the_folder_first(tmp_path: Path, options: list[str]) -> None:
    if options == ["-P"] and sys.version_info < (3, 11):
        options = ["-I"]
    folder = runtime.ensure_runtime(tmp_path)
    # Another runner than ours: it must be found, and it tells where it was looked for.
    (folder / "roost" / "runner" / "__main__.py").write_text("import sys\ndef main(): print(sys.path[0])\n")
    env = {"PYTHONPATH": os.pathsep.join(["/elsewhere", str(folder)])}
    output = subprocess.run(
        [sys.executable, *options, folder / "roost-start.py"], env=env, check=True, capture_output=True, text=True
    ).stdout
    assert output.strip() == str(folder)


def test_making_it_imports_nothing_of_what_is_copied(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from roost.builders.runtime import ensure_runtime; ensure_runtime(Path(sys.argv[1]));"
        "print([name for name in sys.modules if name == 'cloudpickle' or name.startswith(('roost.runner', 'roost.sdk', 'roost.toolkit', 'roost.client'))])"
    )
    output = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[]"


def test_the_newest_folder_of_a_version_is_found(tmp_path: Path) -> None:
    for number, name in enumerate(["0.1.0-aaaaaaaa", "0.1.0-bbbbbbbb", "0.1.0.post1-cccccccc", "0.1.0-toolong123"]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (number, number))
    assert runtime.find_runtime(tmp_path, "0.1.0").name == "0.1.0-bbbbbbbb"


def test_a_version_that_is_not_there_says_which_are_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "0.2.0-aaaaaaaa").mkdir()
    with pytest.raises(RoostError) as failure:
        runtime.find_runtime(tmp_path, "0.1.0")
    assert failure.value.code == "version_mismatch"
    assert "roost 0.1.0" in failure.value.detail and "0.2.0" in failure.value.detail and "deploy again" in failure.value.hint


def test_what_an_interrupted_start_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".making-x").mkdir()
    runtime.sweep_runtimes(tmp_path)
    assert list(tmp_path.iterdir()) == []
