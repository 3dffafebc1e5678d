"""Who may import what. The directions themselves are in .importlinter; here is what a direction cannot say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.sources import AUTHOR_SIDE, ROOT, imports, imports_of, server_side

UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
SERVER_EXTRA = {"apsw", "httptools", "uv", "uvloop"}
RUNNER_HAS = {"anyio", "cloudpickle", "fastapi", "pydantic", "pydantic_core", "roost", "starlette"}
APP_STACK = {"apsw", "fastapi", "httpx", "pydantic", "rich", "starlette", "typer", "uvicorn", "uvloop"}


def test_packages_import_in_the_documented_directions():
    checked = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("package", server_side())
def test_the_server_never_unpickles(package: str):
    assert [str(found) for found in imports(package) if found.top in UNPICKLERS] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import os, pickle as p",
        "from cloudpickle import loads",
        "def late():\n    from pickle import loads",
        "importlib.import_module('pickle')",
        "__import__('marshal')",
    ],
)
def test_an_unpickler_is_found_however_it_is_imported(text: str):
    assert any(found.top in UNPICKLERS for found in imports_of(ROOT / "made_up.py", text))


def test_wire_needs_the_standard_library_only():
    assert [str(found) for found in imports("wire") if not found.is_standard_library and not found.module.startswith("roost.wire")] == []


def test_the_runner_needs_only_what_every_environment_has():
    assert [str(found) for found in imports("runner") if not found.is_standard_library and found.top not in RUNNER_HAS] == []


@pytest.mark.parametrize("package", [*AUTHOR_SIDE, "cli", "wire"])
def test_the_authors_side_works_without_the_server_extra(package: str):
    assert [str(found) for found in imports(package) if found.top in SERVER_EXTRA] == []


def test_the_supervisor_loads_no_app_stack():
    script = """
import importlib, pkgutil, sys
import roost.supervisor
for module in pkgutil.iter_modules(roost.supervisor.__path__, "roost.supervisor."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sorted(name for name in sys.modules if "." not in name))
"""
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert APP_STACK.intersection(loaded) == set()
