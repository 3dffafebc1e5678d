from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roost.kit import linux


def test_our_own_facts_are_those_that_the_system_tells() -> None:
    facts = linux.stat(os.getpid())
    assert facts is not None
    assert (facts.parent, facts.group, facts.session) == (os.getppid(), os.getpgrp(), os.getsid(0))


def test_a_program_name_with_parentheses_and_spaces_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        facts = linux.stat(process.pid)
        process.kill()
    assert facts is not None
    assert facts.parent == os.getpid()


def test_children_and_their_environment_are_found_until_they_are_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"MARK": "a=b"})
    try:
        assert process.pid in linux.children(os.getpid())
        assert process.pid in linux.processes()
        assert linux.environment_value(process.pid, "MARK") == "a=b"
        assert linux.environment_value(process.pid, "MAR") is None
    finally:
        process.kill()
    while not linux.peek_ended(process.pid):
        pass
    assert process.pid in linux.children(os.getpid())
    process.communicate()
    assert process.pid not in linux.children(os.getpid())
    assert linux.stat(process.pid) is None
    assert linux.environment_value(process.pid, "MARK") is None


def test_each_counted_oom_kill_explains_one_end(tmp_path: Path) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 5\noom_kill 2\n")
    kills = linux.OomKills([tmp_path / "missing", counter])
    assert not kills.claim()
    counter.write_text("low 0\noom 7\noom_kill 4\n")
    assert [kills.claim(), kills.claim(), kills.claim()] == [True, True, False]


def test_without_a_counter_nothing_is_blamed_on_memory(tmp_path: Path) -> None:
    assert not linux.OomKills([tmp_path / "missing"]).claim()


def test_other_systems_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(linux.NotLinux, match=r"needs Linux .* this is darwin; run it on a Linux machine"):
        linux.require_linux()
