"""Every guide works when followed to the letter, on a server that has never been used."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.guides import ADDRESS, PATIENCE_S, Reader, Step, steps

GUIDES = sorted((Path(__file__).parent.parent.parent / "docs" / "guides").glob("*.md"))
PROGRAMS = Path(sys.executable).parent
NEEDS = {"javascript": ("npm", "needs Node and npm: apt-get install nodejs npm")}
"""What a guide's reader has besides Python, and what says so."""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a reader's shell knows: our programs on PATH and a state folder of its own."""
    return {
        **os.environ,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "ROOST_HOME": str(tmp_path_factory.mktemp("guides-home")),
        "NO_COLOR": "1",
    }


@pytest.fixture(scope="module")
def address(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`roost up` in a terminal of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log = tmp_path_factory.mktemp("guides-up") / "output"
    with log.open("wb") as output:
        up = subprocess.Popen(
            [PROGRAMS / "roost", "up", "--port", str(port)], env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", up, log)
        yield f"127.0.0.1:{port}"
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(30)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
            raise


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, f"{url} never answered\n{log.read_text()}"
            time.sleep(0.05)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_works_when_followed_to_the_letter(guide: Path, address: str, env: dict[str, str], tmp_path: Path):
    program, message = NEEDS.get(guide.stem, ("", ""))
    if program and not shutil.which(program) and os.environ.get("CI") != "true":
        pytest.skip(message)
    reader = Reader(tmp_path, address, dict(env))
    try:
        reader.follow(guide)
    finally:
        reader.leave()


FOLLOWED_ELSEWHERE = {
    "connect": "tests/system/test_connect.py",
    "reverse-proxy": "tests/system/proxies.py",
}
"""Guides that need another machine, a name of one's own or a port below 1024: what they say is done there, with what can be had here."""


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_does_something_and_looks_at_the_result(guide: Path):
    if (elsewhere := FOLLOWED_ELSEWHERE.get(guide.stem)) is not None:
        assert f"docs/guides/{guide.name}" in (Path(__file__).parent.parent.parent / elsewhere).read_text()
        return
    actions = [step.action for step in steps(guide)]
    assert "run" in actions
    assert "shows" in actions


def test_a_tag_that_nobody_knows_is_an_error(tmp_path: Path):
    (tmp_path / "guide.md").write_text("text\n```sh runn\ntrue\n```\n")
    with pytest.raises(ValueError, match=r"guide\.md:2: .*```sh runn"):
        steps(tmp_path / "guide.md")


def test_a_reader_writes_files_runs_commands_and_looks_at_what_they_print(tmp_path: Path):
    (tmp_path / "guide.md").write_text(
        f"""
```python file=hello.py
print("Hello from http://{ADDRESS}/me/hello")
```
```sh run background
python3 -u hello.py && sleep 60
```
```text shows
http://{ADDRESS}/me/hello
```
```sh run
echo "it is at $URL"
```
```text shows
it is at http://127.0.0.1:1/me/hello
```
```sh
a block to be read only
```
"""
    )
    reader = Reader(tmp_path, "127.0.0.1:1", dict(os.environ))
    try:
        reader.follow(tmp_path / "guide.md")
        assert reader.terminals[0].poll() is None
    finally:
        reader.leave()
    assert reader.terminals[0].returncode is not None


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ("```sh run\nexit 3\n```\n", "exit code 3"),
        ("```sh run\necho one\n```\n```text shows\ntwo\n```\n", "never saw"),
        ("```sh run background\necho one\n```\n```text shows\ntwo\n```\n", "never saw"),
    ],
)
def test_a_guide_that_does_not_work_says_where(tmp_path: Path, step: str, complaint: str):
    (tmp_path / "guide.md").write_text(step)
    with pytest.raises(AssertionError, match=complaint):
        Reader(tmp_path, ADDRESS, dict(os.environ)).follow(tmp_path / "guide.md")


def test_steps_know_their_line(tmp_path: Path):
    (tmp_path / "guide.md").write_text("# One\n\n```sh run\ntrue\n```\n")
    assert steps(tmp_path / "guide.md") == [Step("run", "true\n", "guide.md:3")]
