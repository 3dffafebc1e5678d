"""From what an author types to the class."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.control.errors import ControlError
from roost.control.load import LoadError, resolve
from roost.sdk import declared
from tests.unit.control.authors import forgotten_afterwards, write


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with forgotten_afterwards(tmp_path):
        yield tmp_path


def test_a_file_with_one_app_needs_no_class_name(folder: Path):
    write(folder, solo_app="Solo")
    loaded = resolve("solo_app.py", folder)
    assert (loaded.cls.__name__, loaded.module_name, loaded.path, loaded.package_root) == ("Solo", "solo_app", folder / "solo_app.py", None)
    assert sys.modules["solo_app"].Solo is loaded.cls


def test_a_class_is_picked_by_name(folder: Path):
    write(folder, two_apps="import roost\nclass One(roost.App): ...\nclass Two(roost.App): ...\n")
    assert resolve("two_apps.py::Two", folder).cls.__name__ == "Two"


def test_a_parent_that_is_only_imported_is_no_candidate(folder: Path):
    write(folder, parent_app="Parent", child_app="from parent_app import Parent\nclass Child(Parent): ...\n")
    assert resolve("child_app.py", folder).cls.__name__ == "Child"


def test_a_file_in_a_package_has_its_dotted_name(folder: Path):
    write(
        folder,
        pack__sub__main="from pack import SIZE\nfrom . import other\nimport roost\nclass Inside(roost.App): ...\n",
        pack__sub__other="X = 1\n",
    )
    (folder / "pack/__init__.py").write_text("SIZE = 1\n")
    (folder / "pack/sub/__init__.py").write_text("")
    loaded = resolve("pack/sub/main.py::Inside", folder)
    assert (loaded.module_name, loaded.package_root) == ("pack.sub.main", folder)


@pytest.mark.parametrize("stem", ["json", "colorsys", "pydantic", "sniffio_like-app", "class"])
def test_a_file_may_have_a_name_that_is_taken(folder: Path, stem: str):
    (folder / f"{stem}.py").write_text("import json\nimport roost\nTEXT = json.dumps([1])\nclass Taken(roost.App): ...\n")
    before = sys.modules.get(stem)
    loaded = resolve(f"{stem}.py", folder)
    assert loaded.module_name.startswith("roost_app_") and sys.modules[loaded.module_name].TEXT == "[1]"
    assert sys.modules.get(stem) is before


def test_a_file_named_like_a_package_of_the_runner_leaves_that_name_free(folder: Path):
    write(folder, remote_lib="import roost\nclass Lib(roost.App):\n    def setup(self):\n        import remote_lib.models\n")
    assert resolve("remote_lib.py", folder).module_name == "roost_app_remote_lib"


def test_two_files_of_one_name_do_not_meet(folder: Path):
    write(folder, a__same="First", b__same="Second")
    assert resolve("a/same.py", folder).cls.__name__ == "First"
    assert resolve("b/same.py", folder).cls.__name__ == "Second"


def test_the_guarded_block_does_not_run(folder: Path):
    write(folder, guarded="import roost\nclass Guarded(roost.App): ...\nif __name__ == '__main__':\n    raise SystemExit(3)\n")
    resolve("guarded.py", folder)


def test_without_a_reference_the_only_file_with_an_app_is_meant(folder: Path):
    write(folder, the_app="TheApp", helpers="X = 1\n", broken="def (:\n")
    assert resolve(None, folder).cls.__name__ == "TheApp"


ONE_APP = '[tool.roost.apps.mine]\nref = "src/mine.py::Mine"\nname = "my-app"\nauth = "public"\nkeep_alive = 7\nrequirements = ["numpy"]\n'


def test_pyproject_names_apps_and_their_settings(folder: Path):
    (folder / "pyproject.toml").write_text(ONE_APP)
    write(folder, src__mine="import roost\nclass Mine(roost.App):\n    requirements = ['pillow']\n")
    (folder / "src/deeper").mkdir()
    for reference in ("mine", None):
        loaded = resolve(reference, folder / "src/deeper")
        assert (loaded.cls.__name__, loaded.name, loaded.auth) == ("Mine", "my-app", "public")
        assert declared.value(loaded.cls, "keep_alive") == 7
        assert declared.value(loaded.cls, "requirements") == ["pillow"]  # the class's own word wins


def test_pyproject_of_the_public_platform_is_read_too(folder: Path):
    (folder / "pyproject.toml").write_text(ONE_APP.replace("tool.roost", "tool.fal"))
    write(folder, src__mine="Mine")
    assert resolve("mine", folder).name == "my-app"


@pytest.mark.parametrize(
    ("reference", "files", "detail", "hint"),
    [
        ("none.py", {"nine": "Nine"}, "There is no file", "Did you mean"),
        ("plain.py", {"plain": "X = 1\n"}, "plain.py has no App", "class MyApp(roost.App)"),
        ("two.py", {"two": "import roost\nclass A(roost.App): ...\nclass B(roost.App): ...\n"}, "several apps: A, B", "two.py::A"),
        ("one.py::Mode", {"one": "Model"}, "no class Mode", "one.py::Model"),
        ("one.py::roost", {"one": "Model"}, "not a subclass of roost.App", "Its apps: Model"),
        (None, {"x1": "X", "x2": "Y"}, "Several files here may have an App: x1.py, x2.py", "Say which one"),
        (None, {"x1": "X = 1\n"}, "no file with an App", "Give one"),
        ("nothing", {}, "no file or pyproject.toml app called 'nothing'", "Give a file"),
        ("sub/", {"sub__a": "A"}, "is a folder", "Give the file"),
    ],
)
def test_what_cannot_be_found_is_said_with_the_next_step(
    folder: Path, reference: str | None, files: dict[str, str], detail: str, hint: str
):
    write(folder, **files)
    with pytest.raises(LoadError) as refused:
        resolve(reference, folder)
    assert detail in refused.value.detail and hint in refused.value.hint


@pytest.mark.parametrize(
    ("toml", "detail", "hint"),
    [
        ('ref = "a.py"\nkeep_alife = 3', "unknown key 'keep_alife'", "Did you mean 'keep_alive'?"),
        ("keep_alive = 3", "does not say which class", "Add ref ="),
        ('ref = "a.py"\nauth = "everybody"', "auth must be one of private, public, shared", ""),
        ('ref = "a.py"\nkeep_alive = "long"', "keep_alive", ""),
        ("ref = ", "not valid TOML", ""),
    ],
)
def test_a_mistake_in_pyproject_is_said(folder: Path, toml: str, detail: str, hint: str):
    write(folder, a="Mine")
    (folder / "pyproject.toml").write_text(f"[tool.roost.apps.mine]\n{toml}\n")
    with pytest.raises(ControlError) as refused:
        resolve("mine", folder)
    assert detail in refused.value.detail and hint in refused.value.hint


def test_a_key_that_is_almost_right_is_suggested(folder: Path):
    (folder / "pyproject.toml").write_text(ONE_APP)
    with pytest.raises(LoadError) as refused:
        resolve("mime", folder)
    assert refused.value.hint == "Did you mean 'mine'?"


def test_an_exception_in_the_authors_file_shows_their_frames_only(folder: Path):
    write(folder, bad="def fail():\n    return 1 / 0\n\nfail()\n")
    with pytest.raises(LoadError) as refused:
        resolve("bad.py", folder)
    assert refused.value.detail == "bad.py cannot be imported: ZeroDivisionError: division by zero"
    assert "in fail" in refused.value.traceback and "importlib" not in refused.value.traceback and "load.py" not in refused.value.traceback
    assert "bad" not in sys.modules


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ("    def __init__(self): ...\n", 2, "an App has no __init__ of its own"),
        ("    keep_alife = 3\n", 2, "Did you mean 'keep_alive'?"),
        ('    @roost.endpoint("no-slash")\n    def go(self): ...\n', 3, "no-slash"),
    ],
)
def test_a_declaration_that_roost_refuses_is_said_with_its_line_and_without_our_frames(folder: Path, body: str, line: int, words: str):
    write(folder, wrong=f"import roost\nclass A(roost.App):\n{body}")
    with pytest.raises(LoadError) as refused:
        resolve("wrong.py", folder)
    assert refused.value.detail.startswith(f"wrong.py, line {line}: ") and words in refused.value.detail
    assert refused.value.traceback == ""


def test_a_missing_package_at_the_top_of_the_file_is_explained(folder: Path):
    write(folder, needs="import a_package_of_the_runner\n")
    with pytest.raises(LoadError) as refused:
        resolve("needs.py", folder)
    assert "import it inside the method" in refused.value.hint and "requirements" in refused.value.hint


def test_a_syntax_error_shows_the_line(folder: Path):
    write(folder, odd="x = (\n")
    with pytest.raises(LoadError) as refused:
        resolve("odd.py", folder)
    assert "SyntaxError" in refused.value.detail and "odd.py" in refused.value.traceback


def test_an_exit_at_the_top_of_the_file_does_not_end_us(folder: Path):
    write(folder, leaves="import sys\nsys.exit(4)\n")
    with pytest.raises(LoadError, match="SystemExit: 4"):
        resolve("leaves.py", folder)
