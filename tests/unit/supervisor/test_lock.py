from __future__ import annotations

import os
from pathlib import Path

import pytest

from roost.supervisor.lock import StateLock
from roost.supervisor.problem import CannotStart


def test_the_second_to_ask_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = StateLock.take(path, tmp_path)
    held.write_pid()
    with pytest.raises(CannotStart, match=rf"already running \(pid {os.getpid()}\) on this state folder \({tmp_path}\)"):
        StateLock.take(path, tmp_path, patience_s=0)
    held.release()
    StateLock.take(path, tmp_path, patience_s=0).release()


def test_a_pid_that_a_killed_holder_left_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("4194304\n")
    lock = StateLock.take(tmp_path / "lock", tmp_path, patience_s=0)
    lock.write_pid()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()
