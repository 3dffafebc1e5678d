"""Builds against the real package index: few, of small packages. They need a network; everything else about builds is in tests/contract."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest

from roost.builders.base import BuildError, BuildSettings
from roost.builders.venv import VenvBuilder
from roost.core.model import Recipe
from roost.kit.process import LocalSpawner
from tests.workshop import Listener, ignore

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PINS = (f"fastapi=={version('fastapi')}", f"pydantic=={version('pydantic')}")


@pytest.fixture
async def spawner() -> AsyncIterator[LocalSpawner]:
    spawner = LocalSpawner()
    yield spawner
    await spawner.close()


def builder(spawner: LocalSpawner, state: Path, **environ: str) -> VenvBuilder:
    # An empty HOME: nothing may depend on what an operator has there.
    return VenvBuilder(spawner, state / "envs", state / "builds", BuildSettings(), {**os.environ, "HOME": str(state / "home"), **environ})


async def test_what_was_built_once_can_be_built_again_without_a_network(spawner: LocalSpawner, tmp_path: Path) -> None:
    recipe = Recipe(HERE, (("iniconfig",), ("six",)), PINS)
    first = await builder(spawner, tmp_path).build("first", recipe, ignore)
    assert {PINS[0], PINS[1]} < set(first.packages)
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:1")
    listener = Listener()
    second = await builder(spawner, tmp_path, **nowhere, UV_HTTP_RETRIES="0").build("second", recipe, listener)
    assert second.packages == first.packages
    assert [line for line in listener.lines if "--offline" in line] != []


async def test_a_package_that_is_on_no_index_says_so(spawner: LocalSpawner, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as failure:
        await builder(spawner, tmp_path).build("k1", Recipe(HERE, (("roost-test-no-such-package",),), PINS), ignore)
    assert "roost-test-no-such-package was not found" in failure.value.detail and failure.value.hint


async def test_a_requirement_that_needs_another_pydantic_names_both(spawner: LocalSpawner, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as failure:
        # Needs pydantic below 2 without naming it: only the resolver can find out.
        await builder(spawner, tmp_path).build("k1", Recipe(HERE, (("fastapi-utils==0.2.1",),), PINS), ignore)
    assert "pydantic" in failure.value.detail and "author's own" in failure.value.hint
