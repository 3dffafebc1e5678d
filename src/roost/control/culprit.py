"""Which value, under which name, made a pickle fail: pickle's own message names only a type.

Runs after a failure, so it may be slow: it tries the parts of what failed one by one, and goes down into the first that fails alone.
"""

from __future__ import annotations

import io
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

_KNOWN: tuple[tuple[type, str], ...] = (
    (io.IOBase, "an open file"),
    (socket.socket, "a socket"),
    (GeneratorType, "a generator"),
    (sqlite3.Connection, "a database connection"),
)


@dataclass(frozen=True)
class Culprit:
    where: str
    """A noun phrase that begins a sentence."""
    what: str


def find_culprit(root: Any, attempt: Callable[[object], object]) -> Culprit:
    """The innermost value below `root` that fails when `attempt` pickles it alone."""
    where, value = f"`{_name(root)}`", root
    seen: set[int] = set()
    while True:
        seen.add(id(value))
        for inner_where, inner in _parts(value, where):
            if id(inner) not in seen and _fails(inner, attempt):
                where, value = inner_where, inner
                break
        else:
            return Culprit(where[0].upper() + where[1:], _kind(value))


def _fails(value: Any, attempt: Callable[[object], object]) -> bool:
    try:
        attempt(value)
    except Exception:
        return True
    return False


def _parts(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, type):
        for name, part in vars(value).items():
            if name not in ("__dict__", "__weakref__", "_abc_impl"):
                yield f"the attribute `{value.__qualname__}.{name}`", part
        yield from ((f"`{base.__qualname__}`", base) for base in value.__bases__)
    elif isinstance(value, ModuleType):
        for name, part in vars(value).items():
            if name not in ("__builtins__", "__loader__", "__spec__"):
                yield f"the global `{name}` of the module `{value.__name__}`", part
    elif isinstance(value, (staticmethod, classmethod)):
        yield where, value.__func__
    elif isinstance(value, property):
        yield from ((where, part) for part in (value.fget, value.fset, value.fdel) if part is not None)
    elif isinstance(value, MethodType):
        yield from ((where, value.__func__), (f"the object that {where} is bound to", value.__self__))
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield f"the entry {key!r} of {where}", part
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, part in enumerate(value):
            yield f"item {number} of {where}", part
    else:
        if hasattr(value, "__wrapped__"):
            yield where, value.__wrapped__
        for name, part in getattr(value, "__dict__", {}).items():
            yield f"`{name}` of {where}", part


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    name = function.__qualname__
    annotations = " ".join(value for value in function.__annotations__.values() if isinstance(value, str))
    for used in (*_names_used(function.__code__), *re.findall(r"\w+", annotations)):
        if used in function.__globals__:
            yield f"the global `{used}` that `{name}` uses", function.__globals__[used]
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"the variable `{variable}` that `{name}` closes over", cell.cell_contents
        except ValueError:
            continue  # an empty cell
    defaults = function.__defaults__ or ()
    parameters = function.__code__.co_varnames[: function.__code__.co_argcount][-len(defaults) :]
    for parameter, default in (*zip(parameters, defaults, strict=False), *(function.__kwdefaults__ or {}).items()):
        yield f"the default of the parameter `{parameter}` of `{name}`", default
    yield from ((f"the attribute `{name}.{key}`", part) for key, part in vars(function).items())
    yield from ((f"an annotation of `{name}`", part) for part in function.__annotations__.values())


def _names_used(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_used(constant)


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__


def _kind(value: Any) -> str:
    exact = f"{type(value).__module__}.{type(value).__qualname__}"
    for kind, words in _KNOWN:
        if isinstance(value, kind):
            return f"{words} ({exact})"
    return f"a value of type {exact}"
