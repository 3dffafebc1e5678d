"""`roost demo`: a stranger's first command. It uses a server or starts one, is honest about answers, and leaves nothing running.

Here with `hello` alone; tests/docs follows the guide that runs all three examples.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import roost as installed
from tests.system.roosts import Roost, until, until_gone


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package whose only example is hello, under a name that no other test uses: a folder for PYTHONPATH."""
    folder = tmp_path / "package"
    shutil.copytree(Path(installed.__file__).parent, folder / "roost", ignore=shutil.ignore_patterns("__pycache__"))
    example = folder / "roost" / "examples" / "hello.py"
    example.write_text(example.read_text().replace("class Hello(", "class Greeting("))
    expect(folder, "Hello, Ada!")
    return folder


def expect(package: Path, text: str) -> None:
    index = package / "roost" / "examples" / "index.json"
    (hello,) = [row for row in json.loads(index.read_text()) if row["name"] == "hello"]
    index.write_text(json.dumps([{**hello, "app": "hello.py::Greeting", "expect": [text]}]))


@pytest.fixture
def stranger(tmp_path: Path, cache: Path) -> Iterator[Roost]:
    """Somebody with an empty state folder and no server. What is still running in the end was left behind."""
    home = tmp_path / "home"
    home.mkdir()
    someone = Roost(home, cache)
    yield someone
    left = until_gone(someone, 30)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"left behind: {left}"


def demo(someone: Roost, package: Path, log: Path, *words: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "roost.cli", "demo", *words],
            env={**someone.environ(), "PYTHONPATH": str(package)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def serving(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until a demo has nothing left to do but serve, and answer what it has printed."""
    until("the demo serves", lambda: "until Ctrl-C" in log.read_text() or process.poll() is not None)
    assert process.poll() is None, log.read_text()
    return log.read_text()


def test_the_demo_starts_a_server_whose_printed_line_works_and_ctrl_c_ends_all(stranger: Roost, package: Path, tmp_path: Path):
    process = demo(stranger, package, log := tmp_path / "log")
    said = serving(process, log)
    assert re.search(r"^✓ hello: .*\n    Hello, Ada!\n  cold \d+ ms, warm \d+ ms$", said, re.MULTILINE), said
    (line,) = re.findall(r"^  (curl .*)$", said, re.MULTILINE)
    pasted = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(pasted.stdout) == {"text": "Hello, Ada!"}
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert until_gone(stranger) == {}


def test_a_demo_that_is_killed_takes_its_server_along(stranger: Roost, package: Path, tmp_path: Path):
    process = demo(stranger, package, log := tmp_path / "log")
    serving(process, log)
    process.kill()
    process.wait()
    assert until_gone(stranger, 30) == {}


def test_ctrl_c_in_the_middle_ends_the_server_too(stranger: Roost, package: Path, tmp_path: Path):
    process = demo(stranger, package, log := tmp_path / "log")
    until("the demo deploys", lambda: "Accepted as" in log.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130, log.read_text()
    assert until_gone(stranger) == {}


def test_a_server_that_ends_under_a_demo_is_an_error(stranger: Roost, package: Path, tmp_path: Path):
    process = demo(stranger, package, log := tmp_path / "log")
    serving(process, log)
    # SIGTERM to all of it at once, as a machine that shuts down sends it; some are gone before their turn comes.
    for pid in set(stranger.tree()) - {process.pid}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    assert process.wait(30) == 1
    assert "✗ The server ended." in log.read_text()


def test_with_a_server_there_the_demo_uses_it_again_and_again_and_leaves_it(roost: Roost, package: Path):
    pid = roost.server_pid()
    for _ in range(2):
        done = roost.cli("demo", "--json", PYTHONPATH=str(package))
        (answer,) = json.loads(done.stdout)["answers"]
        assert (answer["name"], answer["shown"], answer["is_right"]) == ("hello", "Hello, Ada!", True)
        assert 0 < answer["warm_s"] < answer["cold_s"]
        assert f"{roost.url} was there before" in done.stderr
        assert "Authorization: Key $(" in answer["curl"], "nothing on a server of somebody's is made public unasked"
        assert httpx.post(answer["url"], json={}).status_code == 401
    assert roost.server_pid() == pid


def test_a_wrong_answer_is_shown_and_is_exit_code_1(roost: Roost, package: Path):
    expect(package, "Good evening")
    done = roost.cli("demo", "--once", code=1, PYTHONPATH=str(package))
    assert "✗ hello" in done.stdout
    assert "Wrong answers: hello." in done.stderr
