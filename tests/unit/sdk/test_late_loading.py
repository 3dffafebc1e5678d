"""`import roost` costs next to nothing, and an app can be defined without FastAPI or pydantic."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import roost

ROOT = Path(__file__).parents[3]


def _loaded_by(code: str) -> set[str]:
    program = (
        f"import sys\nbefore = set(sys.modules)\n{code}\nloaded = set(sys.modules) - before\nimport json\nprint(json.dumps(sorted(loaded)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(answer.stdout))


def test_import_roost_loads_nothing_else():
    assert _loaded_by("import roost") <= {"roost", "__future__"}


def test_defining_an_app_loads_neither_fastapi_nor_pydantic_nor_the_author_side_tools():
    code = """
import roost
class MyApp(roost.App, keep_alive=300):
    @roost.endpoint("/")
    def run(self, data): return data
"""
    heavy = {"fastapi", "pydantic", "starlette", "httpx", "uvicorn", "rich", "typer", "cloudpickle"}
    assert not heavy & _loaded_by(code)


def test_building_the_asgi_application_needs_nothing_that_a_runner_lacks():
    code = """
import roost
from roost.sdk.app import create
from roost.sdk.asgi import build_asgi
from roost.sdk.lifecycle import run_handle_exit, run_setup, run_teardown
class MyApp(roost.App):
    @roost.endpoint("/")
    def run(self, data): return data
build_asgi(create(MyApp))
"""
    assert not {"httpx", "uvicorn", "rich", "typer", "cloudpickle"} & _loaded_by(code)


@pytest.mark.parametrize("name", roost.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(roost, name) is not None
    assert name in dir(roost)


def test_exceptions_can_be_imported_from_the_module_that_ported_apps_name():
    from roost.exceptions import FieldException

    assert FieldException is roost.FieldException is roost.exceptions.FieldException


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Aap'"):
        roost.Aap  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_the_version_is_that_of_the_distribution():
    assert f'version = "{roost.__version__}"' in (ROOT / "pyproject.toml").read_text()
