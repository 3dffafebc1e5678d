"""`app_files`: which files travel with an app, under which path, checked and hashed (spec: app-class.md §1.8)."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from roost.control.errors import ControlError
from roost.sdk.options import similar
from roost.wire.manifest import BundleFile

LARGEST_FILE = 1_000_000_000


class FilesError(ControlError):
    """An entry of `app_files` cannot be shipped."""


@dataclass(frozen=True)
class AppFile:
    """One file that travels: where it lies here, and what the manifest says about it."""

    source: Path
    entry: BundleFile


@dataclass(frozen=True)
class Context:
    """What `app_files` are relative to, and what stays behind."""

    folder: Path
    app_file: Path
    ignore: tuple[re.Pattern[str], ...]

    @property
    def working_dir(self) -> str:
        """Where the app's own folder ends up below the bundle's files; "" is their top."""
        here = self.app_file.parent
        return here.relative_to(self.folder).as_posix() if here != self.folder and here.is_relative_to(self.folder) else ""


def collect(app_files: Sequence[str], context: Context) -> tuple[AppFile, ...]:
    """Every file that these entries mean, each once, in the order of their paths. Raises FilesError."""
    found = {source: path for entry in app_files for source, path in _files_of(entry, context)}
    return tuple(_checked(source, path) for source, path in sorted(found.items(), key=lambda item: item[1]))


def _files_of(entry: str, context: Context) -> Iterator[tuple[Path, str]]:
    # normpath and not resolve: a link keeps its own name, and only its target is looked at in `_inside`.
    start = Path(os.path.normpath(context.folder / Path(entry).expanduser()))
    if not start.is_relative_to(context.folder):
        raise FilesError(
            f"app_files: {entry!r} lies outside of {context.folder}, which app_files are relative to.",
            hint="Set app_files_context_dir to a folder that contains it.",
        )
    if not os.path.lexists(start):
        near = similar(start.name, os.listdir(start.parent), at_least=0.6) if start.parent.is_dir() else None
        raise FilesError(
            f"app_files: there is no {entry!r} in {context.folder}.",
            hint=f"Did you mean {near!r}?" if near else "Paths are relative to the folder of the app's file, or to app_files_context_dir.",
        )
    for source in _walk(start, context):
        path = source.relative_to(context.folder).as_posix()
        if source != context.app_file and not any(pattern.search(path) for pattern in context.ignore):
            yield _inside(source, context), path


def _walk(start: Path, context: Context) -> Iterator[Path]:
    if not start.is_dir():
        yield start
        return
    _inside(start, context)
    for folder, folders, names in os.walk(start):
        for name in folders:
            _inside(Path(folder) / name, context)
        yield from (Path(folder) / name for name in names)


def _inside(path: Path, context: Context) -> Path:
    if path.is_symlink() and not path.resolve().is_relative_to(context.folder.resolve()):
        raise FilesError(
            f"app_files: {path.relative_to(context.folder)} is a link to {path.resolve()}, outside of {context.folder}.",
            hint="Copy the file there, or set app_files_context_dir to a folder that contains both.",
        )
    return path


def _checked(source: Path, path: str) -> AppFile:
    try:
        about = source.stat()
    except FileNotFoundError:
        raise FilesError(f"app_files: {path} is a link to a file that does not exist.") from None
    if not stat.S_ISREG(about.st_mode):
        raise FilesError(f"app_files: {path} is neither a file nor a folder.", hint="Add it to app_files_ignore.")
    if about.st_size > LARGEST_FILE:
        raise FilesError(
            f"app_files: {path} has {about.st_size / 1e9:.1f} GB; a file may have 1 GB.",
            hint="Download it in setup(), or leave it behind with app_files_ignore.",
        )
    try:
        return AppFile(source, BundleFile(path, _sha256(source), stat.S_IMODE(about.st_mode)))
    except PermissionError:
        raise FilesError(f"app_files: {path} cannot be read.", hint="Change its permissions, or add it to app_files_ignore.") from None


def _sha256(source: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
