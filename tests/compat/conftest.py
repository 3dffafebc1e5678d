"""Official clients as their registries have them, against one server for each file of tests."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.compat import ways
from tests.compat.environments import LATEST, LATEST_VERSIONS
from tests.compat.ways import Way
from tests.system.proxies import nginx
from tests.system.roosts import Roost, running

PARROT = Path(__file__).parent.parent / "apps" / "compat" / "parrot.py"


@dataclass(frozen=True)
class Served:
    """A server with the apps of `parrot.py` on it."""

    roost: Roost
    record: Path
    """Where calls leave their marks."""
    door: str
    """Its CONNECT door."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uv's downloads and what it made of them, for the apps' environments: fetched once a test run."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("compat")
    record = folder / "record"
    record.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        door = f"127.0.0.1:{free.getsockname()[1]}"
    with running(folder / "roost", cache, up_words=("--connect", door), ROOST_WEBHOOK_ALLOW="127.0.0.1") as roost:
        for name in ("Parrot", "Single", "Mortal"):
            roost.cli("deploy", f"{PARROT}::{name}", "--json", RECORD=str(record))
        yield Served(roost, record, door)


@pytest.fixture(scope="module")
def reach(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Way]]:
    """A way to the server by its name: direct, nginx, connect."""
    with ExitStack() as stack:

        @functools.cache
        def by_name(name: str) -> Way:
            match name:
                case "direct":
                    return ways.direct(served.roost)
                case "nginx":
                    proxy = stack.enter_context(nginx(tmp_path_factory.mktemp("proxies") / "nginx", served.roost))
                    return ways.at("nginx", f"localhost:{proxy.port}", proxy.bundle)
                case _:
                    return ways.connect(served.roost, served.door)

        yield by_name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which versions `make compat-latest` got."""
    if LATEST and LATEST_VERSIONS.exists():
        terminalreporter.write_line(f"newest clients: {', '.join(LATEST_VERSIONS.read_text().split(chr(10))).strip(', ')}")
