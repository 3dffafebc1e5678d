"""Which files travel."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from roost.control.files import LARGEST_FILE, Context, FilesError, collect
from roost.sdk.options import IGNORED_FILES


@pytest.fixture
def context(tmp_path: Path) -> Context:
    for name in ("app.py", "a.txt", "data/b.bin", "data/deep/c.txt", "data/__pycache__/x.pyc", "data/.git/HEAD"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return Context(tmp_path, tmp_path / "app.py", tuple(map(re.compile, IGNORED_FILES)))


def paths(app_files: list[str], context: Context) -> list[str]:
    return [file.entry.path for file in collect(app_files, context)]


def test_folders_travel_whole_without_what_is_ignored(context: Context):
    assert paths(["a.txt", "data"], context) == ["a.txt", "data/b.bin", "data/deep/c.txt"]


def test_the_app_itself_does_not_travel_as_a_file_and_nothing_travels_twice(context: Context):
    assert paths([".", "a.txt", "./data/../a.txt"], context) == ["a.txt", "data/b.bin", "data/deep/c.txt"]


def test_an_entry_holds_the_hash_of_the_content_and_the_permissions(context: Context):
    (context.folder / "a.txt").chmod(0o750)
    (file,) = collect(["a.txt"], context)
    assert (file.entry.sha256, file.entry.mode) == (hashlib.sha256(b"a.txt").hexdigest(), 0o750)


def test_the_working_folder_is_the_apps_own_below_the_context(context: Context):
    assert context.working_dir == ""
    assert Context(context.folder, context.folder / "data/deep/app.py", ()).working_dir == "data/deep"


def test_links_to_folders_are_not_followed_and_links_to_files_travel_as_files(context: Context):
    (context.folder / "data/loop").symlink_to(context.folder / "data")
    (context.folder / "data/link.txt").symlink_to("../a.txt")
    assert paths(["data"], context) == ["data/b.bin", "data/deep/c.txt", "data/link.txt"]


@pytest.mark.parametrize(
    ("entry", "detail", "hint"),
    [
        ("../other", "lies outside of", "app_files_context_dir"),
        ("/etc/hostname", "lies outside of", "app_files_context_dir"),
        ("dat", "there is no 'dat'", "Did you mean 'data'?"),
        ("data/escape", "is a link to", "Copy the file there"),
        ("escapes", "is a link to", "Copy the file there"),
        ("folders", "is a link to", "Copy the file there"),
        ("broken", "a link to a file that does not exist", ""),
        ("large", "a file may have 1 GB", "app_files_ignore"),
    ],
)
def test_what_cannot_travel_is_said(context: Context, entry: str, detail: str, hint: str):
    outside = context.folder.parent / f"{context.folder.name}-outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    for name in ("escapes", "folders"):
        (context.folder / name).mkdir()
    (context.folder / "data/escape").symlink_to(outside / "secret")
    (context.folder / "escapes/inner").symlink_to("../data/escape")
    (context.folder / "folders/inner").symlink_to(outside)
    (context.folder / "broken").symlink_to("nothing")
    with (context.folder / "large").open("wb") as stream:
        stream.truncate(LARGEST_FILE + 1)
    with pytest.raises(FilesError) as refused:
        collect([entry], context)
    assert detail in refused.value.detail and hint in refused.value.hint
