"""A place to build environments in: a state folder, a folder of packages, and the processes that builders there start.

No index is ever asked: there is an empty one, and what `tests.packages` puts into `wheels`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from roost.builders.base import BuildSettings
from roost.builders.venv import VenvBuilder
from roost.core.model import Recipe
from roost.kit.process import LocalSpawner

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
NEVER_DONE = "import time\ndef build_wheel(*args, **kwargs):\n    time.sleep(600)\n"
"""For `packages.source`: its build goes on until it is ended."""


@dataclass
class Workshop:
    """A state folder, a folder of packages, and the processes that builders on them start."""

    root: Path
    spawner: LocalSpawner
    environ: dict[str, str]

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def envs(self) -> Path:
        return self.root / "state" / "envs"

    @classmethod
    def make(cls, root: Path) -> Workshop:
        """Call in a running event loop; close the spawner afterwards."""
        for folder in ("wheels", "empty-index"):
            (root / folder).mkdir()
        index = (root / "empty-index").as_uri()
        return cls(root, LocalSpawner(), {"PATH": os.environ["PATH"], "UV_DEFAULT_INDEX": index, "HOME": str(root / "home")})

    def builder(self, settings: BuildSettings | None = None, **environ: str) -> VenvBuilder:
        settings = settings or BuildSettings(find_links=(str(self.wheels),))
        return VenvBuilder(self.spawner, self.envs, self.root / "state" / "builds", settings, {**self.environ, **environ})

    def left_over(self) -> list[str]:
        return [folder.name for folder in self.envs.iterdir() if folder.name.startswith(".")]


def recipe(*layers: tuple[str, ...], pins: tuple[str, ...] = (), python: str = HERE, resolver: str = "uv") -> Recipe:
    return Recipe(python, layers, pins, resolver)


def ignore(line: str) -> None:
    """Somebody who does not listen."""


class Listener:
    """Takes lines, and tells when one contains a text."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._heard: dict[str, asyncio.Event] = {}

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        for text, event in self._heard.items():
            if text in line:
                event.set()

    async def hears(self, text: str) -> None:
        event = self._heard.setdefault(text, asyncio.Event())
        if not any(text in line for line in self.lines):
            await asyncio.wait_for(event.wait(), 60)


async def leave(task: asyncio.Task[object]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
