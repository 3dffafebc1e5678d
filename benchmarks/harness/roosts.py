"""A real `roost up` in a folder of its own, and what a subject does to it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import http, processes
from benchmarks.harness.programs import Broken, program, until
from benchmarks.harness.wrk import Post

_ROOST = (sys.executable, "-m", "roost.cli")


@dataclass(frozen=True, slots=True)
class Roost:
    """One server; `pid` is that of `roost up`, of which all else descends."""

    home: Path
    pid: int
    env: dict[str, str]

    @property
    def port(self) -> int:
        return int((self.home / "state" / "run" / "address").read_text().split()[0].rpartition(":")[2])

    @property
    def auth(self) -> dict[str, str]:
        for line in (self.home / "config.toml").read_text().splitlines():
            if line.startswith("key = "):
                return {"authorization": f"Key {line.split(chr(34))[1]}"}
        raise Broken(f"{self.home}/config.toml has no key")

    def api(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = http.call(self.port, path, json.dumps(body).encode() if body is not None else b"", self.auth, method)
        if answer.status >= 400:
            raise Broken(f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}")
        return json.loads(answer.body) if answer.body else {}

    def deploy(self, app: Path, python_path: Path | None = None) -> str:
        """Deploy an app as private; answers its path on the port, `/owner/name`. `python_path`: packages that its module imports."""
        paths = [str(path) for path in (python_path, self.env.get("PYTHONPATH")) if path]
        env = {**self.env, "PYTHONPATH": os.pathsep.join(paths)} if paths else self.env
        words = [*_ROOST, "deploy", str(app), "--auth", "private", "--json"]
        done = subprocess.run(
            words, env=env, cwd=app.parent, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=600
        )
        if done.returncode:
            raise Broken(f"roost deploy {app.name}: exit {done.returncode}\n{done.stderr[-4000:]}")
        path = f"/{self.api('GET', '/v1/whoami')['owner']}/{json.loads(done.stdout)['app_name']}"
        if http.call(self.port, path).status != 401:
            raise Broken(f"{path} answers without a key: what is measured is a private app")
        return path

    def call(self, path: str, body: bytes = b"{}", **headers: str) -> http.Answer:
        """Call an app; `headers` with _ for -."""
        answer = http.call(self.port, path, body, {**self.auth, **{name.replace("_", "-"): value for name, value in headers.items()}})
        if answer.status != 200:
            raise Broken(f"POST {path}: {answer.status} {answer.body.decode(errors='replace')[:1000]}")
        return answer

    def post(self, path: str, body: str = "{}") -> Post:
        return Post(f"http://127.0.0.1:{self.port}{path}", body, self.auth)

    def runners(self, path: str) -> list[dict[str, Any]]:
        """The living runners of an app."""
        found = self.api("GET", f"/v1/runners?app={path.strip('/')}")["runners"]
        return [runner for runner in found if runner["state"] != "TERMINATED"]

    def stop_runners(self, path: str, *, kill: bool = False) -> None:
        """Back when the app has none that lives."""
        for runner in self.runners(path):
            self.api("POST", f"/v1/runners/{runner['runner_id']}/{'kill' if kill else 'stop'}")
        until(f"no runner of {path} lives", lambda: not self.runners(path), every_s=0.01)

    def tree(self) -> list[int]:
        return processes.tree(self.pid)

    def server_pid(self) -> int:
        """The process that serves HTTP."""
        for pid in self.tree():
            with contextlib.suppress(OSError):
                if "roost.server" in processes.command(pid):
                    return pid
        raise Broken("roost up has no server process")


@contextlib.contextmanager
def roost_up(home: Path, cache: Path, **settings: str) -> Iterator[Roost]:
    """A server for a while. `settings` are variables of its environment; `cache` keeps the packages that uv has downloaded."""
    home.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ROOST_", "FAL_"))}
    inherited["PATH"] = f"{Path(sys.executable).parent}:{inherited.get('PATH', '')}"
    env = {**inherited, "ROOST_HOME": str(home), "UV_CACHE_DIR": str(cache), **settings}
    log = home / "up.log"
    with program([*_ROOST, "up", "--port", "0"], log, env) as process:

        def answers() -> bool:
            if process.poll() is not None:
                raise Broken(f"roost up ended with {process.returncode}:\n{log.read_text()[-4000:]}")
            with contextlib.suppress(OSError, IndexError):
                return http.call(roost.port, "/health", method="GET", timeout_s=2).status == 200
            return False

        roost = Roost(home, process.pid, env)
        until("the server answers", answers)
        yield roost
