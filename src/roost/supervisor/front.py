"""The process `front` (the CONNECT door): it runs whenever there is a door, so it is started again each time it ends.

It has nothing that would be lost with it but its tunnels. The listening sockets are the supervisor's: who comes while it is away waits in
the kernel's backlog.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from roost.kit import log
from roost.kit.launch import Inherited
from roost.kit.spawn import Exited, Spawn
from roost.supervisor.children import Children
from roost.supervisor.options import Options
from roost.supervisor.sockets import Sockets
from roost.supervisor.succession import FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS

NAME: Final = "front"
KIND: Final = "front"
LIVED_MS: Final = 1_000
"""Whoever lived for so long could start: what ended it is no reason to let callers wait for the next one."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Where it is between its starts."""

    start_at_ms: int | None
    """None: it runs."""
    started_ms: int = 0
    quick_deaths: int = 0


def started(turn: Turn, now_ms: int) -> Turn:
    return Turn(None, now_ms, turn.quick_deaths)


def ended(turn: Turn, now_ms: int) -> Turn:
    """It has ended, or could not be started: the next start comes at once, or after a wait that doubles while it dies young."""
    if now_ms - turn.started_ms >= LIVED_MS:
        return Turn(now_ms)
    wait_ms = min(FIRST_BACKOFF_MS << turn.quick_deaths, LONGEST_BACKOFF_MS)
    # No further than where the longest wait is reached: a number that only grows would end as a very large shift.
    return Turn(now_ms + wait_ms, quick_deaths=min(turn.quick_deaths + 1, 16))


class Front:
    """Does nothing where there is no door."""

    def __init__(self, options: Options, sockets: Sockets, children: Children) -> None:
        self._options = options
        self._sockets = sockets
        self._children = children
        self._turn = Turn(0 if sockets.connect else None)

    @property
    def due_ms(self) -> int | None:
        """When `tick` has something to do."""
        return self._turn.start_at_ms

    def tick(self, now_ms: int) -> None:
        if self._turn.start_at_ms is None or self._turn.start_at_ms > now_ms:
            return
        self._turn = started(self._turn, now_ms)
        # In the state folder, for the same reason as servers.
        spawn = Spawn(NAME, KIND, self._options.front, self._environment(), os.fspath(self._options.home))
        fds = tuple(one.fileno() for one in self._sockets.connect)
        try:
            child = self._children.start(spawn, 0, Inherited(fds, stdout=1, stderr=2))
        except OSError as error:
            self._turn = ended(self._turn, now_ms)
            log.error("front.not_started", why=str(error))
        else:
            log.info("front.started", pid=child.pid, connect=self._sockets.connect_address)

    def ended(self, exited: Exited, now_ms: int) -> None:
        self._turn = ended(self._turn, now_ms)
        how = {"code": exited.code} if exited.signal is None else {"signal": exited.signal, "oom_killed": exited.oom_killed}
        (log.info if exited.code == 0 else log.warning)("front.exited", pid=exited.pid, **how)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ROOST_HOME": os.fspath(self._options.home),
            "ROOST_CONNECT_FDS": ",".join(str(one.fileno()) for one in self._sockets.connect),
            "ROOST_ADDRESS": ",".join(self._sockets.addresses),
        }
