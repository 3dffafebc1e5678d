"""Authors' folders: written for one test, and forgotten by this process afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

APP = """
import roost

class {name}(roost.App):
    @roost.endpoint("/")
    def root(self) -> str:
        return "{name}"
"""


def write(folder: Path, **files: str) -> None:
    """Files by name; `__` in a name is a slash, the ending is .py. A text without line breaks is the name of an app's class."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text) if "\n" in text or not text.isidentifier() else APP.format(name=text))


@contextmanager
def forgotten_afterwards(folder: Path) -> Iterator[None]:
    """Drop what is imported from below the folder meanwhile, so that the next test starts as a new process would."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", ()))]
            if any(place.startswith(str(folder)) for place in places):
                del sys.modules[name]
