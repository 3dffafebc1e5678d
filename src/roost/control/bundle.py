"""From a loaded class to what is uploaded: the manifest, and the pieces that it names by hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import roost
from roost.control import files, pickling
from roost.control.errors import ControlError
from roost.control.load import LoadedApp
from roost.control.neighbours import Neighbours
from roost.sdk import declared
from roost.wire.manifest import Manifest
from roost.wire.spec import AppSpec


class BundleError(ControlError):
    """The class says something that cannot be run or deployed."""


@dataclass(frozen=True)
class Bundle:
    """A manifest and every piece that it names: bytes, or the file that holds them."""

    manifest: Manifest
    blobs: Mapping[str, bytes | Path]


def build(loaded: LoadedApp) -> Bundle:
    """Everything that a server needs to run this app. Nothing is sent.

    Raises BundleError (an option, the Python version, the OpenAPI document), FilesError (app_files) or PickleError (the class).
    """
    cls: Any = loaded.cls
    spec = _spec(cls)  # first: a wrong Python must be said before any work
    openapi = _openapi(cls)
    context = _context(loaded)
    shipped = files.collect(declared.parsed(cls, "app_files") or (), context)
    neighbours = Neighbours.of(
        loaded.path,
        package_root=loaded.package_root,
        shipped=[file.source for file in shipped],
        requirements=[requirement for layer in spec.requirements for requirement in layer],
    )
    pickled = _pickled(cls, neighbours)
    pickle_hash = hashlib.sha256(pickled).hexdigest()
    manifest = Manifest(
        spec=spec,
        pickle_sha256=pickle_hash,
        runtime_version=roost.__version__,
        openapi=openapi,
        files=tuple(file.entry for file in shipped),
        working_dir=context.working_dir if shipped else "",
    )
    return Bundle(manifest, {pickle_hash: pickled, **{file.entry.sha256: file.source for file in shipped}})


def _spec(cls: Any) -> AppSpec:
    from roost.sdk.spec import build_spec

    try:
        return build_spec(cls)
    except ValueError as error:
        raise BundleError(f"{error}.") from error


def _openapi(cls: Any) -> dict[str, Any]:
    from roost.sdk.annotations import UnresolvedAnnotation
    from roost.sdk.openapi import OpenAPIError, build_openapi

    try:
        return build_openapi(cls)  # also turns textual annotations into values, which the pickle then carries
    except (OpenAPIError, UnresolvedAnnotation) as error:
        raise BundleError(f"{error}.") from error


def _context(loaded: LoadedApp) -> files.Context:
    """app_files are relative to the app's file; those from pyproject.toml, like all paths in it, to that file."""
    base = loaded.settings_folder if loaded.settings_folder and "app_files" in loaded.settings else loaded.path.parent
    context = declared.parsed(loaded.cls, "app_files_context_dir")
    if context is not None and loaded.settings_folder and "app_files_context_dir" in loaded.settings:
        base = loaded.settings_folder
    elif context is not None:
        base = loaded.path.parent
    folder = (base / Path(context or ".").expanduser()).resolve()
    if not folder.is_dir():
        raise BundleError(f"app_files_context_dir {context!r} is not a folder: there is no {folder}.", hint=f"It is relative to {base}.")
    ignore = tuple(re.compile(pattern) for pattern in declared.parsed(loaded.cls, "app_files_ignore") or ())
    return files.Context(folder, loaded.path, ignore)


def _pickled(cls: Any, neighbours: Neighbours) -> bytes:
    pickled = pickling.dumps(cls, declared.parsed(cls, "local_python_modules") or (), neighbours=neighbours)
    if len(pickled) > files.LARGEST_FILE:
        raise BundleError(
            f"{cls.__name__} and what it refers to have {len(pickled) / 1e9:.1f} GB; a pickle may have 1 GB.",
            hint="Load large data in setup(), not at the top of the file.",
        )
    return pickled
