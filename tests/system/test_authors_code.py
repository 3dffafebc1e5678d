"""The author's code on the runner behaves as it did on the author's machine (spec: app-lifecycle.md §1)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import APPS
from tests.system.roosts import Roost

STUDIO = APPS / "studio" / "painter.py"
GALLERY = APPS / "gallery" / "main.py"


@pytest.fixture(scope="module")
def painter(roost: Roost) -> Roost:
    """The server with `painter` deployed by somebody who has a variable that the server and its runners lack."""
    assert "PAINTER_AUTHOR" not in os.environ
    roost.cli("deploy", str(STUDIO), PAINTER_AUTHOR="Ada")
    return roost


@pytest.fixture(scope="module")
def facts(painter: Roost) -> dict[str, Any]:
    return painter.call("painter/facts").raise_for_status().json()


def test_a_constant_keeps_the_value_that_it_had_on_the_authors_machine(facts: dict[str, Any]) -> None:
    assert (facts["author"], facts["variable"]) == ("Ada", None)


def test_a_helper_imports_on_the_runner_what_the_author_does_not_have(facts: dict[str, Any]) -> None:
    here = subprocess.run([sys.executable, "-c", "import six"], capture_output=True, check=False)
    assert here.returncode != 0, "six is installed here: this proves nothing"
    assert (facts["six"], facts["iniconfig"]) == ("1.16.0", "iniconfig")


def test_files_and_modules_shipped_as_files_are_where_the_app_runs(facts: dict[str, Any]) -> None:
    assert (facts["palette"], facts["mixed"]) == ("red blue", "red-blue")


def test_a_helpers_state_lives_as_long_as_its_runner(painter: Roost, facts: dict[str, Any]) -> None:
    assert painter.call("painter/facts").json()["count"] == facts["count"] + 1


def test_models_enums_dataclasses_and_closures_work(painter: Roost) -> None:
    answer = painter.call("painter", {"tone": "cold", "points": [1, 2]})
    assert answer.json() == {"tone": "cold", "width": 6, "length": 2}
    refused = painter.call("painter", {"points": [1, 2, 3, 4]})
    assert refused.status_code == 422 and "too many points" in refused.text


@pytest.mark.parametrize("body", [{"any": ["thing"]}, [1, 2], "text", 3])
def test_a_parameter_without_annotation_takes_the_json_body(painter: Roost, body: Any) -> None:
    assert painter.call("painter/any", body).json() == {"got": body}


def test_the_runner_knows_itself_and_the_request(painter: Roost, facts: dict[str, Any]) -> None:
    assert facts["runner"] and facts["app"] == f"{painter.owner}/painter"
    answer = painter.call("painter/who")
    assert answer.json() == {"id": answer.headers["x-fal-request-id"]}


def test_a_package_travels_with_all_its_modules(roost: Roost, tmp_path: Path) -> None:
    # From a copy that is gone when the call comes: nothing may be read from the author's folder.
    copy = shutil.copytree(GALLERY.parent, tmp_path / "gallery")
    roost.cli("deploy", str(copy / "main.py"))
    shutil.rmtree(copy)
    assert roost.call("gallery", {"title": "sunset"}).json() == {"hung": "[sunset]", "late": "[late]"}


def test_the_newcomers_trap_names_both_ways_out(roost: Roost, tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("def help(): return 1\n")
    app = tmp_path / "trapped.py"
    app.write_text(
        "import roost\nimport helpers\nclass Trapped(roost.App):\n    @roost.endpoint('/')\n    def go(self) -> dict:\n        return {'n': helpers.help()}\n"
    )
    said = roost.cli("deploy", str(app), code=1).stderr
    assert 'local_python_modules = ["helpers"]' in said and 'app_files = ["helpers.py"]' in said
    app.write_text(app.read_text().replace("    @roost", "    local_python_modules = ['helpers']\n    @roost"))
    roost.cli("deploy", str(app))
    assert roost.call("trapped").json() == {"n": 1}


def test_an_authors_test_calls_the_class_without_a_server() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(STUDIO.parent)!r})\n"
        "from painter import Painter, Stroke\n"
        "from roost import AppClient\n"
        "with AppClient.local(Painter) as client:\n"
        "    print(client.paint(Stroke(points=[1])).width, client.anything({'a': 1}))\n"
    )
    env = {**os.environ, "PAINTER_AUTHOR": "Ada", "ROOST_HOST": "127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=STUDIO.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6 ") and "'a': 1" in done.stdout
