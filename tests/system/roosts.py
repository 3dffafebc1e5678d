"""A real server for system tests: `roost up` in a folder of its own, and what a test does to it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

PATIENCE_S = 60.0
ROOST = (sys.executable, "-m", "roost.cli")


def until(what: str, condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The condition's value as soon as it is true. Fails with `what` when patience ends."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {patience_s:g} s still not: {what}")
        time.sleep(0.02)


@dataclass
class Roost:
    """One `roost up` and its state folder. `start` may be called again after it has ended."""

    home: Path
    cache: Path
    """uv's downloads, shared by all servers of a test run."""
    env: dict[str, str] = field(default_factory=dict[str, str])
    port: int = 0
    host: str = "127.0.0.1"
    up_words: tuple[str, ...] = ()
    """Further words for `roost up`."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        return (self.home / "state" / "run" / "address").read_text().split()[0]

    @property
    def log(self) -> Path:
        return self.home / "up.log"

    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROOST_", "FAL_"))}
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept.get('PATH', '')}"
        return {**kept, "ROOST_HOME": str(self.home), "UV_CACHE_DIR": str(self.cache), **self.env}

    def start(self) -> Roost:
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*ROOST, "up", "--host", self.host, "--port", str(self.port), *self.up_words],
                env=self.environ(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        until("the server answers", self.answers)
        self.port = int(self.address.rpartition(":")[2])
        return self

    @property
    def connect(self) -> str:
        """URL of the CONNECT door (`--connect` among the options)."""
        environment = Path(f"/proc/{self.server_pid()}/environ").read_bytes().split(b"\0")
        return next(f"http://{entry[14:].decode()}" for entry in environment if entry.startswith(b"ROOST_CONNECT="))

    def answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"roost up ended with {self.process.returncode}:\n{self.log.read_text()}")
        return self.health() is not None

    def health(self) -> dict[str, Any] | None:
        with contextlib.suppress(OSError, httpx.HTTPError, ValueError):
            return httpx.get(f"{self.url}/health", timeout=2).json()
        return None

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(45)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    # what people do

    def cli(
        self, *words: str, cwd: Path | None = None, code: int | None = 0, timeout: float = 180, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `code` is the exit code that it must have (None: any)."""
        done = subprocess.run(
            [*ROOST, *words],
            env={**self.environ(), **env},
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, (
                f"roost {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}\n--- server\n{self.log.read_text()[-4000:]}"
            )
        return done

    def begin(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Start a command that goes on (`roost run`)."""
        return subprocess.Popen(
            [*ROOST, *words],
            env={**self.environ(), **env},
            cwd=cwd or self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def deploy(self, app: Path | str, *words: str) -> dict[str, Any]:
        return json.loads(
            self.cli("deploy", str(app), "--json", *words, cwd=app.parent if isinstance(app, Path) and app.is_file() else None).stdout
        )

    @property
    def key(self) -> str:
        for line in (self.home / "config.toml").read_text().splitlines():
            if line.startswith("key = "):
                return line.split('"')[1]
        raise AssertionError("there is no key in config.toml")

    @property
    def owner(self) -> str:
        return str(self.api("GET", "/v1/whoami")["owner"])

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Key {self.key}"}

    def api(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        answer = httpx.request(method, self.url + path, headers=self.auth, timeout=30, **kwargs)
        answer.raise_for_status()
        return answer.json() if answer.content else {}

    def call(
        self, app: str, body: Any = None, *, timeout: float = 60, headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> httpx.Response:
        """Call `name[/path]` of the owner's app."""
        return httpx.request(
            method,
            f"{self.url}/{self.owner}/{app}",
            json={} if body is None else body,
            headers={**self.auth, **(headers or {})},
            timeout=timeout,
        )

    def runners(self, app: str | None = None) -> list[dict[str, Any]]:
        """The living runners, of one app or all."""
        found = self.api("GET", "/v1/runners")["runners"]
        return [r for r in found if r["state"] != "TERMINATED" and (app is None or r["application"].endswith(f"/{app}"))]

    # what is going on below

    def tree(self) -> dict[int, str]:
        """Every process of this server: pid and command line. Found by the state folder in their environment, so that orphans count."""
        found: dict[int, str] = {}
        mark = str(self.home).encode()
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if command and (mark in (folder / "environ").read_bytes() or mark in command):
                    found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def server_pid(self) -> int:
        """The newest server process. By its start, not its number: process ids begin again at the end of their range."""
        return max((pid for pid, command in self.tree().items() if "roost.server" in command), key=started_at)


def started_at(pid: int) -> int:
    """When a process was started, in the kernel's ticks since boot; 0 if it is gone."""
    with contextlib.suppress(OSError):
        # Behind the command's name, which may have spaces and brackets in it.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0


@contextlib.contextmanager
def running(home: Path, cache: Path, *, host: str = "127.0.0.1", up_words: tuple[str, ...] = (), **env: str) -> Iterator[Roost]:
    """A server for a while; everything that it started has ended afterwards, or the test fails."""
    roost = Roost(home, cache, dict(env), host=host, up_words=up_words)
    lend_environments(cache / "envs", roost.home / "state" / "envs")
    roost.start()
    try:
        yield roost
    finally:
        roost.stop()
        lend_environments(roost.home / "state" / "envs", cache / "envs")
        left = until_gone(roost)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    assert not left, f"left behind: {left}"


def lend_environments(source: Path, target: Path) -> None:
    """Hard-link complete environments that the other side lacks: one build of a recipe a test run, as on a server that has run for a while.

    Tests of building use recipes of their own.
    """
    for env in source.glob("[0-9a-f]*"):
        if not (target / env.name).exists():
            target.mkdir(parents=True, exist_ok=True)
            making = target / f".lent-{env.name}"
            shutil.copytree(env, making, symlinks=True, copy_function=os.link)
            making.rename(target / env.name)


def until_gone(roost: Roost, patience_s: float = 10) -> dict[int, str]:
    """What is left of a server's processes after a moment of patience."""
    deadline = time.monotonic() + patience_s
    while (left := roost.tree()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
