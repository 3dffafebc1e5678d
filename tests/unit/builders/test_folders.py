from __future__ import annotations

import os
from pathlib import Path

from roost.builders import folders


def made(tmp_path: Path, name: str, text: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def test_a_published_folder_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    place = tmp_path / "place"
    folders.publish(made(tmp_path, "a", "first"), place)
    folders.publish(made(tmp_path, "b", "second"), place)
    assert (place / "file").read_text() == "first"
    folders.publish(made(tmp_path, "c", "third"), place, replace=True)
    assert (place / "file").read_text() == "third"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "place"]


def test_bytes_that_others_link_to_are_not_told_as_freed(tmp_path: Path) -> None:
    folder = made(tmp_path, "a", "12345")
    (folder / "own").write_text("123")
    os.link(folder / "own", folder / "own-again")
    os.link(folder / "file", tmp_path / "elsewhere")
    assert folders.size(folder) == 8
    assert folders.remove(folder) == 3
    assert (tmp_path / "elsewhere").read_text() == "12345"
    assert folders.remove(folder) == 0
