"""What every builder of package environments promises, and the words for asking one.

`tests/contract/test_builder.py` is what a builder must pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from roost.core.model import Recipe
from roost.wire.errors import RoostError

SUPPORTED_FROM: Final = (3, 10)
"""The oldest Python that runners can have."""

OnLine = Callable[[str], None]
"""Takes one line of a build's output, without its newline, on the event loop. It must not raise."""


@dataclass(frozen=True, slots=True)
class Built:
    """A finished environment: what is in it ("name==version", sorted), how large it is, how long it took."""

    packages: tuple[str, ...]
    size_bytes: int
    build_ms: int


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Where packages come from. Empty means: what `uv` and its own variables (UV_*) in the server's environment say."""

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    """Folders or pages with wheels."""
    python_downloads: str = "never"
    """"never", "manual" or "automatic": whether uv may download an interpreter that this machine does not have."""
    time_limit_ms: int = 3_600_000
    """A build that takes longer is stopped and has failed."""


class BuildError(RoostError):
    """This environment could not be built: why, in the resolver's own words, and what to do about it."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__("build_failed", reason, hint=hint)


class BuildInterrupted(BuildError):
    """The build was stopped from outside. It says nothing about the recipe, which may be tried again."""


class Builder(Protocol):
    """Makes environments in folders named by their key. A folder with such a name is always complete."""

    async def build(self, key: str, recipe: Recipe, on_line: OnLine, *, force: bool = False) -> Built:
        """Make the environment, unless it is there; `force` makes it anew and then replaces the one that was there.

        Several callers at once share one build: each gets the same lines, from the first on, and the same end. When the last
        of them is cancelled the build ends and leaves nothing. Raises BuildError.
        """
        ...

    def path(self, key: str) -> Path:
        """The environment's folder; its interpreter is `bin/python` below."""
        ...

    def exists(self, key: str) -> bool: ...

    def keys(self) -> frozenset[str]:
        """The environments that are there."""
        ...

    async def remove(self, key: str) -> int:
        """Remove the environment, if it is there, and answer the bytes that the disk got back."""
        ...

    async def trim(self) -> int:
        """Remove downloads that are kept to make later builds faster, and answer the bytes that the disk got back."""
        ...

    async def sweep(self) -> None:
        """Remove what interrupted builds and removals left. Call at start, before the first build."""
        ...

    async def stop(self) -> None:
        """End the builds under way; their callers get BuildInterrupted."""
        ...

    def log(self, key: str) -> str:
        """The output of the last build of this key; empty if there was none."""
        ...
