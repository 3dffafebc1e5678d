"""Loading a class in a runner: what the author can mend is said in a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.control.load import load
from roost.control.pickling import dumps
from roost.runner.unpickle import LoadError, load_class
from roost.wire.pickled import pack, unpack
from tests.unit.control.elsewhere import Elsewhere, Failed

PACKED = Path(__file__).parents[2] / "apps" / "packed"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    machine = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def pickled() -> bytes:
    return dumps(load(PACKED / "remote.py").cls)


def test_a_module_that_is_missing_on_the_runner_is_named_with_three_ways_out(
    elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "installed_here.py").write_text("def f():\n    return 1\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/needs_it.py").write_text(
        "import installed_here\nimport roost\n\nclass Needs(roost.App):\n    @roost.endpoint('/')\n    def root(self) -> int:\n        return installed_here.f()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)  # neither beside the app nor installed: only the runner can find out
    with pytest.raises(Failed) as failed:
        elsewhere.ask(dumps(load(tmp_path / "sub/needs_it.py").cls), "1")
    assert (failed.value.raised, failed.value.text) == (
        "LoadError",
        "needs_it:Needs needs the module 'installed_here', which is not in its environment.",
    )
    assert all(way in failed.value.hint for way in ("requirements", "local_python_modules", "app_files"))


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"python": "3.99"}, "pickled by Python 3.99 and this runner is Python"),
        ({"cloudpickle": "0.0.1"}, "pickled by cloudpickle 0.0.1 and this runner has"),
        ({"pydantic": "1.0"}, "made by pydantic 1.0 and this runner has"),
    ],
)
def test_other_versions_are_said_before_anything_is_unpickled(pickled: bytes, tmp_path: Path, change: dict[str, str], detail: str):
    header, _ = unpack(pickled)
    (tmp_path / "app.pkl").write_bytes(pack(dataclasses.replace(header, **change), b"not a pickle"))
    with pytest.raises(LoadError) as refused:
        load_class(tmp_path / "app.pkl")
    assert detail in refused.value.detail and refused.value.hint


def test_what_is_no_app_pkl_is_said(tmp_path: Path):
    (tmp_path / "app.pkl").write_bytes(b"\x80\x05N.")
    with pytest.raises(LoadError, match=r"app\.pkl cannot be read"):
        load_class(tmp_path / "app.pkl")


def test_an_exception_of_the_authors_own_code_comes_as_it_is(elsewhere: Elsewhere, tmp_path: Path):
    (tmp_path / "raises_there.py").write_text(
        "import roost\n\ndef explode():\n    raise RuntimeError('only there')\n\nclass Bomb:\n    def __reduce__(self):\n        return explode, ()\n\n"
        "class Raises(roost.App):\n    bomb = [Bomb()]\n\n    @roost.endpoint('/')\n    def root(self) -> int: ...\n"
    )
    with pytest.raises(Failed) as failed:
        elsewhere.ask(dumps(load(tmp_path / "raises_there.py").cls), "1")
    assert (failed.value.raised, failed.value.text) == ("RuntimeError", "only there")
    assert "raise RuntimeError('only there')" in failed.value.trace
