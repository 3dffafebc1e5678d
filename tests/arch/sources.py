"""The tree as data: which files there are and what each imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src" / "roost"

AUTHOR_SIDE = ("sdk", "client", "toolkit", "control", "runner", "examples")
"""Packages that run where the author chose the packages."""
TOOLS = ("cli", "testkit")


@dataclass(frozen=True)
class Import:
    """One import statement (or a call that imports a name given as a constant)."""

    file: Path
    line: int
    module: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def is_standard_library(self) -> bool:
        return self.top in sys.stdlib_module_names

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def packages() -> list[str]:
    """Names of the packages directly below roost."""
    return sorted(folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file())


def server_side() -> list[str]:
    """Every package that may be loaded into a process of the server. A new package counts until it is named above."""
    return [name for name in packages() if name not in AUTHOR_SIDE + TOOLS]


def imports(package: str) -> Iterator[Import]:
    """All imports in a package, wherever in the file they stand."""
    for file in sorted((PACKAGE / package).rglob("*.py")):
        yield from imports_of(file, file.read_text())


def imports_of(file: Path, text: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(text, str(file))):
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield Import(file, node.lineno, name.name)
            case ast.ImportFrom(module=str(module), level=0):
                yield Import(file, node.lineno, module)
            case ast.Call(func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"), args=[first, *_]):
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield Import(file, node.lineno, first.value)
            case _:
                pass
