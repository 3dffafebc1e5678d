"""What a backend is: it turns a launch into a runner somewhere, and says when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from roost.core.model import Revision
from roost.core.placement import Place
from roost.kit.spawn import Exited


@dataclass(frozen=True, slots=True)
class Launch:
    """One runner to start."""

    runner_id: str
    token: str
    revision: Revision
    application: str
    place: Place
    slots: int
    """Calls that it takes at once."""
    request_timeout_ms: int
    """How long a call may take, as far as it is known now."""
    grace_ms: int
    """Between SIGTERM and SIGKILL when the whole server stops."""
    env: dict[str, str]
    """What the app's code may read in `os.environ`, secrets included; reaches the process only through its ticket."""


class Backend(Protocol):
    """Starts and ends runners. Every runner that was started is reported to `on_exit` exactly once, however it ends."""

    async def start(self, launch: Launch) -> int | None:
        """Start it; answers its process id if it has one here. Raises OSError with a sentence if it cannot be started."""
        ...

    async def stop(self, runner_id: str, grace_ms: int) -> None:
        """SIGTERM now, SIGKILL at the end of the grace."""
        ...

    async def kill(self, runner_id: str) -> None: ...

    async def living(self) -> dict[str, int]:
        """Runner ids and process ids of what runs now."""
        ...

    async def stopped(self) -> frozenset[str]:
        """Those of the living that a signal (SIGSTOP) has stopped: they answer nothing, and end by SIGKILL only."""
        ...

    def subscribe(self, on_exit: Callable[[Exited], None]) -> None: ...
