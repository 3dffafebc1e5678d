"""Which modules code would import when it runs: found in its bytecode, without running it."""

from __future__ import annotations

import dis
import functools
from types import CodeType
from typing import Any, NamedTuple


class LateImport(NamedTuple):
    """`from ..name import attribute`: level 2."""

    level: int
    name: str
    attributes: tuple[str, ...]


@functools.lru_cache(maxsize=4096)
def imports_of(code: CodeType) -> tuple[LateImport, ...]:
    """Every `import` statement in the code and in all functions, lambdas and classes inside it."""
    found: list[LateImport] = []
    before: list[Any] = [None, None]
    for step in dis.get_instructions(code):
        if step.opname == "EXTENDED_ARG":
            continue
        if step.opname == "IMPORT_NAME":
            # The two values below it on the stack: the level of a relative import, and the names after `from ... import`.
            level, names = before
            attributes = tuple(name for name in names or () if name != "*")
            found.append(LateImport(level if isinstance(level, int) else 0, str(step.argval), attributes))
        before = [before[1], step.argval]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.extend(imports_of(constant))
    return tuple(found)
