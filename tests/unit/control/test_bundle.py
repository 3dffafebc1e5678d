"""From a loaded class to manifest and pieces."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import roost
from roost.control.bundle import BundleError, build
from roost.control.load import resolve
from roost.control.pickling import PickleError
from roost.wire.manifest import Manifest
from tests.unit.control.authors import forgotten_afterwards, write

APP = """
import roost
{top}

class Bundled(roost.App):
    {options}

    @roost.endpoint("/")
    def root(self) -> str:
        {body}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with forgotten_afterwards(tmp_path):
        yield tmp_path


def app(folder: Path, *, top: str = "", options: str = "keep_alive = 3", body: str = "return 'x'", name: str = "bundled_app") -> str:
    path = folder / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(APP.format(top=top, options=options, body=body))
    return f"{name}.py"


def test_a_bundle_holds_every_piece_that_its_manifest_names(folder: Path):
    write(folder, helpers="def help_me():\n    return 1\n")
    (folder / "data").mkdir()
    (folder / "data/words.txt").write_text("words")
    reference = app(folder, top="from helpers import help_me", options='app_files = ["helpers.py", "data"]', body="return help_me()")
    bundle = build(resolve(reference, folder))
    manifest = bundle.manifest
    assert set(bundle.blobs) == set(manifest.blobs())
    assert [file.path for file in manifest.files] == ["data/words.txt", "helpers.py"]
    for name, blob in bundle.blobs.items():
        assert hashlib.sha256(blob if isinstance(blob, bytes) else blob.read_bytes()).hexdigest() == name
    assert (manifest.spec.name, manifest.spec.keep_alive_ms, manifest.runtime_version) == ("bundled", 60_000, roost.__version__)
    assert "/" in manifest.openapi["paths"]
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_files_may_come_from_above_the_app(folder: Path):
    (folder / "shared.txt").write_text("s")
    reference = app(folder, name="service/bundled_app", options='app_files = ["shared.txt"]\n    app_files_context_dir = ".."')
    manifest = build(resolve(reference, folder)).manifest
    assert ([file.path for file in manifest.files], manifest.working_dir) == (["shared.txt"], "service")


def test_paths_in_pyproject_are_relative_to_it(folder: Path):
    (folder / "shared.txt").write_text("s")
    app(folder, name="service/bundled_app")
    (folder / "pyproject.toml").write_text('[tool.roost.apps.mine]\nref = "service/bundled_app.py"\napp_files = ["shared.txt"]\n')
    manifest = build(resolve("mine", folder)).manifest
    assert ([file.path for file in manifest.files], manifest.working_dir) == (["shared.txt"], "service")


def test_a_module_shipped_where_the_runner_would_not_look_is_still_missing(folder: Path):
    write(folder, lib__helpers="def help_me():\n    return 1\n")
    top = f"import sys; sys.path.append({str(folder / 'lib')!r})\nfrom helpers import help_me"
    reference = app(folder, top=top, options='app_files = ["lib"]', body="return help_me()")
    with pytest.raises(PickleError) as refused:
        build(resolve(reference, folder))
    assert refused.value.hint == 'Ship it with the class: local_python_modules = ["helpers"].'


def test_another_python_is_said_before_anything_else(folder: Path):
    reference = app(folder, options='python_version = "3.99"\n    app_files = ["nothing"]\n    stream = open(__file__)')
    loaded = resolve(reference, folder)
    local = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        with pytest.raises(BundleError, match=f"Local Python {local} differs from the app's python_version=3.99"):
            build(loaded)
    finally:
        vars(loaded.cls)["stream"].close()


def test_a_class_without_an_openapi_document_is_not_bundled(folder: Path):
    reference = app(folder, top="class Odd: ...", body="return 'x'\n    @roost.endpoint('/odd')\n    def odd(self, value: Odd) -> str: ...")
    with pytest.raises(BundleError, match="Failed to generate OpenAPI"):
        build(resolve(reference, folder))


def test_a_context_folder_that_is_not_there_is_said(folder: Path):
    reference = app(folder, options='app_files = ["x"]\n    app_files_context_dir = "nowhere"')
    with pytest.raises(BundleError, match="app_files_context_dir 'nowhere' is not a folder"):
        build(resolve(reference, folder))
