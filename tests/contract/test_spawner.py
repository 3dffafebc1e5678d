"""Every Spawner keeps the contract of `kit/spawn.py`: the one of a test process, and the server's, over a real supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import stat
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from roost.kit import linux
from roost.kit.process import LocalSpawner
from roost.kit.spawn import Exited, Living, Spawn, Spawner
from roost.server.supervised import LINE_LIMIT, SupervisedSpawner

APPS = Path(__file__).parent.parent / "apps"
PATH = os.environ["PATH"]
STRAY = "import os, sys, time\nos.setsid()\nif os.fork(): os._exit(0)\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)"


class Exits:
    """What a subscriber was told, to be waited for."""

    def __init__(self) -> None:
        self.all: list[Exited] = []
        self._more = asyncio.Event()

    def __call__(self, exited: Exited) -> None:
        self.all.append(exited)
        self._more.set()

    async def of(self, name: str) -> Exited:
        while True:
            for exited in self.all:
                if exited.name == name:
                    return exited
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 10)


@contextlib.asynccontextmanager
async def local(_: Path) -> AsyncIterator[Spawner]:
    spawner = LocalSpawner()
    yield spawner
    await spawner.close()


@contextlib.asynccontextmanager
async def supervised(folder: Path) -> AsyncIterator[Spawner]:
    """A supervisor whose server is a relay to this test."""
    arrived: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.get_running_loop().create_future()
    door = await asyncio.start_unix_server(lambda *ends: arrived.set_result(ends), folder / "door", limit=LINE_LIMIT)
    told = {"home": str(folder / "home"), "server": [str(APPS / "relay_server.py"), str(folder / "door")], "grace_ms": 0}
    guard = await asyncio.create_subprocess_exec(sys.executable, str(APPS / "tree.py"), json.dumps(told), start_new_session=True)
    spawner = SupervisedSpawner(*await asyncio.wait_for(arrived, 10))
    try:
        await spawner.loaded()
        await asyncio.wait_for(spawner.go.wait(), 10)
        yield spawner
    finally:
        guard.send_signal(signal.SIGTERM)
        await asyncio.wait_for(guard.wait(), 20)
        await spawner.close()
        door.close()
        await door.wait_closed()


@pytest.fixture(params=[local, supervised])
async def spawner(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spawner]:
    async with request.param(tmp_path) as made:
        yield made


@pytest.fixture
def exits(spawner: Spawner) -> Exits:
    subscriber = Exits()
    spawner.subscribe("runner", subscriber)
    return subscriber


def run(*argv: str, **fields: Any) -> Spawn:
    return Spawn(**{"name": uuid.uuid4().hex, "kind": "runner", "argv": argv, "env": {"PATH": PATH}, **fields})


def python(program: str, *arguments: str, **fields: Any) -> Spawn:
    return run(sys.executable, "-c", program, *arguments, **fields)


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    """Processes tell nobody what they do; so this asks until it is true."""

    async def ask() -> None:
        while not await look():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)

    await asyncio.wait_for(ask(), 10)


async def contents(path: Path) -> str:
    """The text of a file that a process is about to write."""

    async def is_written() -> bool:
        return path.exists() and path.read_text() != ""

    await eventually(is_written)
    return path.read_text()


async def ended(pid: int) -> None:
    async def has_ended() -> bool:
        facts = linux.stat(pid)
        return facts is None or facts.state == "Z"

    await eventually(has_ended)


async def test_an_ended_process_is_told_with_its_exit_code(spawner: Spawner, exits: Exits) -> None:
    spawn = run("sh", "-c", "exit 3")
    pid = await spawner.start(spawn)
    assert await exits.of(spawn.name) == Exited(spawn.name, "runner", pid, 3, None)
    assert await spawner.living() == []


async def test_an_ended_process_is_told_with_its_signal(spawner: Spawner, exits: Exits) -> None:
    spawn = run("sh", "-c", "kill -USR1 $$")
    pid = await spawner.start(spawn)
    assert await exits.of(spawn.name) == Exited(spawn.name, "runner", pid, None, signal.SIGUSR1)


async def test_the_pid_is_known_before_the_exit_is_told(spawner: Spawner) -> None:
    known: set[int] = set()
    early: list[Exited] = []
    exits = Exits()

    def on_exit(exited: Exited) -> None:
        if exited.pid not in known:
            early.append(exited)
        exits(exited)

    spawner.subscribe("runner", on_exit)
    for _ in range(20):
        spawn = run("true")
        known.add(await spawner.start(spawn))
        await exits.of(spawn.name)
    assert early == []


async def test_only_subscribers_of_its_kind_hear_of_an_exit(spawner: Spawner, exits: Exits) -> None:
    builds = Exits()
    spawner.subscribe("build", builds)
    build, runner = run("true", kind="build"), run("true")
    await spawner.start(build)
    await spawner.start(runner)
    await exits.of(runner.name)
    await builds.of(build.name)
    assert [exited.name for exited in exits.all] == [runner.name]


async def test_a_process_gets_its_own_environment_folder_input_and_output(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    program = (
        "import json, os, signal, sys\n"
        "mask = os.umask(0)\n"
        "print(json.dumps({'env': dict(os.environ), 'cwd': os.getcwd(), 'stdin': sys.stdin.read(), 'umask': mask,"
        " 'session': os.getsid(0) == os.getpid(), 'fds': sorted(os.listdir('/proc/self/fd')),"
        " 'blocked': sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), 'status': open('/proc/self/status').read(),"
        " 'oom': int(open('/proc/self/oom_score_adj').read())}), flush=True)\n"
        "print('second line', file=sys.stderr)"
    )
    output = tmp_path / "output"
    ticket = "ticket " * 50_000
    spawn = python(program, env={"PATH": PATH, "A": "b c"}, cwd=str(tmp_path), stdin=ticket, output=str(output))
    await spawner.start(spawn)
    assert (await exits.of(spawn.name)).code == 0
    first, second = output.read_text().splitlines()
    seen = json.loads(first)
    assert second == "second line"
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert seen["stdin"] == ticket
    assert seen["cwd"] == str(tmp_path)
    assert seen["umask"] == 0o077
    assert seen["session"]
    assert seen["fds"] == ["0", "1", "2", "3"], "3 is the listing's own"
    assert seen["blocked"] == []
    # Bit 12 is SIGPIPE and bit 24 SIGXFSZ, which Python ignores in itself; 31 and 32 are the C library's own signals, which `make` leaves
    # ignored in what it starts and which nobody can reset.
    ignored = int(next(line for line in seen["status"].splitlines() if line.startswith("SigIgn")).split()[1], 16)
    assert ignored & ~(1 << 12 | 1 << 24 | 1 << 31 | 1 << 32) == 0
    assert seen["oom"] == 500
    marks = {"ROOST_RUNNER_ID", "ROOST_SPAWNER", "LC_CTYPE"}
    assert {name: value for name, value in seen["env"].items() if name not in marks} == {"PATH": PATH, "A": "b c"}
    assert seen["env"]["ROOST_RUNNER_ID"] == spawn.name


async def test_output_is_appended(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("before\n")
    spawn = run("echo", "after", output=str(output))
    await spawner.start(spawn)
    await exits.of(spawn.name)
    assert output.read_text() == "before\nafter\n"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"argv": ("/does/not/exist",)}, "/does/not/exist cannot be run: No such file or directory"),
        ({"argv": ("/",)}, "/ cannot be run: Permission denied"),
        ({"argv": ()}, "it has no program to run"),
        ({"cwd": "/does/not/exist"}, "its working directory /does/not/exist cannot be entered: No such file or directory"),
        ({"output": "/does/not/exist"}, "its output file /does/not/exist cannot be opened: No such file or directory"),
    ],
)
async def test_what_cannot_be_started_is_an_error_with_a_sentence(
    spawner: Spawner, exits: Exits, fields: dict[str, Any], sentence: str
) -> None:
    spawn = dataclasses.replace(run("true"), **fields)
    with pytest.raises(OSError) as raised:
        await spawner.start(spawn)
    assert str(raised.value) == f"cannot start {spawn.name}: {sentence}"
    assert await spawner.living() == []
    assert exits.all == []


async def test_a_name_is_unique_among_the_living_and_free_again_after(spawner: Spawner, exits: Exits) -> None:
    spawn = run("sleep", "600")
    await spawner.start(spawn)
    with pytest.raises(OSError, match="a process of this name is running"):
        await spawner.start(spawn)
    await spawner.kill(spawn.name)
    await exits.of(spawn.name)
    await spawner.start(spawn)


async def test_living_lists_what_lives_and_how(spawner: Spawner) -> None:
    spawn = run("sleep", "600")
    pid = await spawner.start(spawn)
    assert await spawner.living() == [Living(spawn.name, "runner", pid, "running")]
    os.kill(pid, signal.SIGSTOP)

    async def is_stopped() -> bool:
        return await spawner.living() == [Living(spawn.name, "runner", pid, "stopped")]

    await eventually(is_stopped)


async def test_stop_is_sigterm_to_the_process_alone(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    said = tmp_path / "said"
    child = f"trap 'echo child >> {said}' TERM; echo ready > {tmp_path / 'ready'}; while :; do sleep 0.02; done"
    spawn = run("sh", "-c", f"trap 'echo leader >> {said}; exit 7' TERM; sh -c \"$0\" & while :; do sleep 0.02; done", child)
    await spawner.start(spawn)
    await contents(tmp_path / "ready")
    await spawner.stop(spawn.name, 10_000)
    assert (await exits.of(spawn.name)).code == 7
    assert said.read_text() == "leader\n"


async def test_a_stop_ends_in_sigkill_after_its_grace(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    spawn = run("sh", "-c", f"trap '' TERM; echo ready > {tmp_path / 'ready'}; while :; do sleep 0.02; done")
    await spawner.start(spawn)
    await contents(tmp_path / "ready")
    await spawner.stop(spawn.name, 50)
    exited = await exits.of(spawn.name)
    assert (exited.code, exited.signal, exited.oom_killed) == (None, signal.SIGKILL, False)


async def test_kill_takes_the_whole_group_at_once(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    written = tmp_path / "pid"
    spawn = run("sh", "-c", f"sleep 600 & echo $! > {written}; wait")
    await spawner.start(spawn)
    child = int(await contents(written))
    await spawner.kill(spawn.name)
    await exits.of(spawn.name)
    await ended(child)


async def test_nothing_is_left_of_a_process_that_ended_by_itself(spawner: Spawner, exits: Exits, tmp_path: Path) -> None:
    in_group, in_session, stray = tmp_path / "in group", tmp_path / "in session", tmp_path / "stray"
    program = (
        "import os, subprocess, sys, time\n"
        "group, session, stray, program = sys.argv[1:]\n"
        "one = subprocess.Popen(['sleep', '600'])\n"
        "two = subprocess.Popen(['sleep', '600'], preexec_fn=os.setpgrp)\n"
        "three = subprocess.Popen([sys.executable, '-c', program, stray])\n"
        "three.wait()\n"
        "while not (os.path.exists(stray) and os.path.getsize(stray)): time.sleep(0.005)\n"
        "open(group, 'w').write(str(one.pid))\n"
        "open(session, 'w').write(str(two.pid))\n"
    )
    spawn = python(program, str(in_group), str(in_session), str(stray), STRAY)
    await spawner.start(spawn)
    assert (await exits.of(spawn.name)).code == 0
    for written in (in_group, in_session, stray):
        await ended(int(written.read_text()))


async def test_unknown_names_are_ignored(spawner: Spawner) -> None:
    await spawner.stop("nobody", 10)
    await spawner.kill("nobody")
    assert await spawner.living() == []


async def test_many_at_once_are_each_told_once(spawner: Spawner, exits: Exits) -> None:
    spawns = [run("true") for _ in range(50)]
    pids = await asyncio.gather(*(spawner.start(spawn) for spawn in spawns))
    for spawn in spawns:
        await exits.of(spawn.name)
    assert sorted(exited.pid or 0 for exited in exits.all) == sorted(pids)


async def test_two_hundred_starts_and_stops_of_a_local_spawner_leave_nothing() -> None:
    spawner, exits = LocalSpawner(), Exits()
    spawner.subscribe("runner", exits)
    before = sorted(os.listdir("/proc/self/fd"))
    children = linux.children(os.getpid())
    for number in range(200):
        spawn = run("sleep", "600", stdin="ticket") if number % 2 else run("true", stdin="ticket")
        await spawner.start(spawn)
        await spawner.stop(spawn.name, 5_000)
        await exits.of(spawn.name)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert linux.children(os.getpid()) == children
    assert await spawner.living() == []
