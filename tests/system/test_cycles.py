"""Runners come and go by the hundred through the whole product, and nothing of them stays (issue: 200 start/stop cycles; faults.md F-28)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.conftest import APPS
from tests.system.roosts import Roost, running, until

CYCLES = 200 if os.environ.get("ROOST_LONG") == "1" else 25


@dataclass(frozen=True)
class Left:
    """What a start/stop cycle could leave behind."""

    processes: int
    descriptors: dict[str, int]
    """Of the guard, the supervisor and the server."""
    threads: int
    """Of the server."""
    sockets: int
    """Unix sockets with a path of this server, connected ones included."""
    temporary: frozenset[str]
    state: frozenset[str]
    """Everything in the state folder but logs."""


def left(roost: Roost, tmp: Path) -> Left:
    tree = roost.tree()
    server = roost.server_pid()
    return Left(
        len(tree),
        {f"{pid} {command}": len(os.listdir(f"/proc/{pid}/fd")) for pid, command in tree.items()},
        len(os.listdir(f"/proc/{server}/task")),
        sum(str(roost.home) in line for line in Path("/proc/net/unix").read_text().splitlines()),
        frozenset(os.listdir(tmp)),
        frozenset(str(path) for path in (roost.home / "state").rglob("*") if not path.is_relative_to(roost.home / "state" / "logs")),
    )


@pytest.fixture
def roost(tmp_path: Path, cache: Path) -> Iterator[tuple[Roost, Path]]:
    """A server with a TMPDIR of its own."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    with running(tmp_path / "home", cache, TMPDIR=str(tmp)) as one:
        yield one, tmp


def test_start_and_stop_cycles_leave_nothing(roost: tuple[Roost, Path]) -> None:
    server, tmp = roost
    server.deploy(APPS / "hello.py")

    def cycle() -> int:
        assert server.call("hello").json() == {"text": "Hello, world!"}
        (runner,) = server.runners("hello")
        server.api("POST", f"/v1/runners/{runner['runner_id']}/stop")
        until("the runner is gone", lambda: not server.runners("hello"))
        return int(runner["pid"])

    # Until everything that is made once has been made.
    for _ in range(3):
        cycle()
    until("nothing but the server runs", lambda: len(server.tree()) == 3)
    before = left(server, tmp)
    database = server.home / "state"
    pids: set[int] = set()
    began = time.monotonic()
    for _ in range(CYCLES):
        pids.add(cycle())
    took_s = time.monotonic() - began
    after = before
    with contextlib.suppress(AssertionError):
        # A kept-alive connection of the last call may take a moment to close.
        until("everything is as before", lambda: (left(server, tmp)) == before, 10)
    after = left(server, tmp)
    print(f"{CYCLES} cycles in {took_s:.1f} s ({took_s / CYCLES * 1000:.0f} ms each), {len(pids)} runners; before and after: {sum(before.descriptors.values())} and {sum(after.descriptors.values())} descriptors")
    assert len(pids) == CYCLES
    assert after == before
    logs = sum(path.stat().st_size for path in (server.home / "state" / "logs").rglob("*") if path.is_file())
    kept = sum(path.stat().st_size for path in database.glob("roost.db*"))
    print(f"logs {logs} bytes, database {kept} bytes")
    assert logs < CYCLES * 2_000 + 100_000
