"""What travels with a class, by asking a process where none of the author's files exist."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from roost.control.load import load
from roost.control.neighbours import Neighbours
from roost.control.pickling import PickleError, dumps
from roost.sdk.openapi import build_openapi
from tests.unit.control.elsewhere import Elsewhere, Failed

MAIN_SCRIPT = """
from __future__ import annotations
import dataclasses, sys, typing
import roost

SIZE = "from the script"

@dataclasses.dataclass
class Item: ...

def take(item: Item): ...

class Script(roost.App):
    @roost.endpoint("/")
    def root(self):
        return [SIZE, typing.get_type_hints(take)["item"].__name__]

if __name__ == "__main__":
    from roost.control.pickling import dumps
    sys.stdout.buffer.write(dumps(Script))
"""
PACKED = Path(__file__).parents[2] / "apps" / "packed"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    machine = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    yield machine
    machine.close()


@pytest.fixture(autouse=True)
def modules_of_one_test() -> Iterator[None]:
    modules, path = dict(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name not in modules]:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(PACKED)):
            del sys.modules[name]


def app(file: str, name: str | None = None) -> type:
    return load(PACKED / file, name).cls


# what arrives


def test_ordinary_code_works_elsewhere_as_it_does_here(elsewhere: Elsewhere):
    pickled = dumps(app("everyday.py"))
    assert elsewhere.ask(pickled, "app.root()") == {
        "greeting": "none",
        "table": [4, 5],
        "made": sys.modules["everyday"].MADE_HERE,
        "hello": ["none you"] * 2,
        "shared": ["none me"] * 2,
        "step": [11, 16],
        "squared": [9, 7, 2],
        "color": ["RED", True, True, 3],
        "animals": {"name": "Rex", "legs": 4, "tags": [], "breed": "pug"},
        "point": [0, "q", True, True],
        "required": ["x"],
        "stack": "x",
        "pair": {"left": 1, "right": 2},
        "options": {"size": 3},
        "user": 7,
        "derived": "derived of base",
        "even": True,
        "started": "changed",
        "event": False,
        "request": "nobody",
        "describe": ["number", "thing"],
        "seen": 0,
        "hints": ["legs", "name", "tags"],
        "local": False,
    }


def test_constants_keep_the_value_of_this_machines_environment(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GREETING_OF_THIS_MACHINE", "from here")
    pickled = dumps(app("everyday.py"))
    assert elsewhere.ask(pickled, "app.root()['greeting']") == "from here"


def test_pydantic_models_validate_and_describe_themselves_elsewhere_as_here(elsewhere: Elsewhere):
    cls: Any = app("models.py")
    here = json.loads(json.dumps(cls.__new__(cls).check()))
    assert here["errors"] == ["value_error", "value_error", "extra_forbidden", "value_error", "string_pattern_mismatch"]
    assert here["same_generic"] is True
    assert elsewhere.ask(dumps(cls), "app.check()") == here


def test_the_api_is_described_elsewhere_as_here(elsewhere: Elsewhere):
    cls = app("models.py")
    document = build_openapi(cls)
    assert elsewhere.ask(dumps(cls), "__import__('roost.sdk.openapi').sdk.openapi.build_openapi(cls)") == json.loads(json.dumps(document))


def test_a_script_that_runs_as_main_can_be_pickled(elsewhere: Elsewhere, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(MAIN_SCRIPT)
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, check=True)
    assert elsewhere.ask(ran.stdout, "app.root()") == ["from the script", "Item"]


def test_rarer_things_work_elsewhere_as_they_do_here(elsewhere: Elsewhere):
    cls: Any = app("unusual.py")
    build_openapi(cls)  # as before each deploy: it also evaluates the endpoints' annotations
    assert elsewhere.ask(dumps(cls), "app.check()") == cls.__new__(cls).check()


def test_textual_annotations_find_their_names_elsewhere(elsewhere: Elsewhere):
    assert elsewhere.ask(dumps(app("future.py")), "app.root()") == {
        "hints": ["leaf: Leaf", "price: Decimal", "return: Tree"],
        "tree": "Leaf",
    }


def test_a_package_travels_whole_also_the_modules_that_are_imported_late(elsewhere: Elsewhere):
    assert elsewhere.ask(dumps(app("studio/main.py")), "app.root()") == {
        "paint": "~~~",
        "size": 3,
        "title": "studio 3",
        "late": ["late", 2],
        "strokes": 2,
        "relative": 2,
    }


def test_an_import_inside_a_function_happens_where_the_function_runs(elsewhere: Elsewhere, tmp_path: Path):
    (tmp_path / "a_package_of_the_runner.py").write_text("VERSION = 'remote'\n\ndef add(values):\n    return sum(values)\n")
    pickled = dumps(app("remote.py"))
    assert elsewhere.ask(pickled, "app.root()", path=(str(tmp_path),)) == {"sum": 3, "version": "remote"}


def test_top_level_names_of_the_module_are_found_under_its_name(elsewhere: Elsewhere):
    pickled = dumps(app("everyday.py"))
    assert (
        elsewhere.ask(pickled, "__import__('pickle').loads(__import__('pickle').dumps(sys.modules['everyday'].hello))('x')")
        == ["none x"] * 2
    )


def test_tracebacks_and_getsource_show_the_authors_lines_elsewhere(elsewhere: Elsewhere):
    pickled = dumps(app("remote.py"))
    with pytest.raises(Failed) as failed:
        elsewhere.ask(pickled, "app.root()")
    assert failed.value.raised == "ModuleNotFoundError"
    assert "from a_package_of_the_runner import VERSION" in failed.value.trace
    assert "summed([1, 2])" in elsewhere.ask(pickled, "__import__('inspect').getsource(cls.root)")


def test_nothing_stays_registered_after_pickling():
    before = cloudpickle.list_registry_pickle_by_value()
    dumps(app("everyday.py"))
    with pytest.raises(PickleError):
        dumps(app("trap_late.py"))
    assert cloudpickle.list_registry_pickle_by_value() == before


# the trap: own modules that nobody ships


@pytest.mark.parametrize("file", ["trap_module.py", "trap_function.py", "trap_late.py"])
def test_a_module_beside_the_app_that_nobody_ships_is_an_error_with_both_ways_out(file: str):
    with pytest.raises(PickleError) as refused:
        dumps(app(file))
    assert "neighbour.py" in refused.value.detail
    assert 'local_python_modules = ["neighbour"]' in refused.value.hint
    assert 'app_files = ["neighbour.py"]' in refused.value.hint


def test_a_package_beside_the_app_is_advised_whole():
    with pytest.raises(PickleError) as refused:
        dumps(app("trap_package.py"))
    assert 'local_python_modules = ["toolbox"]' in refused.value.hint and 'app_files = ["toolbox"]' in refused.value.hint


@pytest.mark.parametrize("file", ["trap_module.py", "trap_function.py", "trap_late.py"])
def test_local_python_modules_travel(elsewhere: Elsewhere, file: str):
    assert elsewhere.ask(dumps(app(file), ["neighbour"]), "app.root()") == "neighbour"


def test_packages_in_local_python_modules_travel_with_their_sub_modules(elsewhere: Elsewhere):
    assert elsewhere.ask(dumps(app("trap_package.py"), ["toolbox"]), "app.root()") == 42


@pytest.mark.parametrize("file", ["trap_module.py", "trap_function.py", "trap_late.py"])
def test_a_module_that_app_files_ship_is_found_there(elsewhere: Elsewhere, file: str, tmp_path: Path):
    around = Neighbours.of(PACKED / file, shipped=[PACKED / "neighbour.py"])
    pickled = dumps(app(file), neighbours=around)
    (tmp_path / "neighbour.py").write_text("def help_me():\n    return 'the file'\n")
    assert elsewhere.ask(pickled, "app.root()", path=(str(tmp_path),)) == "the file"


def test_a_name_that_requirements_bring_is_not_taken_for_the_file_beside_the_app():
    around = Neighbours.of(PACKED / "trap_late.py", requirements=["Neighbour[extra]>=2"])
    dumps(app("trap_late.py"), neighbours=around)


@pytest.mark.parametrize("wrong", ["neighbour", [1], ["neighbour", None]])
def test_local_python_modules_are_names(wrong: list[str]):
    with pytest.raises(ValueError, match="list of names of modules"):
        dumps(app("everyday.py"), wrong)


def test_a_local_python_module_that_does_not_load_here_is_an_error():
    with pytest.raises(PickleError, match="'no_such_module' in local_python_modules cannot be imported here"):
        dumps(app("everyday.py"), ["no_such_module"])


# what cannot travel


@pytest.mark.parametrize(
    ("name", "where", "what"),
    [
        ("File", "The global `LOG` that `write` uses", "an open file"),
        ("Socket", "The global `SOCKET` that `Socket.root` uses", "a socket"),
        ("Generator", "Item 0 of the entry 'of' of the attribute `Generator.lines`", "a generator"),
        ("Database", "`connection` of the global `HOLDER` that `Database.root` uses", "a database connection"),
        ("Pointer", "The default of the parameter `at` of `Pointer.root`", "unsendable.LP_c_int"),
        ("Closure", "The variable `over` that `closing.<locals>.inner` closes over", "a socket"),
    ],
)
def test_what_cannot_travel_is_named_with_the_way_out(name: str, where: str, what: str):
    cls = app("unsendable.py", name)
    try:
        with pytest.raises(PickleError) as refused:
            dumps(cls)
    finally:
        importlib.import_module(cls.__module__).close_all()
    assert refused.value.detail.startswith(where) and what in refused.value.detail
    assert "setup()" in refused.value.hint
