from __future__ import annotations

import dataclasses
import decimal as only_in_annotations
from typing import get_type_hints

import roost


@dataclasses.dataclass
class Leaf:
    value: int


@dataclasses.dataclass
class Tree:
    leaf: Leaf
    child: Tree | None = None


def grow(leaf: Leaf, price: only_in_annotations.Decimal) -> Tree:
    return Tree(leaf)


class Future(roost.App):
    @roost.endpoint("/")
    def root(self) -> dict:
        return {
            "hints": sorted(f"{name}: {hint.__name__}" for name, hint in get_type_hints(grow).items()),
            "tree": get_type_hints(Tree)["leaf"].__name__,
        }
