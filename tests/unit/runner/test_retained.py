"""Answers that are kept: what lies in memory, what in a file, and that both read the same."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from roost.runner.retained import Retained, Room


def read(kept: Retained, step: int) -> bytes:
    found = b""
    while len(found) < kept.size:
        found += kept.read(len(found), step)
    assert kept.read(len(found), step) == b""
    return found


@pytest.mark.parametrize("sizes", [[], [5], [40, 60], [101], [60, 60, 60], [0, 100, 0, 1]])
def test_what_was_appended_is_read_back_whatever_its_size(sizes: list[int]) -> None:
    kept = Retained(Room(1000, of_one=100))
    pieces = [os.urandom(size) for size in sizes]
    for piece in pieces:
        kept.append(piece)
    assert read(kept, 7) == b"".join(pieces)
    assert kept.in_file == (sum(sizes) > 100)
    kept.forget()


def test_an_answer_that_grows_too_large_for_memory_gives_its_memory_back() -> None:
    room = Room(1000, of_one=100)
    kept = Retained(room)
    kept.append(bytes(100))
    assert room.free == 900
    kept.append(b"x")
    assert room.free == 1000 and kept.in_file
    kept.forget()


def test_when_memory_is_used_up_small_answers_go_into_files_too() -> None:
    room = Room(150, of_one=100)
    first, second = Retained(room), Retained(room)
    first.append(bytes(100))
    second.append(b"y" * 60)
    assert second.in_file and read(second, 100) == b"y" * 60
    second.forget()
    first.forget()
    assert room.free == 150


def test_files_have_no_name_and_close_when_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    kept = Retained(Room(0))
    kept.append(b"large")
    assert list(tmp_path.iterdir()) == [] and kept.in_file
    kept.forget()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_without_a_disk_that_takes_it_appending_fails_and_the_rest_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    kept = Retained(Room(1000, of_one=10))
    kept.append(b"small")
    with pytest.raises(OSError, match="gone"):
        kept.append(b"too large by far")
    assert read(kept, 100) == b"small"
