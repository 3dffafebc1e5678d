"""Nothing that a promise rests on happens without a failpoint: each write of the store, each change of a file, each message of a queued call.

The sweep (tests/soak) kills the server once at every name; what has no name would never be tried.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.arch.sources import PACKAGE

CHANGES_A_FILE = {
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "rmtree",
    "truncate",
    "ftruncate",
    "pwrite",
    "writev",
    "free_head",
    "write_bytes",
    "write_text",
}
CHANGES_A_FILE_OF_OS = {"write", "replace", "link", "remove", "symlink"}
"""Words that other objects have too: only as `os.write`."""
SAYS_TO_A_RUNNER = {"reserve", "resume", "keep", "send_encoded_head", "send_head", "release", "control"}
"""Methods of a link session that a queued call's messages go through."""
VISITS = {"failpoint", "visit", "_leave"}

EXEMPT = {
    ("data/logs.py", "trim"): "what runners printed is no promise",
    ("data/logs.py", "prune"): "the same",
    ("data/traffic.py", "_append"): "numbers of past calls are no promise",
    ("data/traffic.py", "prune"): "the same",
    ("link/connection.py", "open"): "a direct call: it is never tried again, whatever happens to it",
    ("link/connection.py", "begin"): "the same",
}


@dataclass(frozen=True)
class Site:
    """A call in a function."""

    file: str
    function: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.what} in {self.function}()"


@dataclass(frozen=True)
class Source:
    file: str
    tree: ast.Module


def sources(*packages: str) -> list[Source]:
    paths = [path for package in packages for path in sorted((PACKAGE / package).rglob("*.py"))]
    return [Source(str(path.relative_to(PACKAGE)), ast.parse(path.read_text())) for path in paths]


def functions(tree: ast.AST) -> Iterator[tuple[str, list[ast.Call]]]:
    """Each function or method with the calls in it, also those of functions inside it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, [found for found in ast.walk(node) if isinstance(found, ast.Call)]
        else:
            yield from functions(node)


def called(call: ast.Call) -> tuple[str, str]:
    """("os", "write") of `os.write(...)`; ("", name) of a plain function."""
    match call.func:
        case ast.Attribute(value=value, attr=name):
            return ast.unparse(value), name
        case ast.Name(id=name):
            return "", name
        case _:
            return "", ""


def changes_a_file(call: ast.Call) -> bool:
    of, name = called(call)
    return name in CHANGES_A_FILE or (of == "os" and name in CHANGES_A_FILE_OF_OS)


def says_to_a_runner(call: ast.Call) -> bool:
    of, name = called(call)
    return of.endswith("session") and name in SAYS_TO_A_RUNNER


def unnamed(source: Source) -> Iterator[Site]:
    """What happens in functions that visit no failpoint."""
    matters = says_to_a_runner if source.file.startswith("link/") else changes_a_file
    for function, calls in functions(source.tree):
        if (source.file, function) in EXEMPT or any(called(call)[1] in VISITS for call in calls):
            continue
        yield from (Site(source.file, function, call.lineno, ast.unparse(call.func)) for call in calls if matters(call))


def writes(source: Source) -> Iterator[ast.Call]:
    """Calls of `driver.write`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and called(node)[0].endswith("driver") and called(node)[1] == "write":
            yield node


def point_of(call: ast.Call) -> str | None:
    match call.args:
        case [_, ast.Constant(value=str(point))]:
            return point
        case _:
            return None


def literal_names(source: Source) -> Iterator[str]:
    """Names that are written down as they are: of failpoints, of writes, and of files on their way."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        match called(node)[1], node.args:
            case ("failpoint" | "visit" | "_leave", [ast.Constant(value=str(name))]):
                yield name
            case ("Incoming", [_, ast.Constant(value=str(name))]):
                yield name
            case _:
                pass
    yield from (point for call in writes(source) if (point := point_of(call)))


@pytest.mark.parametrize("package", ["store", "data", "link"])
def test_nothing_that_matters_happens_without_a_failpoint(package: str) -> None:
    assert [str(site) for source in sources(package) for site in unnamed(source)] == []


def test_every_write_of_the_store_has_a_name_that_says_whose_it_is() -> None:
    found = [(source.file, call.lineno, point_of(call)) for source in sources("store") for call in writes(source)]
    handed_on = [("store/sqlite.py", "write"), ("store/driver.py", "write")]
    assert len(found) > 20
    assert [f"{file}:{line}" for file, line, point in found if point is None and (file, "write") not in handed_on] == []
    assert [f"{file}:{line} {point}" for file, line, point in found if point and not point.startswith(Path(file).stem + ".")] == []


def test_no_two_places_share_a_name() -> None:
    counts = Counter(name for source in sources("store", "data", "link") for name in literal_names(source))
    assert [name for name, times in counts.items() if times > 1] == []


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("data/x.py", "def keep(f):\n    os.fsync(f)", ["os.fsync"]),
        ("data/x.py", "def keep(f):\n    failpoint('x')\n    os.fsync(f)", []),
        ("data/x.py", "class A:\n    async def keep(self):\n        await to_thread(lambda: self.path.unlink())", ["self.path.unlink"]),
        ("data/x.py", "def copy(text):\n    return replace(text.replace('a', 'b'), n=1)", []),
        ("data/x.py", "def move(a, b):\n    os.replace(a, b)", ["os.replace"]),
        ("link/x.py", "def go(self):\n    self._session.resume(1)", ["self._session.resume"]),
        ("link/x.py", "def go(self):\n    self.visit('a')\n    self._session.resume(1)", []),
    ],
)
def test_a_change_without_a_name_is_found(file: str, text: str, found: list[str]) -> None:
    assert [site.what for site in unnamed(Source(file, ast.parse(text)))] == found


def test_every_exemption_is_still_needed() -> None:
    needed = {
        (source.file, function)
        for source in sources("data", "link", "store")
        for function, calls in functions(source.tree)
        if any(changes_a_file(call) or says_to_a_runner(call) for call in calls)
    }
    assert [place for place in EXEMPT if place not in needed] == []
