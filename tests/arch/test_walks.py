"""The walks through the code name files and functions that are there."""

from __future__ import annotations

import re

import pytest

from tests.arch.sources import ROOT

WALKS = sorted((ROOT / "docs/internals").glob("walk-*.md"))
PATH = re.compile(r"`(src/roost/[\w/]+\.py)`")
NAMED = re.compile(r"`(src/roost/[\w/]+\.py)`,?\s+\*?`([\w.]+)`|`([\w.]+)`\s+(?:in|of)\s+`(src/roost/[\w/]+\.py)`")


def test_there_are_walks():
    assert len(WALKS) >= 3


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.name)
def test_every_file_that_a_walk_names_exists(walk):
    assert [path for path in PATH.findall(walk.read_text()) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.name)
def test_every_function_that_a_walk_names_is_in_its_file(walk):
    missing: list[str] = []
    for first_path, first_name, second_name, second_path in NAMED.findall(walk.read_text()):
        path, name = first_path or second_path, first_name or second_name
        source = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        missing += [f"{path}: {part}" for part in name.split(".") if not re.search(rf"(class|def) {part}\b", source)]
    assert missing == []
