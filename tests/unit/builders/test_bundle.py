from __future__ import annotations

import dataclasses
import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from roost.builders.bundle import assemble, sweep_bundles
from roost.wire.errors import RoostError
from roost.wire.manifest import BundleFile, Manifest
from roost.wire.spec import AppSpec


class Shelf:
    """Blobs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.path(sha256).exists():
            self.path(sha256).write_bytes(data)
            self.path(sha256).chmod(0o400)
        return sha256

    def path(self, sha256: str) -> Path:
        return self.folder / sha256


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "blobs")


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


def manifest(shelf: Shelf, *files: tuple[str, bytes, int], working_dir: str = "") -> Manifest:
    listed = tuple(BundleFile(path, shelf.add(data), mode) for path, data, mode in files)
    return Manifest(AppSpec("app", "App", "3.11"), shelf.add(b"pickle"), "0.1.0", {}, listed, working_dir)


def test_a_bundle_has_the_pickle_and_the_files_read_only(shelf: Shelf, bundles: Path) -> None:
    key = assemble(bundles, manifest(shelf, ("a/b.txt", b"text", 0o664), ("run.sh", b"#!/bin/sh", 0o755), working_dir="a"), shelf.path)
    folder = bundles / key
    assert len(key) == 32 and (folder / "app.pkl").read_bytes() == b"pickle"
    assert (folder / "files/a/b.txt").read_bytes() == b"text"
    modes = {path: stat.S_IMODE((folder / path).stat().st_mode) for path in ("app.pkl", "files/a/b.txt", "files/run.sh")}
    assert modes == {"app.pkl": 0o400, "files/a/b.txt": 0o400, "files/run.sh": 0o500}
    assert [entry.name for entry in bundles.iterdir()] == [key]


def test_files_are_links_to_the_blobs_and_an_executable_never_changes_its_blob(shelf: Shelf, bundles: Path) -> None:
    app = manifest(shelf, ("plain", b"same", 0o644), ("executable", b"same", 0o755))
    folder = bundles / assemble(bundles, app, shelf.path) / "files"
    blob = shelf.path(app.files[0].sha256).stat()
    assert (folder / "plain").stat().st_ino == blob.st_ino != (folder / "executable").stat().st_ino
    assert stat.S_IMODE(blob.st_mode) == 0o400


def test_the_working_folder_is_there_even_when_no_file_is_in_it(shelf: Shelf, bundles: Path) -> None:
    key = assemble(bundles, manifest(shelf, working_dir="src/app"), shelf.path)
    assert (bundles / key / "files/src/app").is_dir()


def test_the_same_content_is_the_same_bundle_whatever_the_order(shelf: Shelf, bundles: Path) -> None:
    files = [("a", b"1", 0o600), ("b", b"2", 0o644)]
    first = assemble(bundles, manifest(shelf, *files), shelf.path)
    assert assemble(bundles, manifest(shelf, *reversed(files)), shelf.path) == first
    assert len(list(bundles.iterdir())) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda app: dataclasses.replace(app, pickle_sha256=app.files[0].sha256),
        lambda app: dataclasses.replace(app, working_dir="src"),
        lambda app: dataclasses.replace(app, files=()),
        lambda app: dataclasses.replace(app, files=(dataclasses.replace(app.files[0], path="other"),)),
        lambda app: dataclasses.replace(app, files=(dataclasses.replace(app.files[0], mode=0o755),)),
    ],
)
def test_another_content_is_another_bundle(shelf: Shelf, bundles: Path, other: Callable[[Manifest], Manifest]) -> None:
    app = manifest(shelf, ("a", b"1", 0o644))
    assert assemble(bundles, other(app), shelf.path) != assemble(bundles, app, shelf.path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a/..", "", ".", "./a", "a//b", "a/", "a\0b", ".."])
def test_a_path_that_could_leave_the_folder_is_refused(shelf: Shelf, bundles: Path, path: str) -> None:
    with pytest.raises(RoostError) as failure:
        assemble(bundles, manifest(shelf, (path, b"x", 0o644)), shelf.path)
    assert failure.value.code == "unprocessable"
    if path:
        with pytest.raises(RoostError):
            assemble(bundles, manifest(shelf, working_dir=path), shelf.path)
    assert not bundles.exists()


@pytest.mark.parametrize(
    ("files", "working_dir", "told"),
    [
        ([("a", b"1", 0o644), ("a", b"2", 0o644)], "", "twice"),
        ([("a", b"1", 0o644), ("a/b", b"2", 0o644)], "", "both a file and a folder"),
        ([("a", b"1", 0o644)], "a", "both a file and a folder"),
        ([("a", b"1", 0o644)], "a/b", "both a file and a folder"),
        ([("a", b"1", 0o120777)], "", "link"),
    ],
)
def test_files_that_cannot_lie_side_by_side_are_refused(
    shelf: Shelf, bundles: Path, files: list[tuple[str, bytes, int]], working_dir: str, told: str
) -> None:
    with pytest.raises(RoostError, match=told):
        assemble(bundles, manifest(shelf, *files, working_dir=working_dir), shelf.path)


def test_a_missing_piece_leaves_nothing(shelf: Shelf, bundles: Path) -> None:
    app = manifest(shelf, ("a", b"1", 0o644))
    shelf.path(app.files[0].sha256).unlink()
    with pytest.raises(RoostError, match=app.files[0].sha256):
        assemble(bundles, app, shelf.path)
    assert list(bundles.iterdir()) == []


def test_a_blob_that_is_a_link_is_not_followed(shelf: Shelf, bundles: Path, tmp_path: Path) -> None:
    app = manifest(shelf)
    shelf.path(app.pickle_sha256).unlink()
    (tmp_path / "secret").write_text("secret")
    shelf.path(app.pickle_sha256).symlink_to(tmp_path / "secret")
    with pytest.raises(RoostError, match="not a file"):
        assemble(bundles, app, shelf.path)


def test_what_an_interrupted_assembly_left_is_swept(bundles: Path) -> None:
    (bundles / ".making-x" / "files").mkdir(parents=True)
    sweep_bundles(bundles)
    assert list(bundles.iterdir()) == []
