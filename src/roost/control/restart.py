"""A planned restart, from asking for it to the new server's first answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

from roost.control.api import Api
from roost.control.errors import ControlError, LostContact, Unreachable

PATIENCE_S = 60.0
PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Restarted:
    version: str
    took_s: float


def restart(api: Api, *, clock: Callable[[], float] = monotonic, pause: Callable[[float], None] = sleep) -> Restarted:
    """Ask for a planned restart and return when another instance answers. Raises ControlError if none does within a minute."""
    began = clock()
    before = api.health().get("instance")
    events = api.restart()
    try:
        # The first word says that it has begun; the rest of the stream ends with the old server, whenever that is.
        next(events, None)
    except LostContact:
        pass
    finally:
        events.close()
    while clock() - began < PATIENCE_S:
        try:
            now = api.health()
        except Unreachable:
            now = None
        if now is not None and now.get("instance") != before:
            return Restarted(str(now.get("version", "")), clock() - began)
        pause(PAUSE_S)
    raise ControlError(f"No new server answered within {PATIENCE_S:g} s; the old one goes on.", hint="The log of `roost up` says why.")
