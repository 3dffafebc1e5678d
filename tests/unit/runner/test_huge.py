"""Large pages for what all runners share; in a process of its own, since it is this process's memory."""

import platform
import subprocess
import sys

import pytest

LOOK = """
import re
from roost.runner import huge

def large_kb():
    return sum(int(kb) for kb in re.findall(r"AnonHugePages: *([0-9]+)", open("/proc/self/smaps_rollup").read()))

weights = bytearray(b"\\x07" * (64 << 20))
before, told = large_kb(), huge.collapse()
assert weights == b"\\x07" * (64 << 20), "what was there is still there"
print(before, large_kb(), told)
"""
KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])


@pytest.mark.skipif(KERNEL < (6, 1), reason="needs Linux 6.1")
def test_large_mappings_come_to_lie_in_large_pages():
    before, after, told = map(int, subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout.split())
    # A machine whose memory is in pieces has no large page to give: then nothing was changed, and nothing claimed.
    assert (after - before) * 1024 >= told - (4 << 20)
    assert told == 0 or after > before


def test_a_process_without_large_mappings_has_nothing_to_collapse():
    code = "from roost.runner import huge; print(list(huge._large()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
