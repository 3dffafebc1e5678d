"""A real process tree for a test: started, asked, watched, and ended whatever happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from roost.kit import linux

APPS = Path(__file__).parent.parent / "apps"
T = TypeVar("T")


def eventually(look: Callable[[], T | None], limit_s: float = 10) -> T:
    """The first truthy answer of `look`."""
    deadline = time.monotonic() + limit_s
    while not (answer := look()):
        assert time.monotonic() < deadline, f"still {answer!r} after {limit_s} s"
        time.sleep(0.005)
    return answer


def alive(pid: int) -> bool:
    facts = linux.stat(pid)
    return facts is not None and facts.state != "Z"


def processes_with(mark: str) -> list[int]:
    """Everything whose environment mentions `mark`, such as a test's own folder."""
    found: list[int] = []
    for pid in linux.processes():
        try:
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes() and alive(pid):
                found.append(pid)
        except OSError:
            continue
    return found


def _is_front(pid: int) -> bool:
    return linux.environment_value(pid, "ROOST_CONNECT_FDS") is not None


class TestTree:
    """One `roost up` with the fake server on a folder."""

    __test__ = False

    def __init__(self, home: Path, **options: Any) -> None:
        self.home = home
        self.log = home.parent / f"{home.name}.log"
        told = {"home": str(home), "server": [str(APPS / "fake_server.py")], **options}
        with self.log.open("ab") as log:
            # In a session of its own: what is sent to this test's terminal is no part of the test.
            self.guard = subprocess.Popen(
                [sys.executable, str(APPS / "tree.py"), json.dumps(told)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MARK": str(home)},
            )

    @property
    def pid(self) -> int:
        """The supervisor's own pid, as the lock file says."""
        return int((self.home / "state" / "lock").read_text())

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = (self.home / "state" / "run" / "address").read_text().splitlines()[0].rpartition(":")
        return host, int(port)

    def wait_until_serving(self) -> TestTree:
        eventually(self._listens)
        self.ask("pid")
        return self

    def _listens(self) -> bool:
        assert self.guard.poll() is None, self.talk()
        try:
            facts = linux.stat(self.pid)
        except (OSError, ValueError):
            return False
        # Not what the one before left there.
        return facts is not None and facts.parent == self.guard.pid and (self.home / "state/run/address").exists()

    @property
    def connect(self) -> str:
        """Where the CONNECT door is, as servers are told it."""
        return linux.environment_value(self.ask("pid"), "ROOST_CONNECT") or ""

    @property
    def front(self) -> int:
        """The pid of the living front."""
        return eventually(lambda: next((pid for pid in linux.children(self.pid) if alive(pid) and _is_front(pid)), None))

    def ask(self, op: str, limit_s: float = 10, **fields: Any) -> Any:
        """One call over the listening socket. Raises OSError where a caller would see an error."""
        with socket.create_connection(self.address, limit_s) as one:
            one.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            with one.makefile() as file:
                line = file.readline()
        if not line:
            raise ConnectionResetError("closed without an answer")
        return json.loads(line)

    def start(self, name: str, *argv: str, kind: str = "runner", **fields: Any) -> int:
        answer = self.ask("start", name=name, kind=kind, argv=argv, env={"PATH": os.environ["PATH"], "MARK": str(self.home)}, **fields)
        assert isinstance(answer, int), answer
        return answer

    def names(self) -> set[str]:
        return {living["name"] for living in self.ask("living")}

    def exits(self) -> dict[str, dict[str, Any]]:
        return {exited["name"]: exited for exited in self.ask("exits")}

    def talk(self) -> str:
        return self.log.read_text()

    def end(self, sig: int = signal.SIGTERM) -> int:
        self.guard.send_signal(sig)
        return self.guard.wait(20)

    def kill(self) -> None:
        """Whatever the test did: leave nothing."""
        if self.guard.poll() is None:
            self.guard.kill()
            self.guard.wait(20)
