from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roost.kit import memory
from roost.kit.memory import Kin, families

MB = 1024 * 1024


@contextmanager
def python(program: str, *arguments: str) -> Iterator[int]:
    """A process that says when it has done what it shall."""
    command = [sys.executable, "-c", f"{program}\nprint('done', flush=True)\ninput()", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        yield process.pid
        process.communicate("\n")


def test_what_a_process_has_written_to_counts() -> None:
    with python("x = b'x' * (50 << 20)") as pid:
        assert 50 <= memory.held_mb((pid,), 0) < 80


def test_what_it_has_only_reserved_does_not_count() -> None:
    with python("import mmap; x = mmap.mmap(-1, 500 << 20)") as pid:
        assert memory.held_mb((pid,), 0) < 30


def test_a_file_that_it_has_mapped_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(50 * MB))
    program = "import mmap, sys; f = open(sys.argv[1], 'rb'); x = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); sum(x[::4096])"
    with python(program, str(tmp_path / "weights")) as pid:
        assert memory.held_mb((pid,), 0) < 30


def test_shared_memory_counts() -> None:
    with python("import mmap; x = mmap.mmap(-1, 50 << 20); x.write(bytes(50 << 20))") as pid:
        assert 50 <= memory.held_mb((pid,), 0) < 80


def test_pages_that_a_family_shares_count_once_where_it_matters() -> None:
    program = (
        "import os; x = b'x' * (50 << 20); r, w = os.pipe(); [os.fork() or (os.close(w), os.read(r, 1), os._exit(0)) for _ in range(3)]"
    )
    with python(program) as pid:
        family = memory.families([pid], memory.everybody())[pid]
        assert len(family) == 4
        assert memory.held_mb(family, 1_000) > 200, "below what is enough nobody looks closer"
        assert 50 <= memory.held_mb(family, 100) < 90


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert memory.held_mb((2**22 + 1,), 0) == 0


def test_everybody_is_found_with_parent_and_session() -> None:
    ours = memory.everybody()[os.getpid()]
    assert ours == Kin(os.getppid(), os.getsid(0))


@pytest.mark.parametrize(
    ("kin", "family"),
    [
        ({10: Kin(1, 10), 11: Kin(10, 10), 12: Kin(11, 10)}, [10, 11, 12]),
        ({10: Kin(1, 10), 12: Kin(1, 10)}, [10, 12]),
        ({10: Kin(1, 10), 11: Kin(10, 11), 12: Kin(11, 11)}, [10, 11, 12]),
        ({10: Kin(1, 10), 20: Kin(1, 20), 21: Kin(20, 20)}, [10]),
        ({10: Kin(1, 10), 20: Kin(21, 20), 21: Kin(20, 20)}, [10]),
        ({}, []),
    ],
    ids=["descendants", "orphan of the session", "left the session", "strangers", "a ring", "gone"],
)
def test_whose_a_process_is(kin: dict[int, Kin], family: list[int]) -> None:
    assert families([10], kin) == {10: family}


def test_the_machine_says_what_is_left() -> None:
    left_mb = memory.available_mb()
    assert left_mb is not None
    assert 0 < left_mb <= os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // MB
