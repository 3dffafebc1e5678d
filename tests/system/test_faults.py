"""What is promised when something dies, hangs or misbehaves: named errors, never a hang, never an orphan (faults.md F-07, F-13 ... F-53)."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.system.conftest import APPS
from tests.system.roosts import Roost, running, until
from tests.system.trees import alive

LONG = os.environ.get("ROOST_LONG") == "1"
SERVER_KILLS = 10 if LONG else 2
FLOOD_MB = 400 if LONG else 100

FAULTS = APPS / "faults.py"


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Roost]:
    """A server that is struck again and again by the tests of this file, and must be whole again before the next."""
    with running(tmp_path_factory.mktemp("struck"), cache, ROOST_FAILED_STARTS="1") as roost:
        roost.deploy(f"{FAULTS}::Faults")
        roost.deploy(APPS / "hello.py")
        yield roost


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Where gated handlers say what they do. They end with the test at the latest, so that it costs the next ones no slot."""
    yield tmp_path
    (tmp_path / "go").touch()


def pid_of(roost: Roost, app: str = "faults") -> int:
    return int(roost.call(f"{app}/pid").json()["pid"])


def timed(call: Callable[[], httpx.Response]) -> tuple[httpx.Response | httpx.TransportError, float]:
    """What a caller sees, and when."""
    try:
        answer: httpx.Response | httpx.TransportError = call()
    except httpx.TransportError as error:
        answer = error
    return answer, time.monotonic()


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# kill -9 of the server


@pytest.mark.parametrize("number", range(SERVER_KILLS))
def test_after_kill_9_of_the_server_callers_hear_it_at_once_and_the_same_runners_serve_on(
    struck: Roost, threads: ThreadPoolExecutor, gate: Path, number: int
) -> None:
    runner = pid_of(struck)
    if LONG:
        # One that dies within ten seconds of its start is started again after a pause that doubles (contracts.md).
        until("the server is old enough", lambda: (struck.health() or {"uptime_s": 0})["uptime_s"] > 10.5)

    def gated(name: str) -> tuple[httpx.Response | httpx.TransportError, float]:
        return timed(lambda: struck.call("faults/gated", {"folder": str(gate), "name": name}))

    calls = [threads.submit(gated, name) for name in "abcd"]
    until("four handlers run", lambda: all(lines(gate / name) == ["began"] for name in "abcd"))
    killed_at = time.monotonic()
    os.kill(struck.server_pid(), signal.SIGKILL)
    told_s = 0.0
    for call in calls:
        seen, at = call.result(10)
        assert isinstance(seen, httpx.TransportError), seen
        told_s = max(told_s, at - killed_at)
    assert told_s < 1
    until("the next server answers", struck.health)
    back_s = time.monotonic() - killed_at
    print(f"kill -9 of the server: callers told after {told_s * 1000:.0f} ms, the next server answers after {back_s:.2f} s")
    assert back_s < 4, "2 s on a machine of its own"

    # All four slots are taken by handlers whose callers are gone: a new call waits until one of them has ended.
    waiting = threads.submit(timed, lambda: struck.call("faults/pid"))
    assert [one["pid"] for one in struck.runners("faults")] == [runner]
    assert not waiting.done()
    (gate / "go").touch()
    answer, _ = waiting.result(10)
    assert isinstance(answer, httpx.Response) and answer.json() == {"pid": runner}
    until("the handlers have ended", lambda: all(lines(gate / name) == ["began", "ended"] for name in "abcd"))
    together = [threads.submit(struck.call, "faults/pid") for _ in range(4)]
    assert {one.result(10).json()["pid"] for one in together} == {runner}


# kill -9 of a runner, and what comes to the same


@pytest.mark.parametrize(
    ("how", "path", "named"),
    [
        ("SIGKILL", "die", "signal 9 (SIGKILL)"),
        ("os._exit", "die", "exited with code 0"),
        ("sys.exit", "die", "exited with code 3"),
        ("sys.exit", "die-in-thread", "exited with code 3"),
        ("segfault", "die-in-thread", "signal 11 (SIGSEGV)"),
        ("abort", "die", "signal 6 (SIGABRT)"),
    ],
)
def test_a_runner_that_dies_in_a_call_is_named_within_a_second_and_replaced_within_three(
    struck: Roost, threads: ThreadPoolExecutor, gate: Path, how: str, path: str, named: str
) -> None:
    before = pid_of(struck)
    neighbour = struck.call("hello").headers["x-fal-served-from"]
    beside = threads.submit(timed, lambda: struck.call("faults/gated", {"folder": str(gate), "name": "beside"}))
    until("another call runs there", lambda: lines(gate / "beside"))
    began = time.monotonic()
    answer = struck.call(f"faults/{path}", {"how": how})
    told_s = time.monotonic() - began
    assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_disconnected"), answer.text
    assert named in answer.json()["detail"]
    assert told_s < 1
    assert struck.call("hello").headers["x-fal-served-from"] == neighbour
    other, _ = beside.result(5)
    assert isinstance(other, httpx.Response) and other.json()["error_type"] == "runner_disconnected"
    assert pid_of(struck) != before
    replaced_s = time.monotonic() - began
    print(f"{how}: told after {told_s * 1000:.0f} ms, replaced after {replaced_s:.2f} s")
    assert replaced_s < 5, "3 s on a machine of its own"
    until("it is buried", lambda: not alive(before))


