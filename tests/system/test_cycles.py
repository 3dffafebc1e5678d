"""Runners come and go by the hundred through the whole product, and nothing of them stays (issue: 200 start/stop cycles; faults.md F-28)."""

from __future__ import annotations

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

    processes: tuple[str, ...]
    """Each with the number of its descriptors; the two of `roost up`, the server, templates and their spare."""
    threads: int
    """Of the server."""
    sockets: int
    """Unix sockets with a path of this server, connected ones included."""
    temporary: frozenset[str]
    state: frozenset[str]
    """Everything in the state folder but logs."""


def left(roost: Roost, tmp: Path) -> Left:
    state = roost.home / "state"
    return Left(
        tuple(sorted(f"{command}: {descriptors(pid)}" for pid, command in roost.tree().items())),
        len(os.listdir(f"/proc/{roost.server_pid()}/task")),
        sum(str(roost.home) in line for line in Path("/proc/net/unix").read_text().splitlines()),
        frozenset(os.listdir(tmp)),
        frozenset(str(path) for path in state.rglob("*") if not path.is_relative_to(state / "logs")),
    )


def descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except FileNotFoundError:
        return 0


def at_rest(roost: Roost, tmp: Path) -> Left:
    """What is there when it has not changed for a second: connections close and templates make their spare a moment later."""
    seen, since = left(roost, tmp), time.monotonic()

    def rests() -> bool:
        nonlocal seen, since
        now = left(roost, tmp)
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > 1

    until("it rests", rests)
    return seen


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
        # A forked runner may answer before the supervisor has said which process it is.
        (runner,) = until("its process is known", lambda: [one for one in server.runners("hello") if one["pid"]])
        server.api("POST", f"/v1/runners/{runner['runner_id']}/stop")
        until("the runner is gone", lambda: not server.runners("hello"))
        return int(runner["pid"])

    # Until everything that is made once has been made.
    for _ in range(3):
        cycle()
    before = at_rest(server, tmp)
    pids: set[int] = set()
    began = time.monotonic()
    for _ in range(CYCLES):
        pids.add(cycle())
    took_s = time.monotonic() - began
    after = at_rest(server, tmp)
    assert after == before
    assert len(pids) == CYCLES
    state = server.home / "state"
    logs = sum(path.stat().st_size for path in (state / "logs").rglob("*") if path.is_file())
    database = sum(path.stat().st_size for path in state.glob("roost.db*"))
    print(f"{CYCLES} cycles in {took_s:.1f} s, {took_s / CYCLES * 1000:.0f} ms each; logs {logs} bytes, database {database} bytes")
    assert logs < CYCLES * 2_000 + 100_000
