"""Every test here runs on virtual time, against a whole server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from roost.core.placement import Node
from roost.server.settings import Settings
from roost.testkit.loop import VirtualLoop
from roost.testkit.world import ROOMY, World

Another = Callable[..., Awaitable[World]]
"""Makes a world with other settings or another machine; closed at the end of the test."""


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    return {"virtual": VirtualLoop}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What servers expect on the disk. Shared: every world has a database of its own."""
    return tmp_path_factory.mktemp("world")


@pytest.fixture
async def another(home: Path) -> AsyncIterator[Another]:
    made: list[World] = []

    async def make(settings: Settings | None = None, node: Node = ROOMY) -> World:
        made.append(await World.open(home, settings, node))
        return made[-1]

    yield make
    for world in made:
        await world.close()


@pytest.fixture(params=["asgi", "http"])
async def world(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Twice each: with calls as the application gets them, and with calls that may go the short way."""
    world = await World.open(home)
    world.over_http = request.param == "http"
    yield world
    await world.close()