def test_kill_9_of_the_supervisor_takes_everything_along_and_the_next_start_serves_again(struck: Roost, tmp_path: Path) -> None:
    bred = struck.call("faults/breed", {"folder": str(tmp_path)}).json()["pids"]
    until("the tree is whole", lambda: len(struck.tree()) >= 5)
    supervisor = int((struck.home / "state" / "lock").read_text())
    everything = set(struck.tree()) | set(bred)
    assert supervisor in everything
    killed_at = time.monotonic()
    os.kill(supervisor, signal.SIGKILL)
    until("nothing is left", lambda: not any(map(alive, everything)), 10)
    gone_s = time.monotonic() - killed_at
    assert struck.process is not None and struck.process.wait(10) == 128 + signal.SIGKILL
    began = time.monotonic()
    struck.start()
    up_s = time.monotonic() - began
    assert pid_of(struck) not in everything
    assert struck.call("hello").status_code == 200
    print(
        f"everything gone {gone_s:.2f} s after kill -9 of the supervisor; up again in {up_s:.2f} s, both apps answered in {time.monotonic() - began:.2f} s"
    )
    assert gone_s < 5


# kill -9 of a build


SLOW_BACKEND = r"""
import os, time
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import zipfile
    open({folder!r} + "/building", "a").write(str(os.getpid()) + "\n")
    while not os.path.exists({folder!r} + "/go"):
        time.sleep(0.02)
    name = "slowpack-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("slowpack.py", "")
        wheel.writestr("slowpack-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: slowpack\nVersion: 1.0\n")
        wheel.writestr("slowpack-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("slowpack-1.0.dist-info/RECORD", "")
    return name
"""


@pytest.fixture
def slow_app(tmp_path: Path) -> Path:
    """An app with a requirement whose build waits for the file `go`."""
    source = tmp_path / "slowpack"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[project]\nname = "slowpack"\nversion = "1.0"\n[build-system]\nrequires = []\nbuild-backend = "slow_backend"\nbackend-path = ["."]\n'
    )
    (source / "slow_backend.py").write_text(SLOW_BACKEND.format(folder=str(tmp_path)))
    app = tmp_path / "slow_app.py"
    app.write_text(
        "import roost\n\nclass Slow(roost.App):\n"
        f"    requirements = ['slowpack @ file://{source}']\n"
        "    @roost.endpoint('/')\n    def answer(self) -> dict:\n        import slowpack\n        return {'from': slowpack.__name__}\n"
    )
    return app


def uv_of(roost: Roost) -> list[int]:
    return [pid for pid, command in roost.tree().items() if "pip install" in command and "/uv" in command.split()[0]]


