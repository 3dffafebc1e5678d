"""Bundles: a revision's pickle and files as a folder that runners read, made of hard links into the blobs.

bundles/<key>/app.pkl
bundles/<key>/files/<path>        read-only; the executable bit is the author's
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

from roost.builders import folders
from roost.wire.errors import RoostError
from roost.wire.manifest import BundleFile, Manifest

_MAKING: Final = ".making-"


def bundle_key(manifest: Manifest) -> str:
    """The name of the bundle: 32 hexadecimal digits of a hash over everything that is in it."""
    files = sorted((file.path, file.sha256, _mode(file)) for file in manifest.files)
    content = json.dumps([manifest.pickle_sha256, files, manifest.working_dir], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def assemble(bundles: Path, manifest: Manifest, blob_path: Callable[[str], Path]) -> str:
    """Make the bundle's folder, unless it is there, and answer its key. Nobody ever sees it half made.

    Raises `unprocessable` for a path that leaves the folder, is there twice or runs through a file, and for a blob that is missing.
    """
    _check(manifest)
    key = bundle_key(manifest)
    place = bundles / key
    if place.is_dir():
        return key
    bundles.mkdir(parents=True, exist_ok=True, mode=0o700)
    making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=bundles))
    try:
        _place(blob_path(manifest.pickle_sha256), making / "app.pkl", 0o400)
        files = making / "files"
        (files / manifest.working_dir).mkdir(parents=True)
        for file in manifest.files:
            _place(blob_path(file.sha256), files / file.path, _mode(file))
        folders.publish(making, place)
    except FileNotFoundError as error:
        raise RoostError(
            "unprocessable", f"a piece of the app is not on the server: {error.filename}", hint="Upload what /v1/blobs/missing names."
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return key


def sweep_bundles(bundles: Path) -> None:
    """Remove what an interrupted `assemble` left. Call at start."""
    for left in [*bundles.glob(f"{_MAKING}*"), *bundles.glob(f"{folders.REMOVING}*")]:
        shutil.rmtree(left, ignore_errors=True)


def _check(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    for file in manifest.files:
        _check_path(file.path)
        if stat.S_IFMT(file.mode) not in (0, stat.S_IFREG):
            raise RoostError("unprocessable", f"{file.path!r} is a link or device, not a file", hint="Put the file itself into app_files.")
    if manifest.working_dir:
        _check_path(manifest.working_dir)
    twice = next((path for path in paths if paths.count(path) > 1), None) if len(set(paths)) < len(paths) else None
    if twice is not None:
        raise RoostError("unprocessable", f"the app's files contain {twice!r} twice", hint="Name each file of app_files once.")
    known = set(paths)
    for path in [*paths, manifest.working_dir]:
        through = next((str(parent) for parent in PurePosixPath(path).parents if str(parent) in known), None)
        if through is not None or (path == manifest.working_dir and path in known):
            detail = f"{through or path!r} is both a file and a folder in the app's files"
            raise RoostError("unprocessable", detail, hint="Rename one of the two.")


def _check_path(path: str) -> None:
    """Only plain relative paths in their shortest form: "a/../b" and "a//b" would be second names of other files."""
    if path != PurePosixPath(path).as_posix() or path in ("", ".") or path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise RoostError(
            "unprocessable",
            f"{path[:200]!r} is not a path below the app's folder",
            hint="app_files must lie below the context directory (app_files_context_dir).",
        )


def _mode(file: BundleFile) -> int:
    return 0o500 if file.mode & 0o111 else 0o400


def _place(blob: Path, target: Path, mode: int) -> None:
    """The blob under this name. A link shares the blob's permissions, so another mode needs a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    found = os.lstat(blob)
    if not stat.S_ISREG(found.st_mode):
        raise RoostError(
            "internal_error",
            f"the stored piece {blob.name} is not a file",
            hint="Remove it from the server's blobs folder and deploy again.",
        )
    if found.st_mode & 0o777 == mode:
        try:
            os.link(blob, target, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:
            # Another file system, or the file has as many names as the file system allows.
            pass
        else:
            return
    shutil.copyfile(blob, target)
    target.chmod(mode)
