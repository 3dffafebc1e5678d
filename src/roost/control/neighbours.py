"""The author's own files around the app: which modules would stay behind on this machine.

The trap of every newcomer: `import helpers` works here because helpers.py lies beside the app, and fails on the runner, where it
does not exist. We know both sides, so we say it before anything is sent.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_PROJECT_MARKS = ("pyproject.toml", ".git", "setup.py", "setup.cfg")
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Neighbours:
    """Where the author's own modules lie, and which of them get to the runner by other ways than the pickle."""

    app_file: Path
    folders: tuple[Path, ...]
    """Folders whose modules an `import` in the app finds."""
    project: Path
    """All that lies below is the author's own, if it is not installed."""
    shipped: frozenset[Path] = frozenset()
    """Files that travel as `app_files`."""
    required: frozenset[str] = frozenset()
    """Import names that `requirements` most likely bring, normalised."""

    @classmethod
    def of(
        cls, app_file: Path, *, package_root: Path | None = None, shipped: Iterable[Path] = (), requirements: Iterable[str] = ()
    ) -> Neighbours:
        app_file = app_file.resolve()
        project = _project_of(app_file.parent)
        own = [app_file.parent, package_root or app_file.parent]
        for entry in sys.path:
            path = Path(entry or ".").resolve()
            if path.is_relative_to(project) and not _is_installed(path):
                own.append(path)
        names = frozenset(name for name in map(_import_name, requirements) if name)
        return cls(app_file, tuple(dict.fromkeys(own)), project, frozenset(path.resolve() for path in shipped), names)

    def left_behind(self, module: ModuleType) -> Path | None:
        """The file of a loaded module that would be missing on the runner, or None if it is not the author's or travels anyway."""
        place = _place_of(module)
        if place is None or not self._is_own(module.__name__, place):
            return None
        # It is imported while the class is loaded, when only the app's own folder is on the path.
        return None if self._is_shipped(place) and self._top(module.__name__, place).parent == self.app_file.parent else place

    def left_behind_by_name(self, name: str) -> Path | None:
        """The same for a name that code will import when it runs, whether or not it is loaded here."""
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            return None
        for folder in self.folders:
            for place in (folder / top / "__init__.py", folder / f"{top}.py", folder / top):
                exists = place.is_file() if place.suffix else any(place.glob("*.py"))
                if exists:
                    return place if self._is_own(top, place) and not self._is_shipped(place) else None
        return None

    def nickname(self, place: Path) -> str:
        """The file as the author would write it, seen from the app's folder."""
        shown = place.parent if place.name == "__init__.py" else place
        return os.path.relpath(shown, self.app_file.parent)

    def advice(self, name: str, place: Path) -> str:
        """How to make the module travel, ready to paste: with the class, or as files where the runner would find them."""
        top = name.partition(".")[0]
        with_class = f'Ship it with the class: local_python_modules = ["{top}"]'
        file = self._top(name, place)
        return f'{with_class} — or as files: app_files = ["{file.name}"].' if file.parent == self.app_file.parent else f"{with_class}."

    def _top(self, name: str, place: Path) -> Path:
        """The file or folder of the top-level module."""
        while place.stem != name.partition(".")[0] and place.parent != place:
            place = place.parent
        return place

    def _is_own(self, name: str, place: Path) -> bool:
        top = name.partition(".")[0]
        if top == "roost" or place == self.app_file or top.lower() in self.required:
            return False
        below = any(place.is_relative_to(folder) for folder in (self.project, *self.folders))
        return below and not _is_installed(place)

    def _is_shipped(self, place: Path) -> bool:
        return place in self.shipped or any(path.is_relative_to(place) for path in self.shipped if not place.suffix)


def _place_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    if file:
        return Path(file).resolve()
    folders = list(getattr(module, "__path__", ()))
    return Path(folders[0]).resolve() if folders else None


def _is_installed(path: Path) -> bool:
    if any(part in _INSTALLED for part in path.parts):
        return True
    paths = sysconfig.get_paths()
    return any(path.is_relative_to(Path(paths[name]).resolve()) for name in ("stdlib", "platstdlib"))


def _project_of(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        # A home folder under version control is not one project: everything the author ever wrote lies below it.
        if candidate in (Path.home(), Path(candidate.anchor)):
            break
        if any((candidate / mark).exists() for mark in _PROJECT_MARKS):
            return candidate
    return folder


def _import_name(requirement: str) -> str:
    found = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return re.sub(r"[-.]+", "_", found.group(1)).lower() if found else ""
