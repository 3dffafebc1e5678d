"""The process tree with a server that only knows the channel: what is promised when something in it is killed, stopped or restarted."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roost.kit import linux
from tests.system.trees import APPS, TestTree, alive, eventually, processes_with

StartTree = Callable[..., TestTree]

# Leaves its session, its process group and its parent, and writes its pid where the test finds it.
STRAY = "import os, sys, time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def start_tree(home: Path) -> Iterator[StartTree]:
    trees: list[TestTree] = []

    def start(**options: Any) -> TestTree:
        trees.append(TestTree(home, **options))
        return trees[-1]

    yield start
    for tree in trees:
        tree.kill()
    eventually(lambda: not processes_with(str(home)))


@pytest.fixture
def tree(start_tree: StartTree) -> TestTree:
    return start_tree().wait_until_serving()


def test_it_opens_its_sockets_and_folders_for_its_user_only(tree: TestTree, home: Path) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(home / "state") == 0o700
    assert mode(home / "state/run/link.sock") == 0o600
    assert tree.address[1] != 0
    assert linux.stat(tree.pid) is not None


def test_a_second_supervisor_on_the_same_folder_refuses_within_two_seconds(tree: TestTree, start_tree: StartTree) -> None:
    before = time.monotonic()
    second = start_tree()
    assert second.guard.wait(10) == 1
    assert time.monotonic() - before < 2
    assert f"already running (pid {tree.pid})" in second.talk()
    assert tree.ask("pid")


def test_a_port_in_use_is_one_sentence_and_exit_code_one(start_tree: StartTree, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        tree = start_tree(listen=[f"127.0.0.1:{taken.getsockname()[1]}"])
        assert tree.guard.wait(10) == 1
    lines = tree.talk().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("roost: the port of 127.0.0.1:")
    assert not (home / "state/run/link.sock").exists()


def test_wrong_settings_end_it_instead_of_being_tried_again(start_tree: StartTree, home: Path) -> None:
    home.mkdir()
    (home / "die_while_loading").write_text("78")
    tree = start_tree()
    assert tree.guard.wait(10) == 1
    assert tree.talk().count("server.started") == 1
    assert "settings are wrong" in tree.talk()


def test_a_server_that_never_serves_is_given_up(start_tree: StartTree, home: Path) -> None:
    home.mkdir()
    (home / "die_while_loading").write_text("1")
    tree = start_tree()
    assert tree.guard.wait(20) == 1
    assert "before it could serve" in tree.talk()


def test_after_a_crash_of_the_server_the_same_runners_live_on_and_builds_do_not(tree: TestTree) -> None:
    server = tree.ask("pid")
    runner = tree.start("runner", "sleep", "600")
    build = tree.start("build", "sleep", "600", kind="build")
    before = time.monotonic()
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not alive(server))
    assert tree.ask("pid") != server
    assert time.monotonic() - before < 2
    assert [(one["name"], one["pid"]) for one in tree.ask("living")] == [("runner", runner)]
    assert not alive(build)
    assert tree.exits() == {}


def test_an_exit_is_repeated_to_the_next_server_until_it_is_acknowledged(tree: TestTree) -> None:
    tree.start("short", "false")
    eventually(lambda: "short" in tree.exits())
    for _ in range(2):
        os.kill(tree.ask("pid"), signal.SIGKILL)
        eventually(lambda: tree.exits().get("short", {}).get("code") == 1)
    tree.ask("acknowledge", names=["short"])
    os.kill(tree.ask("pid"), signal.SIGKILL)
    assert eventually(lambda: tree.ask("living") == [])
    assert tree.exits() == {}


def test_a_grace_ends_in_sigkill_also_when_the_server_died_meanwhile(tree: TestTree, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    runner = tree.start("stubborn", "sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done")
    eventually(ready.exists)
    tree.ask("stop", name="stubborn", grace_ms=400)
    os.kill(tree.ask("pid"), signal.SIGKILL)
    assert alive(runner)
    eventually(lambda: not alive(runner))
    assert eventually(lambda: tree.exits().get("stubborn"))["signal"] == signal.SIGKILL


def test_a_planned_restart_costs_no_call(tree: TestTree, tmp_path: Path) -> None:
    old = tree.ask("pid")
    runner = tree.start("runner", "sleep", "600")
    failed: list[BaseException] = []
    slowest = 0.0
    served_by: set[int] = set()
    stop = threading.Event()

    def call_all_the_time() -> None:
        nonlocal slowest
        while not stop.is_set():
            before = time.monotonic()
            try:
                served_by.add(tree.ask("pid"))
            except OSError as error:
                failed.append(error)
            slowest = max(slowest, time.monotonic() - before)

    in_flight: list[int] = []
    slow = threading.Thread(target=lambda: in_flight.append(tree.ask("wait_for", path=str(tmp_path / "go on"))))
    callers = [threading.Thread(target=call_all_the_time) for _ in range(4)]
    for thread in (slow, *callers):
        thread.start()
    for _ in range(3):
        serving = tree.ask("pid")
        tree.ask("restart")
        eventually(lambda serving=serving: tree.ask("pid") != serving)
    stop.set()
    for caller in callers:
        caller.join()
    assert alive(old), "it has a call in flight"
    (tmp_path / "go on").touch()
    slow.join()
    assert in_flight == [old]
    eventually(lambda: not alive(old))
    assert failed == []
    assert slowest < 2
    assert len(served_by) == 4
    assert [one["pid"] for one in tree.ask("living")] == [runner]


@pytest.mark.parametrize(("flag", "content"), [("die_while_loading", "3"), ("never_load", "")])
def test_a_new_server_that_cannot_load_is_abandoned_and_the_old_one_serves_on(
    start_tree: StartTree, home: Path, flag: str, content: str
) -> None:
    tree = start_tree(limits={"load_ms": 500}).wait_until_serving()
    server = tree.ask("pid")
    (home / flag).write_text(content)
    tree.ask("restart")
    eventually(lambda: "server.restart_failed" in tree.talk())
    assert tree.ask("pid") == server
    (home / flag).unlink()
    tree.ask("restart")
    eventually(lambda: tree.ask("pid") != server)


def test_a_server_that_never_hands_over_is_replaced(start_tree: StartTree, home: Path) -> None:
    tree = start_tree(limits={"load_ms": 1_500}).wait_until_serving()
    server = tree.ask("pid")
    (home / "never_hand_over").touch()
    tree.ask("restart")
    eventually(lambda: not alive(server))
    assert tree.ask("pid") != server


def test_calls_in_flight_get_a_limited_time_after_a_restart(start_tree: StartTree, tmp_path: Path) -> None:
    tree = start_tree(limits={"leaving_ms": 300}).wait_until_serving()
    server = tree.ask("pid")
    with socket.create_connection(tree.address) as call:
        call.sendall(b'{"op": "wait_for", "path": "/never"}\n')
        tree.ask("pid")
        tree.ask("restart")
        eventually(lambda: not alive(server))
    assert "calls in flight not finished" in tree.talk()


def test_sighup_to_roost_up_is_a_planned_restart(tree: TestTree) -> None:
    server = tree.ask("pid")
    tree.guard.send_signal(signal.SIGHUP)
    eventually(lambda: tree.ask("pid") != server)


def test_sigterm_ends_servers_then_runners_and_leaves_nothing(tree: TestTree, home: Path, tmp_path: Path) -> None:
    server = tree.ask("pid")
    said = tmp_path / "said"
    tree.start("polite", "sh", "-c", f"trap 'echo bye > {said}; exit 0' TERM; touch {said}; while :; do sleep 0.02; done")
    eventually(said.exists)
    assert tree.end(signal.SIGTERM) == 0
    assert (home / f"finished-{server}").exists()
    assert said.read_text() == "bye\n"
    assert list((home / "state/run").iterdir()) == []
    assert processes_with(str(home)) == []


def test_a_second_interrupt_ends_everything_at_once(tree: TestTree, home: Path) -> None:
    with socket.create_connection(tree.address) as call:
        call.sendall(b'{"op": "wait_for", "path": "/never"}\n')
        tree.ask("pid")
        tree.guard.send_signal(signal.SIGINT)
        eventually(lambda: "supervisor.stopping" in tree.talk())
        before = time.monotonic()
        assert tree.end(signal.SIGINT) == 130
        assert time.monotonic() - before < 1
    assert processes_with(str(home)) == []
    assert list((home / "state/run").iterdir()) == []


@pytest.mark.parametrize("victim", ["supervisor", "guard"])
def test_killing_either_of_the_two_at_the_top_leaves_nothing_and_the_next_start_is_clean(
    tree: TestTree, start_tree: StartTree, home: Path, tmp_path: Path, victim: str
) -> None:
    tree.start("runner", "sh", "-c", "sleep 600 & sleep 600")
    tree.start("build", "sleep", "600", kind="build")
    tree.start("with stray", "sh", "-c", f'{sys.executable} -c "$0" {tmp_path / "stray"}; exec sleep 600', STRAY)
    tree.start("with subprocess", sys.executable, "-c", f"import subprocess; subprocess.run({['setsid', 'sleep', '600']!r})")
    # The guard, the supervisor, the server; at least two of the first runner; one build; two; two.
    eventually(lambda: len(processes_with(str(home))) >= 10)
    os.kill(tree.pid if victim == "supervisor" else tree.guard.pid, signal.SIGKILL)
    tree.guard.wait(10)
    eventually(lambda: processes_with(str(home)) == [], 5)
    assert start_tree().wait_until_serving().ask("living") == []


def test_the_kernel_ends_servers_and_runners_even_if_the_guard_cannot(tree: TestTree) -> None:
    pids = [tree.ask("pid"), tree.start("runner", "sleep", "600"), tree.start("build", "sleep", "600", kind="build")]
    tree.guard.send_signal(signal.SIGSTOP)
    os.kill(tree.pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, pids)))
    tree.guard.send_signal(signal.SIGCONT)
    assert tree.guard.wait(10) == 128 + signal.SIGKILL


def test_what_a_runner_leaves_behind_ends_with_it_and_not_before(tree: TestTree, tmp_path: Path) -> None:
    written = tmp_path / "stray"
    tree.start("parent", "sh", "-c", f'{sys.executable} -c "$0" {written}; exec sleep 600', STRAY)
    stray = eventually(lambda: int(written.read_text() or 0) if written.exists() else None)
    other = tree.start("other", "true")
    eventually(lambda: not alive(other))
    facts = linux.stat(stray)
    assert facts is not None and facts.parent == tree.pid
    tree.ask("kill", name="parent")
    eventually(lambda: linux.stat(stray) is None, 1)
    assert [pid for pid in linux.children(tree.pid) if not alive(pid)] == []


def test_an_end_is_told_within_fifty_milliseconds(tree: TestTree) -> None:
    runner = tree.start("runner", "sleep", "600")
    before = time.monotonic()
    os.kill(runner, signal.SIGKILL)
    exited = eventually(lambda: tree.exits().get("runner"))
    # The limit and what asking costs on a busy machine.
    assert time.monotonic() - before < 0.25
    assert (exited["code"], exited["signal"], exited["oom_killed"]) == (None, signal.SIGKILL, False)


def test_a_stopped_runner_is_told_apart(tree: TestTree) -> None:
    runner = tree.start("runner", "sleep", "600")
    assert tree.ask("living")[0]["state"] == "running"
    os.kill(runner, signal.SIGSTOP)
    eventually(lambda: tree.ask("living")[0]["state"] == "stopped")
    tree.ask("kill", name="runner")
    eventually(lambda: tree.ask("living") == [])


def test_two_hundred_starts_and_stops_leave_nothing(tree: TestTree, tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{tree.pid}/fd"))

    def one_round(number: int) -> None:
        tree.start(f"short-{number}", "true", stdin="ticket", output=str(tmp_path / "log"))
        tree.start(f"long-{number}", "sleep", "600", stdin="ticket", output=str(tmp_path / "log"))
        tree.ask("stop", name=f"long-{number}", grace_ms=1_000)

    one_round(-1)
    eventually(lambda: tree.names() == set())
    before = descriptors()
    folders = {path for path in Path("/tmp").iterdir() if path.name.startswith("roost-")}
    for number in range(100):
        one_round(number)
    eventually(lambda: tree.names() == set())
    assert descriptors() == before
    assert len(linux.children(tree.pid)) == 1
    assert {path for path in Path("/tmp").iterdir() if path.name.startswith("roost-")} == folders
    exits = tree.exits()
    assert sum(exited["code"] == 0 for exited in exits.values()) == 101
    assert sum(exited["signal"] == signal.SIGTERM for exited in exits.values()) == 101


def test_a_home_with_a_long_path_still_gets_a_link_socket(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    tree = TestTree(home)
    try:
        tree.wait_until_serving()
        assert not (home / "state/run/link.sock").exists()
        environment = Path(f"/proc/{tree.ask('pid')}/environ").read_bytes().split(b"\0")
        path = next(Path(os.fsdecode(entry[16:])) for entry in environment if entry.startswith(b"ROOST_LINK_PATH="))
        assert path.is_socket()
        assert tree.end() == 0
        assert not path.parent.exists()
    finally:
        tree.kill()


def open_tunnel(tree: TestTree, to: str) -> socket.socket:
    """A connection through the CONNECT door. Raises OSError where a caller would see an error."""
    host, _, port = tree.connect.rpartition(":")
    one = socket.create_connection((host, int(port)), 10)
    one.sendall(f"CONNECT {to} HTTP/1.1\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (data := one.recv(1)):
            raise ConnectionResetError(f"closed after {head!r}")
        head += data
    assert head.startswith(b"HTTP/1.1 200 "), head
    return one


def ask_through_the_door(tree: TestTree) -> int:
    """The pid of the server that answers to a name which clients have built in."""
    with open_tunnel(tree, "queue.fal.run:443") as one:
        one.sendall(b'{"op": "pid"}\n')
        with one.makefile() as file:
            return int(file.readline())


def test_the_front_is_kept_alive_and_no_call_waits_for_it_in_vain(start_tree: StartTree) -> None:
    tree = start_tree(connect=["127.0.0.1:0"]).wait_until_serving()
    first = tree.front
    server = ask_through_the_door(tree)
    assert server == tree.ask("pid")
    held = open_tunnel(tree, f"127.0.0.1:{tree.address[1]}")
    time.sleep(1)  # one that dies young waits longer
    before = time.monotonic()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not alive(first))
    assert ask_through_the_door(tree) == server, "callers that come meanwhile wait in the backlog"
    assert time.monotonic() - before < 2
    assert tree.front != first
    assert held.recv(1) == b"", "a tunnel ends with the process that kept it"
    held.close()
    assert tree.ask("pid") == server
    assert tree.ask("living") == [] and tree.exits() == {}, "it is no server's business"


def test_through_the_door_a_new_server_answers_after_a_crash_and_after_a_restart(start_tree: StartTree) -> None:
    tree = start_tree(connect=["127.0.0.1:0"]).wait_until_serving()
    front, server = tree.front, ask_through_the_door(tree)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not alive(server))
    successor = ask_through_the_door(tree)
    assert successor != server
    tree.ask("restart")
    eventually(lambda: ask_through_the_door(tree) != successor)
    assert tree.front == front, "it is neither server's"


def test_the_front_outlives_the_servers_when_everything_is_stopped(start_tree: StartTree, home: Path, tmp_path: Path) -> None:
    tree = start_tree(connect=["127.0.0.1:0"]).wait_until_serving()
    with open_tunnel(tree, "fal.run:443") as call:
        call.sendall(json.dumps({"op": "wait_for", "path": str(tmp_path / "go on")}).encode() + b"\n")
        tree.ask("pid")
        tree.guard.send_signal(signal.SIGTERM)
        eventually(lambda: "supervisor.stopping" in tree.talk())
        (tmp_path / "go on").touch()
        with call.makefile() as file:
            assert int(file.readline())
    assert tree.guard.wait(20) == 0
    assert processes_with(str(home)) == []


def test_a_front_that_cannot_run_is_tried_again_while_the_server_serves(start_tree: StartTree, tmp_path: Path) -> None:
    tree = start_tree(connect=["127.0.0.1:0"], front=["-c", "raise SystemExit(3)"]).wait_until_serving()
    eventually(lambda: tree.talk().count("front.exited") >= 3)
    assert tree.ask("pid")


@pytest.mark.parametrize("key", [b"\x03", b""], ids=["Ctrl-C", "closing it"])
def test_a_terminal_ends_it_gracefully(home: Path, key: bytes) -> None:
    arguments = [sys.executable, str(APPS / "tree.py"), json.dumps({"home": str(home), "server": [str(APPS / "fake_server.py")]})]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(arguments[0], arguments)
    try:
        shown = b""
        while b"server.serving" not in shown:
            shown += os.read(terminal, 4096)
        if key:
            os.write(terminal, key)
            while b"server.exited number=1 pid=" not in shown:
                shown += os.read(terminal, 4096)
            assert shown.count(b"supervisor.stopping why=SIGINT") == 1
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(list(home.glob("finished-*"))) == 1, "the server was asked, and ended by itself"
    assert processes_with(str(home)) == []


def test_the_front_loads_nothing_of_the_server() -> None:
    program = "import roost.front.__main__, sys; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split())
    assert loaded.isdisjoint({"uvloop", "httptools", "uvicorn", "pydantic", "fastapi", "httpx", "cryptography", "apsw"})
    assert {name.split(".")[1] for name in loaded if name.startswith("roost.")} == {"front", "kit", "wire"}


def test_it_loads_nothing_of_the_app_stack() -> None:
    program = "import roost.supervisor.main, sys; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split())
    assert loaded.isdisjoint({"asyncio", "pydantic", "fastapi", "httpx", "typer", "rich", "uvicorn", "apsw"})
    ours = {name.split(".")[1] for name in loaded if name.startswith("roost.")}
    assert ours <= {"supervisor", "kit", "wire"}


def test_an_interrupt_while_it_starts_is_not_lost(start_tree: StartTree, home: Path) -> None:
    tree = start_tree()
    with contextlib.suppress(FileNotFoundError):
        eventually(lambda: (home / "state/lock").exists() and (home / "state/lock").read_text())
    tree.guard.send_signal(signal.SIGINT)
    assert tree.guard.wait(10) == 0
    assert processes_with(str(home)) == []
