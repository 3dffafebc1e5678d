"""A server of one's own for a while: started as a child, ended with the command that wanted it (`roost demo`)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from typing_extensions import Self

from roost.client import config
from roost.client.config import Target
from roost.control.api import Api
from roost.control.errors import ControlError, Unreachable

START_S, STOP_S, PAUSE_S = 60.0, 60.0, 0.1
LAST_LINES = 20


class OwnServer:
    """Use it with `with`: it answers when the body begins, and is gone when it ends.

    Its state is in `home`, and stays there.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().absolute()
        self.home.mkdir(parents=True, exist_ok=True)
        self.log = self.home / "demo-server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port(config.DEFAULT_PORT)

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which a command line finds this server and nothing else."""
        elsewhere = ("ROOST_HOST", "ROOST_KEY", "ROOST_PROFILE", "ROOST_CONFIG")
        return {**{name: value for name, value in os.environ.items() if name not in elsewhere}, "ROOST_HOME": str(self.home)}

    def target(self) -> Target:
        """Where it is, with the key that its first start made."""
        return config.resolve(host=f"127.0.0.1:{self._port}", env=self.environment)

    def __enter__(self) -> Self:
        from roost.kit.linux import die_with_parent

        try:
            command = [sys.executable, "-m", "roost.cli", "up", "--port", str(self._port), "--home", str(self.home)]
            with self.log.open("ab") as log:
                # A session of its own: Ctrl-C is for us, and we stop the server when we are done with it.
                self._process = subprocess.Popen(
                    command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    # When we are killed, nobody else would ever end it.
                    preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509  (no threads yet)
                )
            self._wait_until_it_answers(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def wait(self) -> None:
        """Until Ctrl-C. Raises ControlError if the server ends before."""
        if self._process is not None:
            self._process.wait()
            raise self._problem("ended")

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until and process.poll() is None:
            try:
                with Api(self.target()) as api:
                    api.health()
                    if api.target.key:
                        return
            except Unreachable:
                pass
            time.sleep(PAUSE_S)
        raise self._problem("ended" if process.poll() is not None else f"did not answer within {START_S:g} s")

    def _problem(self, how: str) -> ControlError:
        last = "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])
        return ControlError(f"The server {how}. It said:\n{last}")

    def _stop(self) -> None:
        process = self._process
        while process is not None and process.poll() is None:
            # Ctrl-C again is sent on again, and then the server ends everything at once.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_S)
            except KeyboardInterrupt:
                continue
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port(wanted: int) -> int:
    """`wanted` if it is free, else one that the kernel chooses."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    return wanted
