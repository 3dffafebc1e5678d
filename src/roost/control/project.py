"""`[tool.roost.apps.<key>]` in pyproject.toml: apps by a short name, with settings beside the code (spec: app-class.md §1.11).

`[tool.fal.apps.<key>]` is read the same way, so that a project of the public platform needs no change.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roost.control.errors import ControlError
from roost.sdk.options import AUTH_MODES, OPTIONS, similar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  (development happens on a newer Python)

_OWN = ("ref", "name", "auth")
_SETTINGS = tuple(
    name
    for name, option in OPTIONS.items()
    if not option.keyword_only and name not in ("app_name", "app_auth", "local_file_path", "isolate_channel")
)


class ProjectError(ControlError):
    """pyproject.toml says something about an app that cannot be used."""


@dataclass(frozen=True)
class ProjectApp:
    """One app of a pyproject.toml."""

    key: str
    file: Path
    """The pyproject.toml; paths in it are relative to its folder."""
    ref: str
    name: str
    auth: str | None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of the App by name. What the class sets itself wins over them."""


def find_apps(cwd: Path) -> dict[str, ProjectApp]:
    """The apps of the nearest pyproject.toml at or above `cwd` that has any. Raises ProjectError for what cannot be used in it."""
    for folder in (cwd, *cwd.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            found = _apps_in(file)
            if found:
                return found
    return {}


def _apps_in(file: Path) -> dict[str, ProjectApp]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{file} is not valid TOML: {error}.") from error
    found: dict[str, ProjectApp] = {}
    tool = data.get("tool", {})
    for vendor in ("fal", "roost"):  # ours last: it wins for the same key
        apps = tool.get(vendor, {}).get("apps", {}) if isinstance(tool.get(vendor, {}), dict) else {}
        for key, table in apps.items():
            if not isinstance(table, dict):
                raise ProjectError(f"[tool.{vendor}.apps] in {file}: {key!r} must be a table, such as [tool.{vendor}.apps.{key}].")
            found[key] = _app(file, f"[tool.{vendor}.apps.{key}]", key, table)
    return found


def _app(file: Path, where: str, key: str, table: dict[str, Any]) -> ProjectApp:
    for name in table:
        if name not in _OWN and name not in _SETTINGS:
            near = similar(name, [*_OWN, *_SETTINGS], at_least=0.6)
            meant = f"Did you mean {near!r}?" if near else f"It may say {', '.join([*_OWN, *_SETTINGS])}."
            raise ProjectError(f"{where} in {file} has the unknown key {name!r}.", hint=meant)
    ref, name, auth = table.get("ref"), table.get("name", key), table.get("auth")
    if not isinstance(ref, str):
        raise ProjectError(
            f"{where} in {file} does not say which class is meant.",
            hint=f'Add ref = "path/to/file.py::ClassName", relative to {file.parent}.',
        )
    if not isinstance(name, str):
        raise ProjectError(f"{where} in {file}: name must be text, not {name!r}.")
    if auth is not None and auth not in AUTH_MODES:
        raise ProjectError(f"{where} in {file}: auth must be one of {', '.join(AUTH_MODES)}, not {auth!r}.")
    return ProjectApp(key, file, ref, name, auth, {name: value for name, value in table.items() if name in _SETTINGS})
