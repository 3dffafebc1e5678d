"""How values lie in columns: JSON as text, a list of states as named parameters."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from enum import Enum
from typing import Any

from roost.core.model import Recipe, Scale
from roost.store.driver import Value


def dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def load(text: str) -> Any:
    return json.loads(text)


def any_of(states: Iterable[Enum], args: dict[str, Value]) -> str:
    """`(:s0, :s1)` for an IN, whose values are put into `args`. Without states: `(NULL)`, which nothing is in."""
    names: list[str] = []
    for n, state in enumerate(states):
        args[f"s{n}"] = state.value
        names.append(f":s{n}")
    return f"({', '.join(names) or 'NULL'})"


def dump_scale(scale: Scale) -> str:
    return dump(dataclasses.asdict(scale))


def load_scale(text: str) -> Scale:
    """Fields that this version does not know are dropped; those that an older one did not write get their default."""
    known = {field.name for field in dataclasses.fields(Scale)}
    found: dict[str, Any] = {key: value for key, value in load(text).items() if key in known}
    if "machine_types" in found:
        found["machine_types"] = tuple(found["machine_types"])
    return Scale(**found)


def dump_recipe(recipe: Recipe) -> str:
    return dump(dataclasses.asdict(recipe))


def load_recipe(text: str) -> Recipe:
    known = {field.name for field in dataclasses.fields(Recipe)}
    found: dict[str, Any] = {key: value for key, value in load(text).items() if key in known}
    found["layers"] = tuple(tuple(layer) for layer in found["layers"])
    found["pins"] = tuple(found["pins"])
    return Recipe(**found)
