"""What can be said about the example apps without the packages that they require."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import roost
from roost.control import bundle
from roost.control.examples import FOLDER, Example, packaged_examples
from roost.control.load import LoadedApp, resolve
from roost.sdk.spec import build_spec
from tests.arch.sources import ROOT, imports_of
from tests.unit.control.authors import forgotten_afterwards

EXAMPLES = {example.name: example for example in packaged_examples()}
APPS = sorted(FOLDER.glob("*.py"))
WEIGHTS = {"ocr": "rapidocr", "identify": "magika"}
"""The package that carries each app's model."""
SIGN_LIMIT = 60_000


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    with forgotten_afterwards(FOLDER):
        yield


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Example:
    return EXAMPLES[request.param]


def load(example: Example) -> LoadedApp:
    return resolve(example.reference, Path("/"))


def test_the_index_names_every_app_once():
    rows = json.loads((FOLDER / "index.json").read_text())
    assert sorted(row["app"].partition("::")[0] for row in rows) == [app.name for app in APPS]
    assert len(EXAMPLES) == len(rows)


def test_every_file_beside_the_apps_is_sent_to_one_of_them():
    index = (FOLDER / "index.json").read_text()
    files = [file.name for file in FOLDER.iterdir() if file.is_file() and file.name != "index.json"]
    assert [name for name in files if f'"{name}' not in index] == []
    assert (FOLDER / "sign.png").stat().st_size <= SIGN_LIMIT


def test_an_example_is_loaded_like_any_file_of_an_author(example: Example):
    loaded = load(example)
    assert loaded.package_root is None
    assert loaded.module_name == example.name


def test_an_example_takes_its_input_at_its_endpoint(example: Example):
    loaded = load(example)
    assert example.endpoint in [endpoint.path for endpoint in build_spec(loaded.cls).endpoints]
    sys.modules[loaded.module_name].Input.model_validate(example.input, strict=True)
    assert example.title and example.expect


def test_an_example_travels_without_its_packages_being_here(example: Example):
    made = bundle.build(load(example))
    assert made.manifest.spec.name == example.name
    assert made.manifest.openapi["paths"][example.endpoint]["post"]


@pytest.mark.parametrize(("name", "package"), WEIGHTS.items())
def test_the_package_with_the_weights_is_pinned(name: str, package: str):
    (layer,) = build_spec(load(EXAMPLES[name]).cls).requirements
    assert [line for line in layer if re.fullmatch(rf"{package}==[\d.]+", line)]


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.stem)
def test_an_example_imports_what_every_author_has_and_the_rest_in_its_methods(app: Path):
    at_import = [node for node in ast.parse(app.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = [each for node in at_import for each in imports_of(app, ast.unparse(node))]
    assert [str(each) for each in found if not each.is_standard_library and each.module not in ("roost", "pydantic")] == []
    assert [str(each) for each in imports_of(app, app.read_text()) if each.module.startswith("roost.")] == []


def test_hello_is_the_app_of_the_readme():
    readme, *_ = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    hello = ast.parse((FOLDER / "hello.py").read_text())
    assert ast.get_docstring(hello)
    assert [ast.dump(node) for node in hello.body[1:]] == [ast.dump(node) for node in ast.parse(readme).body]


def test_hello_gives_the_expected_answer():
    example = EXAMPLES["hello"]
    with roost.AppClient.local(load(example).cls) as client:
        assert example.is_right(client.greet(example.input).model_dump_json())


@pytest.mark.parametrize("text", ["AGVnZ3P/", "data:;base64,AGVnZ3P/", "data:image/png;name=eggs.png;base64,AGVnZ3P/"])
def test_identify_takes_plain_base64_and_data_uris(text: str):
    load(EXAMPLES["identify"])
    assert sys.modules["identify"].content(text) == b"\x00eggs\xff"


@pytest.mark.parametrize("text", ["plain words", "https://example.com/eggs.png", "data:text/plain,eggs", "AGVnZ3P", "äää"])
def test_identify_says_which_field_is_no_file(text: str):
    load(EXAMPLES["identify"])
    with pytest.raises(roost.FieldException) as refused:
        sys.modules["identify"].content(text)
    assert refused.value.field == "file" and refused.value.status_code == 422
    assert "base64" in refused.value.message
