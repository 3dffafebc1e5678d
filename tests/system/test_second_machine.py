"""As a second machine would: the CLI without the `server` extra, with a home and a network of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from roost.builders.base import BuildSettings
from roost.builders.surroundings import uv_environ
from tests.system.conftest import APPS
from tests.system.roosts import Roost, running, until
from tests.system.talk import Talk

REPO = Path(__file__).parent.parent.parent
NETWORK = ("10.213.7.1", "10.213.7.2")
"""The server's and the second machine's address."""


@dataclass
class Machine:
    """A network namespace with a virtual environment and a home."""

    namespace: str
    venv: Path
    home: Path
    server: str
    key: str

    @property
    def environ(self) -> dict[str, str]:
        """Nothing but what somebody with a new account has."""
        return {
            "PATH": f"{self.venv / 'bin'}:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "ROOST_HOST": self.server,
            "ROOST_KEY": self.key,
        }

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *words]

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
            env=self.environ,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == code, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words),
            env=self.environ,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )


def missing() -> str:
    """What stands in the way, with what to do about it; empty if nothing does."""
    if not shutil.which("ip"):
        return "needs `ip`: apt-get install iproute2"
    if os.geteuid() != 0:
        return "needs root, to make a network namespace: run the tests with sudo"
    if not shutil.which("curl"):
        return "needs curl: apt-get install curl"
    probe = subprocess.run(["ip", "netns", "add", f"rooprobe{os.getpid()}"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"needs network namespaces, and this machine refuses them: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", f"rooprobe{os.getpid()}"], check=False)
    return ""


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """A namespace that is joined to this one by a cable."""
    if reason := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    namespace, here, there = f"roost{os.getpid()}", f"rh{os.getpid()}"[:15], f"rt{os.getpid()}"[:15]
    steps = (
        f"ip netns add {namespace}",
        f"ip link add {here} type veth peer name {there} netns {namespace}",
        f"ip address add {NETWORK[0]}/30 dev {here}",
        f"ip link set {here} up",
        f"ip -n {namespace} address add {NETWORK[1]}/30 dev {there}",
        f"ip -n {namespace} link set {there} up",
        f"ip -n {namespace} link set lo up",
    )
    try:
        for step in steps:
            done = subprocess.run(step.split(), capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{step}: {done.stderr}"
        yield namespace
    finally:
        subprocess.run(["ip", "link", "delete", here], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


@pytest.fixture(scope="module")
def server(network: str, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Roost]:
    """A server that listens on this end of the cable, and nowhere else."""
    with running(tmp_path_factory.mktemp("first-machine"), cache, host=NETWORK[0]) as roost:
        assert roost.address.startswith(f"{NETWORK[0]}:")
        yield roost


@pytest.fixture(scope="module")
def machine(network: str, server: Roost, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Machine:
    folder = tmp_path_factory.mktemp("second-machine")
    venv, home = folder / "venv", folder / "home"
    home.mkdir()
    uv = [sys.executable, "-m", "uv"]
    # As the server's own builds run uv: it then trusts this machine's certificates.
    env = uv_environ({**os.environ, "UV_CACHE_DIR": str(cache)}, BuildSettings(), cache, home)
    # The interpreter below this virtual environment: one with its own packages only.
    python = str(Path(sys.executable).resolve())
    for words in (["venv", "--python", python, str(venv)], ["pip", "install", "--python", str(venv / "bin/python"), str(REPO)]):
        done = subprocess.run([*uv, *words], env=env, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
    shutil.copy(APPS / "hello.py", home)
    shutil.copy(APPS / "live.py", home)
    return Machine(network, venv, home, f"{server.address}", server.key)


def test_the_second_machine_has_the_authors_side_only_and_its_own_network(machine: Machine, server: Roost) -> None:
    refused = machine.run("roost", "up", code=1)
    assert "pip install 'roost[server]'" in refused.stderr
    assert not (machine.home / ".roost").exists()
    # The loopback of the second machine is not the server's.
    port = server.address.rpartition(":")[2]
    assert "Nothing answers" in machine.run("roost", "apps", "list", "--host", f"127.0.0.1:{port}", code=1).stderr


def test_deploy_call_and_logs_from_a_second_machine(machine: Machine, server: Roost) -> None:
    said = machine.run("roost", "deploy", "hello.py")
    urls = re.findall(r"^(?:URL)?\s+(http://\S+)$", said.stdout, re.MULTILINE)
    assert urls == [f"http://{server.address}/{server.owner}/hello"]
    (curl,) = [line.strip() for line in said.stdout.splitlines() if line.startswith("  curl")]
    pasted = machine.run("sh", "-c", f"{curl} -sS --fail-with-body")
    assert pasted.stdout == '{"text":"Hello, world!"}'
    assert machine.run("roost", "call", "hello", "name=Ada").stdout == '{"text":"Hello, Ada!"}'
    assert "greeting Ada" in until(
        "the log", lambda: "greeting Ada" in (log := machine.run("roost", "apps", "logs", "hello").stdout) and log
    )


def test_run_from_a_second_machine(machine: Machine, server: Roost) -> None:
    with Talk(machine.begin("roost", "run", "live.py")) as talk:
        talk.says("Ctrl-C ends it")
        url = talk.url()
        assert url.startswith(f"http://{server.address}/")
        (curl,) = [line.strip() for line in talk.lines("  curl")]
        assert '"mark":"one"' in machine.run("sh", "-c", f"{curl} -sS --fail-with-body").stdout
        talk.says("| end ")
        # `ip netns exec` becomes the command, so that this is its Ctrl-C.
        with contextlib.suppress(ProcessLookupError):
            talk.process.send_signal(signal.SIGINT)
        assert talk.ends(30) == 0
        assert machine.run("sh", "-c", f"curl -sS -o /dev/null -w '%{{http_code}}' -d '{{}}' {url}").stdout == "404"
