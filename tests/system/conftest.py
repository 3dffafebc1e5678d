"""One server for the tests that do it no harm, and a maker of servers for those that do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.system.roosts import Roost, running

APPS = Path(__file__).parent.parent / "apps" / "system"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uv's downloads: fetched once a test run."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture(scope="session")
def roost(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Roost]:
    """A server that many tests share. Whoever kills it, or changes what others rely on, takes `own_roost`."""
    with running(tmp_path_factory.mktemp("roost"), cache) as one:
        yield one


class MakeRoost(Protocol):
    def __call__(self, **env: str) -> Roost: ...


@pytest.fixture
def own_roost(tmp_path: Path, cache: Path) -> Iterator[MakeRoost]:
    """Makes servers of the test's own; `env` are variables of the server (settings, ROOST_*)."""
    with ExitStack() as stack:
        made: list[Roost] = []

        def make(**env: str) -> Roost:
            made.append(stack.enter_context(running(tmp_path / f"roost-{len(made)}", cache, up_words=(), **env)))
            return made[-1]

        yield make
