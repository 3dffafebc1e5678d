"""What a kill -9 costs: tasks are submitted all the while, the server is killed at random moments, and what was accepted is counted.

The same script for each: a task takes 50 ms and leaves a line in a file. *Accepted* is what was answered with an id; *lost* is what of that has
no result half a minute after the last kill; *ran twice* is what left two lines. Two kinds of kill: of the process that serves HTTP (whoever
supervises it starts another), and of everything, which is then started again as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.harness import http, processes
from benchmarks.harness.bench import APPS, Bench
from benchmarks.harness.figures import Goal, at_most
from benchmarks.harness.programs import free_port, listening, until
from benchmarks.harness.roosts import Roost, roost_up
from benchmarks.peers import Peer, environment

SUBMITTERS = 8
PAUSE_S = 0.05
SETTLE_S = 30.0
BENTOML = Peer("bentoml", ("bentoml",), 1)


class Server(Protocol):
    """Something that takes tasks. Answers None, or raises OSError, where a caller would see an error."""

    def submit(self, n: int) -> str | None: ...

    def has_result(self, task: str) -> bool: ...

    def serving_pid(self) -> int: ...

    def all_pids(self) -> list[int]: ...

    def start_again(self) -> None: ...


@dataclass
class Count:
    accepted: dict[int, str] = field(default_factory=dict[int, str])
    refused: int = 0
    lost: int = 0
    ran_twice: int = 0
    worst_gap_s: float = 0.0
    """Longest time in which no submit was accepted."""


def run(bench: Bench) -> None:
    kills, between_s = (2, 4.0) if bench.options.quick else (6, 6.0)
    rows: list[list[str]] = []
    makers: dict[str, Callable[[Path], contextlib.AbstractContextManager[Server]]] = {"roost": lambda folder: roost(bench, folder)}
    if "bentoml" in bench.options.peers:
        makers["bentoml"] = lambda folder: bentoml(bench, folder)
    else:
        bench.say("alone; --bentoml does the same to a BentoML task")
    for name, make in makers.items():
        for victim in ("server", "everything"):
            bench.say(f"{name}: {kills} kills of {victim}")
            folder = bench.folder / f"{name}-{victim}"
            folder.mkdir()
            with make(folder) as server:
                count = struck(server, victim, kills, between_s, random.Random(1))
                finish(server, count, folder / "effects")
            goal: Goal | None = at_most(0) if name == "roost" else None
            bench.record(f"{name}.{victim}.lost", "tasks", [count.lost], goal)
            bench.record(f"{name}.{victim}.accepted", "tasks", [len(count.accepted)])
            rows.append(
                [name, victim, str(kills), str(len(count.accepted)), str(count.lost), str(count.ran_twice), f"{count.worst_gap_s:.1f} s"]
            )
    bench.show(["", "killed", "times", "accepted", "lost", "ran twice", "longest time without a submit"], rows)


def struck(server: Server, victim: str, kills: int, between_s: float, dice: random.Random) -> Count:
    """Submit from several threads while the server is killed."""
    count, over, lock = Count(), threading.Event(), threading.Lock()
    numbers = iter(range(1_000_000))
    accepted_at = [time.monotonic()]

    def submitter() -> None:
        while not over.is_set():
            with lock:
                n = next(numbers)
            task = None
            with contextlib.suppress(OSError, ValueError, KeyError):
                task = server.submit(n)
            with lock:
                if task is None:
                    count.refused += 1
                else:
                    count.accepted[n] = task
                    now = time.monotonic()
                    count.worst_gap_s = max(count.worst_gap_s, now - accepted_at[0])
                    accepted_at[0] = now
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=submitter) for _ in range(SUBMITTERS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            time.sleep(between_s * dice.uniform(0.5, 1.5))
            if victim == "server":
                os.kill(server.serving_pid(), signal.SIGKILL)
            else:
                for pid in server.all_pids():
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                server.start_again()
        time.sleep(between_s)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        count.worst_gap_s = max(count.worst_gap_s, time.monotonic() - accepted_at[0])
    return count


def finish(server: Server, count: Count, effects: Path) -> None:
    """Wait until every accepted task has its result, or patience ends; then count."""
    left = dict(count.accepted)
    deadline = time.monotonic() + SETTLE_S
    while left and time.monotonic() < deadline:
        for n, task in list(left.items()):
            with contextlib.suppress(OSError, ValueError, KeyError):
                if server.has_result(task):
                    del left[n]
        time.sleep(0.2)
    count.lost = len(left)
    ran = Counter(effects.read_text().split()) if effects.exists() else Counter[str]()
    count.ran_twice = sum(times > 1 for times in ran.values())


# --- Roost ----------------------------------------------------------------------------------------------------------------


@dataclass
class RoostTasks:
    folder: Path
    cache: Path
    stack: contextlib.ExitStack
    roost: Roost = field(init=False)
    path: str = ""

    def start_again(self) -> None:
        self.stack.close()
        self.roost = self.stack.enter_context(roost_up(self.folder / "home", self.cache, EFFECTS=str(self.folder / "effects")))
        if not self.path:
            self.path = self.roost.deploy(APPS / "lost.py")
        self.auth = self.roost.auth

    def submit(self, n: int) -> str | None:
        answer = http.call(self.roost.port, f"/_queue{self.path}", b'{"n": %d}' % n, self.auth, timeout_s=10)
        return json.loads(answer.body)["request_id"] if answer.status == 200 else None

    def has_result(self, task: str) -> bool:
        return (
            http.call(self.roost.port, f"/_queue{self.path}/requests/{task}", headers=self.auth, method="GET", timeout_s=10).status == 200
        )

    def serving_pid(self) -> int:
        return self.roost.server_pid()

    def all_pids(self) -> list[int]:
        return self.roost.tree()


@contextlib.contextmanager
def roost(bench: Bench, folder: Path) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        tasks = RoostTasks(folder, bench.kept / "uv-cache", stack)
        tasks.start_again()
        yield tasks


# --- BentoML --------------------------------------------------------------------------------------------------------------


@dataclass
class BentoTasks:
    words: list[str]
    port: int
    folder: Path
    env: dict[str, str]
    stack: contextlib.ExitStack
    pid: int = 0

    def start_again(self) -> None:
        self.stack.close()
        process = self.stack.enter_context(listening(self.words, self.port, self.folder / "serve.log", self.env, cwd=APPS, patience_s=120))
        self.pid = process.pid
        until("bentoml answers", self._answers, 60)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return http.call(self.port, "/readyz", method="GET").status == 200
        return False

    def submit(self, n: int) -> str | None:
        answer = http.call(self.port, "/work/submit", b'{"n": %d}' % n, timeout_s=10)
        return json.loads(answer.body)["task_id"] if answer.status in (200, 202) else None

    def has_result(self, task: str) -> bool:
        return http.call(self.port, f"/work/get?task_id={task}", method="GET", timeout_s=10).status == 200

    def serving_pid(self) -> int:
        until("bentoml has a worker", self._workers)
        return self._workers()[0]

    def _workers(self) -> list[int]:
        found: list[int] = []
        for pid in processes.tree(self.pid):
            with contextlib.suppress(OSError):
                if "bentoml_impl.worker" in processes.command(pid):
                    found.append(pid)
        return found

    def all_pids(self) -> list[int]:
        return processes.tree(self.pid)


@contextlib.contextmanager
def bentoml(bench: Bench, folder: Path) -> Iterator[Server]:
    port, home = free_port(), folder / "home"
    home.mkdir()
    bin_folder = environment(bench, "bentoml", BENTOML) / "bin"
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(home), "TMPDIR": str(home)}
    env |= {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1", "EFFECTS": str(folder / "effects"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [str(bin_folder / "bentoml"), "serve", "lost_bentoml:Lost", "--host", "127.0.0.1", "--port", str(port)]
    with contextlib.ExitStack() as stack:
        tasks = BentoTasks(words, port, folder, env, stack)
        tasks.start_again()
        yield tasks
