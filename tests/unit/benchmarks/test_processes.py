"""What /proc says about processes."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.harness import processes


def test_a_process_has_memory_time_and_descendants():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in processes.tree(os.getpid())
        assert processes.tree(child.pid) == [child.pid]
        assert processes.pss_mb([os.getpid()]) > 1
        assert processes.cpu_s(os.getpid()) > 0
        family = processes.family(child.pid)
        assert processes.still(family) == [child.pid]
        child.communicate(b"\n")
    assert processes.still(family) == []


def test_a_number_that_another_process_has_now_is_not_taken_for_the_old_one():
    assert processes.still({os.getpid(): "1"}) == []


def test_processes_that_ended_meanwhile_have_no_memory():
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    assert processes.pss_mb([done.pid]) == 0