def half_built(roost: Roost) -> list[str]:
    return [path.name for path in (roost.home / "state" / "envs").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("victim", ["build", "server"])
def test_kill_9_during_a_build_ends_in_a_clear_error_and_the_next_deploy_works(struck: Roost, slow_app: Path, victim: str) -> None:
    ready = {path.name for path in (struck.home / "state" / "envs").iterdir()}
    deploy = struck.begin("deploy", str(slow_app))
    building = slow_app.parent / "building"
    until("uv builds the package", lambda: lines(building))
    assert half_built(struck)
    backend = int(lines(building)[0])
    killed_at = time.monotonic()
    os.kill(uv_of(struck)[0] if victim == "build" else struck.server_pid(), signal.SIGKILL)
    if victim == "server":
        # The CLI comes back and asks for the same again: the build starts anew.
        until("the build was started again", lambda: len(lines(building)) == 2 or deploy.poll() is not None)
        (slow_app.parent / "go").touch()
    said, _ = deploy.communicate(timeout=60)
    print(f"{victim}: deploy ended with {deploy.returncode} after {time.monotonic() - killed_at:.2f} s:\n{said}")
    assert not alive(backend), "what uv had started ended with it"
    if victim == "build":
        assert deploy.returncode == 1
        assert "killed" in said and "signal 9" in said, said
        assert half_built(struck) == []
        assert {path.name for path in (struck.home / "state" / "envs").iterdir()} == ready
        (slow_app.parent / "go").touch()
        struck.deploy(slow_app)
    else:
        assert deploy.returncode == 0, said
    assert struck.call("slow").json() == {"from": "slowpack"}
    assert half_built(struck) == []
    struck.cli("apps", "delete", "slow")


# handlers that misbehave


@pytest.mark.parametrize("ended_by", ["kill", "stop"])
def test_no_child_or_daemon_of_a_handler_outlives_its_runner(struck: Roost, tmp_path: Path, ended_by: str) -> None:
    bred = struck.call("faults/breed", {"folder": str(tmp_path)}).json()["pids"]
    assert all(map(alive, bred)) and len(bred) == 3
    (runner,) = struck.runners("faults")
    began = time.monotonic()
    struck.api("POST", f"/v1/runners/{runner['runner_id']}/{ended_by}")
    until("the runner is gone", lambda: not alive(runner["pid"]))
    until("its offspring is gone", lambda: not any(map(alive, bred)), 5)
    print(f"{ended_by}: runner and offspring gone after {time.monotonic() - began:.2f} s")


def test_a_handler_that_blocks_its_loop_costs_nobody_else_anything_and_is_ended_by_request_timeout(
    struck: Roost, threads: ThreadPoolExecutor
) -> None:
    struck.deploy(f"{FAULTS}::Impatient")
    before = pid_of(struck, "impatient")
    began = time.monotonic()
    blocking = threads.submit(timed, lambda: struck.call("impatient/block", {"seconds": 600}))
    until("it is shown as running", lambda: [one["state"] for one in struck.runners("impatient")] == ["RUNNING"])
    for _ in range(5):
        at = time.monotonic()
        assert struck.call("hello").status_code == 200
        assert time.monotonic() - at < 1
    answer, told_at = blocking.result(10)
    assert isinstance(answer, httpx.Response) and (answer.status_code, answer.json()["error_type"]) == (504, "request_timeout")
    assert pid_of(struck, "impatient") != before
    until("the blocked one is gone", lambda: not alive(before))
    print(f"blocked loop: 504 after {told_at - began:.2f} s, replaced after {time.monotonic() - began:.2f} s")
    assert 2 <= told_at - began < 4


def test_a_stopped_runner_is_shown_costs_nobody_else_anything_and_is_replaced(
    struck: Roost, threads: ThreadPoolExecutor, gate: Path
) -> None:
    before = pid_of(struck, "impatient")
    os.kill(before, signal.SIGSTOP)
    began = time.monotonic()
    until("the list shows it", lambda: "SIGSTOP" in struck.runners("impatient")[0]["reason"], 10)
    shown_s = time.monotonic() - began
    # A call that comes now is not sent to it, but waits.
    waiting = threads.submit(timed, lambda: struck.call("impatient/pid"))
    assert struck.call("hello").status_code == 200
    assert not waiting.done()
    os.kill(before, signal.SIGCONT)
    answer, _ = waiting.result(10)
    assert isinstance(answer, httpx.Response) and answer.json() == {"pid": before}

    caught = threads.submit(timed, lambda: struck.call("impatient/gated", {"folder": str(gate), "name": "caught"}))
    until("a call runs", lambda: lines(gate / "caught"))
    os.kill(before, signal.SIGSTOP)
    began = time.monotonic()
    answer, told_at = caught.result(10)
    assert isinstance(answer, httpx.Response) and (answer.status_code, answer.json()["error_type"]) == (504, "request_timeout")
    assert pid_of(struck, "impatient") != before
    until("the stopped one is gone", lambda: not alive(before))
    print(f"SIGSTOP: shown after {shown_s:.2f} s, 504 after {told_at - began:.2f} s, replaced after {time.monotonic() - began:.2f} s")
    assert told_at - began < 4


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no VmRSS of {pid}")


def follow(roost: Roost, app: str, began: threading.Event, stop: threading.Event, *, reads: bool) -> int:
    """Follow an app's log until `stop`; answers the bytes that came. Without `reads` nothing is taken from the socket after the first."""
    got = 0
    with httpx.stream("GET", f"{roost.url}/v1/apps/{roost.owner}/{app}/logs?follow=1", headers=roost.auth, timeout=60) as answer:
        for piece in answer.iter_raw():
            got += len(piece)
            began.set()
            if not reads:
                stop.wait()
            if stop.is_set():
                return got
    return got


def test_a_runner_that_prints_without_end_costs_neither_memory_nor_disk_nor_others_logs(struck: Roost, threads: ThreadPoolExecutor) -> None:
    struck.call("faults/flood", {"megabytes": 1})
    (runner,) = struck.runners("faults")
    server = struck.server_pid()
    before_mb = peak_mb = resident_mb(server)
    stop, begun = threading.Event(), [threading.Event(), threading.Event()]
    followers = [threads.submit(follow, struck, "faults", each, stop, reads=number == 0) for number, each in enumerate(begun)]
    try:
        until("both follow", lambda: all(each.is_set() for each in begun))
        began = time.monotonic()
        flood = threads.submit(struck.call, "faults/flood", {"megabytes": FLOOD_MB}, timeout=120)
        while not flood.done():
            peak_mb = max(peak_mb, resident_mb(server))
            time.sleep(0.02)
        assert flood.result().status_code == 200
        flood_s = time.monotonic() - began
        log = struck.home / "state" / "logs" / "runners" / f"{runner['runner_id']}.log"
        assert log.stat().st_size > FLOOD_MB * 900_000
        until("its log is trimmed", lambda: log.stat().st_blocks * 512 < 34 * 1024 * 1024, 20)
        trimmed_s = time.monotonic() - began
        assert "the last line" in struck.cli("apps", "logs", "faults", "--lines", "3").stdout
        assert struck.call("hello", {"name": "after the flood"}).status_code == 200
        until("the other app's log goes on", lambda: "after the flood" in struck.cli("apps", "logs", "hello").stdout)
        peak_mb = max(peak_mb, resident_mb(server))
    finally:
        stop.set()
    read, stuck = (one.result(30) for one in followers)
    print(
        f"{FLOOD_MB} MB printed in {flood_s:.1f} s, server {before_mb:.0f} -> at most {peak_mb:.0f} MB, log trimmed after {trimmed_s:.1f} s; "
        f"a follower read {read / 1e6:.0f} MB, a stuck one {stuck / 1e6:.2f} MB"
    )
    assert peak_mb - before_mb < 60


# starts


def test_a_second_roost_up_on_the_same_state_refuses_within_two_seconds(struck: Roost) -> None:
    began = time.monotonic()
    done = struck.cli("up", "--port", "0", code=1, timeout=20)
    took_s = time.monotonic() - began
    print(f"second `roost up` refused after {took_s:.2f} s: {done.stderr.strip()}")
    assert "already running" in done.stderr and len(done.stderr.strip().splitlines()) <= 2
    assert took_s < 4, "2 s on a machine of its own"
    assert struck.health()


def test_a_port_in_use_is_one_sentence(tmp_path: Path, cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        home = tmp_path / "home"
        home.mkdir()
        done = Roost(home, cache).cli("up", "--port", str(port), code=1, timeout=20)
    assert str(port) in done.stderr and "in use" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2 and "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, cache: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "state").write_text("a file where the folder should be")
    done = Roost(home, cache).cli("up", "--port", "0", code=1, timeout=20)
    assert str(home / "state") in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("raises", "ValueError: the weights are gone"),
        ("hangs", "setup() did not end within startup_timeout 3 s"),
        ("exits", "exited with code 7"),
    ],
)
def test_a_setup_that_fails_later_is_told_to_the_waiting_caller_with_its_reason(
    struck: Roost, tmp_path: Path, mood: str, reason: str
) -> None:
    """ROOST_FAILED_STARTS=1 here: the pauses between further tries are in tests/sim/test_failed_starts.py."""
    name = f"moody-{mood}"
    struck.cli("deploy", f"{FAULTS}::Moody", "--app-name", name, MOOD_FILE=str(tmp_path / "mood"))
    (runner,) = struck.runners(name)
    (tmp_path / "mood").write_text(mood)
    os.kill(runner["pid"], signal.SIGKILL)
    until("it is gone", lambda: not struck.runners(name))
    began = time.monotonic()
    answer = struck.call(name)
    told_s = time.monotonic() - began
    assert (answer.status_code, answer.json()["error_type"]) == (504, "startup_timeout"), answer.text
    assert reason in answer.json()["detail"]
    print(f"{mood}: {told_s:.2f} s: {answer.text}")
    if mood == "raises":
        log = struck.cli("apps", "logs", name).stdout
        assert "the weights are gone" in log and "Traceback" in log
    at = time.monotonic()
    again = struck.call(name)
    assert again.status_code == 504 and int(again.headers["retry-after"]) <= 30
    assert time.monotonic() - at < 1
    struck.cli("apps", "delete", name)
