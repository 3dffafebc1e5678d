"""What a subject is given: a folder, the options, and where its figures go."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import tables
from benchmarks.harness.figures import Figure, Goal
from benchmarks.harness.roosts import Roost, roost_up

APPS = Path(__file__).parent.parent / "apps"


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured only when asked for, since it takes long to install or much memory."""

    peers: tuple[str, ...] = ()
    torch: bool = False
    weights: bool = False
    quick: bool = False
    """A look at whether it works: few rounds, small numbers. Its figures mean little."""
    find_links: str = ""
    """Folder with wheels, for machines without a package index."""
    millions: bool = False


@dataclass
class Bench:
    """One run of one subject."""

    subject: str
    folder: Path
    """Empty, removed afterwards."""
    kept: Path
    """`.bench/`: downloads and environments that the next run finds again."""
    options: Options
    figures: list[Figure] = field(default_factory=list[Figure])
    tables: list[str] = field(default_factory=list[str])
    """What the subject shows of its figures in a form of its own."""

    def roost(self, name: str, **settings: str) -> AbstractContextManager[Roost]:
        """A server of its own."""
        if self.options.find_links:
            settings = {"ROOST_FIND_LINKS": self.options.find_links, **settings}
        return roost_up(self.folder / name, self.kept / "uv-cache", **settings)

    def roost_again(self, name: str) -> AbstractContextManager[Roost]:
        """A server on what one of this name left."""
        return roost_up(self.folder / name, self.kept / "uv-cache")

    def record(self, name: str, unit: str, samples: Iterable[float], goal: Goal | None = None) -> Figure:
        figure = Figure(f"{self.subject}.{name}", unit, tuple(samples), goal)
        self.figures.append(figure)
        return figure

    def say(self, text: str) -> None:
        """Progress; the figures are printed when the subject is done."""
        sys.stderr.write(f"   {text}\n")
        sys.stderr.flush()

    def show(self, head: list[str], rows: list[list[str]]) -> None:
        self.tables.append(tables.table(head, rows))

    def report(self) -> str:
        """What is printed: the subject's own tables and then its goals; without tables, all figures."""
        shown = [figure for figure in self.figures if figure.goal is not None or not self.tables]
        return "\n\n".join([*self.tables, *([tables.figures(shown)] if shown else [])])
