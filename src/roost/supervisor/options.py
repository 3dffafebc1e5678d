"""What `roost up` tells the supervisor."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from roost.supervisor.problem import CannotStart
from roost.supervisor.succession import Limits

DEFAULT_LISTEN: Final = "127.0.0.1:8700"


def default_home() -> Path:
    return Path(os.environ.get("ROOST_HOME") or Path.home() / ".roost")


@dataclass(frozen=True, slots=True)
class Options:
    home: Path = field(default_factory=default_home)
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    """"HOST:PORT" each; port 0 lets the kernel choose (see `state/run/address`)."""
    connect: tuple[str, ...] = ()
    """The same for the CONNECT door, on loopback addresses; none: there is no door."""
    server: tuple[str, ...] = (sys.executable, "-m", "roost.server")
    """The program of a server process."""
    front: tuple[str, ...] = (sys.executable, "-m", "roost.front")
    """The program of the process that keeps the CONNECT door."""
    limits: Limits = field(default_factory=Limits)
    grace_ms: int = 30_000
    """For calls in flight when everything is stopped."""
    runner_grace_ms: int = 30_000
    """The most that a runner gets of its own grace when everything is stopped."""

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def run(self) -> Path:
        return self.state / "run"


def limits_from_environ() -> Limits:
    """ROOST_HANDOVER_LIMIT_S: how long a server may finish its calls in flight after a planned restart. Raises CannotStart."""
    text = os.environ.get("ROOST_HANDOVER_LIMIT_S")
    if text is None:
        return Limits()
    try:
        return Limits(leaving_ms=int(float(text) * 1000))
    except ValueError as error:
        raise CannotStart(f"ROOST_HANDOVER_LIMIT_S={text!r} is no number of seconds") from error
