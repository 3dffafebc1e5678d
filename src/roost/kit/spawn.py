"""The vocabulary of starting processes: what to start, how it ended, and the protocol of whoever starts them.

The server never forks: it asks the supervisor, through `supervisor`'s channel (`server/supervised.py`). Tests without a
supervisor use `kit/process.py`. Both keep this contract, which `tests/contract/test_spawner.py` proves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process and all that it starts may take together; 0 = as much as there is."""

    memory_mb: int = 0
    cpus: float = 0.0
    """A share: with idle neighbours it may have more."""


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Spawn:
    """One process to start, in a session (process group) of its own."""

    name: str
    """Unique among the living; the runner's or build step's id."""
    kind: str
    """"runner": lives on when the server dies. "build", "template", "replay": end with the server that asked for them."""
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict[str, str])
    """The whole environment; nothing is inherited."""
    cwd: str = "/"
    stdin: str = ""
    """Written to the process's stdin, which is then closed."""
    output: str = ""
    """File that stdout and stderr are appended to; created with mode 0600."""
    limits: Limits = NO_LIMITS
    grace_ms: int = 5_000
    """Time between SIGTERM and SIGKILL when the whole tree is shut down and nobody says another."""


@dataclass(frozen=True, slots=True)
class Exited:
    """How a process ended. Exactly one of `code` and `signal` is set, unless it never started: then `error` says why."""

    name: str
    kind: str
    pid: int | None
    code: int | None
    signal: int | None
    error: str = ""
    oom_killed: bool = False
    """It was ended for want of memory: of its own, or of the machine's."""
    memory_limit_mb: int = 0
    """The limit of its own that it went beyond; 0 if that was not what ended it."""
    memory_peak_mb: int = 0
    """The most that it was seen to hold; 0 if nobody looked."""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """How limits are kept on this machine, in words for an operator."""

    memory: str
    cpu: str
    detail: str = ""
    """Why it is not better than this."""


@dataclass(frozen=True, slots=True)
class Living:
    name: str
    kind: str
    pid: int
    state: str = "running"
    """"running", or "stopped" by SIGSTOP: alive, but it answers nothing."""


class Spawner(Protocol):
    """Starts and ends processes. Exits arrive on the callback given to `subscribe`, once each, also for those stopped.

    Limits are kept by the supervisor; the spawner of tests may ignore them.
    """

    async def start(self, spawn: Spawn) -> int:
        """Start it and answer its pid. Raises OSError with a sentence if it cannot be started."""
        ...

    async def adopt(self, name: str, kind: str, pid: int, grace_ms: int, limits: Limits = NO_LIMITS) -> None:
        """Watch, stop and kill this process from now on as one that `start` started: a child that a template forked and left to us.

        What it shares with the template does not count for its limits. Raises OSError if there is no such child. Its exit is told also if
        it has ended meanwhile.
        """
        ...

    async def stop(self, name: str, grace_ms: int) -> None:
        """SIGTERM now, SIGKILL to its whole process group after `grace_ms`; returns at once. Unknown names are ignored."""
        ...

    async def kill(self, name: str) -> None:
        """SIGKILL to the whole process group; returns at once. Unknown names are ignored."""
        ...

    async def living(self) -> list[Living]: ...

    def subscribe(self, kind: str, on_exit: Callable[[Exited], None]) -> None:
        """Call `on_exit`, on the event loop, for each ended process of this kind."""
        ...
