"""Failpoints act where and when they are told, in the process that was armed and no other."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

VISITOR = """
import sys
from roost.kit.failpoints import FailpointError, failpoint
for name in sys.argv[1:]:
    try:
        failpoint(name)
        print("passed")
    except FailpointError as error:
        print(error.strerror)
"""


def visit(*names: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A process that visits these points, one after another."""
    return subprocess.run([sys.executable, "-c", VISITOR, *names], env=environ, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("armed", "said"),
    [
        ("", "passed passed passed"),
        ("a=raise", "failpoint a|passed|passed"),
        ("a@2=raise", "passed|passed|failpoint a"),
        ("a=raise,b=raise", "failpoint a|failpoint b|passed"),
        ("a@100%=raise", "failpoint a|passed|failpoint a"),
        ("*@100%=raise", "failpoint a|failpoint b|failpoint a"),
        ("a@0%=raise", "passed passed passed"),
        ("a=lost", "passed passed passed"),
        ("other=raise", "passed passed passed"),
        ("a@2=sleep:1", "passed passed passed"),
    ],
)
def test_a_point_acts_at_the_visit_that_was_named(armed: str, said: str) -> None:
    lines = visit("a", "b", "a", ROOST_FAILPOINTS=armed).stdout.splitlines()
    assert lines == (said.split("|") if "|" in said else said.split())


def test_lost_acts_where_the_thing_is_done_and_nowhere_before() -> None:
    said = visit("w:before", "w:inside", "w:after", "w:after", ROOST_FAILPOINTS="w:*@100%=lost").stdout.splitlines()
    assert said == ["passed", "passed", "failpoint w:after", "failpoint w:after"]


def test_a_killed_process_says_nothing_more() -> None:
    done = visit("a", "b", "a", ROOST_FAILPOINTS="b=kill")
    assert done.returncode == -signal.SIGKILL


def test_a_file_arms_the_first_process_that_meets_it_and_nobody_after(tmp_path: Path) -> None:
    """So the server that is started in place of a killed one lives."""
    armed = tmp_path / "armed"
    armed.write_text("a=kill")
    assert visit("a", ROOST_FAILPOINTS_FILE=str(armed)).returncode == -signal.SIGKILL
    assert not armed.exists()
    assert visit("a", ROOST_FAILPOINTS_FILE=str(armed)).stdout.split() == ["passed"]


def test_each_visited_name_is_logged_once_and_each_act_always(tmp_path: Path) -> None:
    visit("a", "b", "a", ROOST_FAILPOINTS="a@100%=raise", ROOST_FAILPOINTS_LOG=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text().split() == ["a", "a=raise", "b", "a=raise"]


def test_an_action_that_nobody_knows_is_named() -> None:
    assert "'explode' is no action" in visit("a", ROOST_FAILPOINTS="a=explode").stderr
