"""Named places where a test can make the server fail: before and after every durable write, link message and file rename.

    failpoint("requests.claim:before")

They do nothing unless ROOST_FAILPOINTS names them, as `name=action[,name=action]`; the environment is read once, at import.
Actions: `kill` (SIGKILL to this process), `exit`, `raise` (FailpointError), `sleep:MS`. `name@N=action` acts at the Nth visit
(default the first) and only then. With ROOST_FAILPOINTS_LOG=path each name that is visited is appended to that file once.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import Final


class FailpointError(Exception):
    """What an armed `raise` raises."""


@dataclass(slots=True)
class _Plan:
    armed: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    log: str = ""
    visits: dict[str, int] = field(default_factory=dict[str, int])


def _read(environ: os._Environ[str] | dict[str, str]) -> _Plan | None:
    text, path = environ.get("ROOST_FAILPOINTS", ""), environ.get("ROOST_FAILPOINTS_LOG", "")
    if not text and not path:
        return None
    plan = _Plan(log=path)
    for entry in filter(None, text.split(",")):
        name, _, action = entry.partition("=")
        name, _, visit = name.partition("@")
        plan.armed[name] = (int(visit or 1), action)
    return plan


_PLAN: Final = _read(os.environ)


def failpoint(name: str) -> None:
    """Pass, unless a test armed this name."""
    if _PLAN is not None:
        _visit(_PLAN, name)


def _visit(plan: _Plan, name: str) -> None:
    visits = plan.visits[name] = plan.visits.get(name, 0) + 1
    if visits == 1 and plan.log:
        with open(plan.log, "a", encoding="utf-8") as log:
            log.write(name + "\n")
    at, action = plan.armed.get(name, (0, ""))
    if visits != at:
        return
    verb, _, amount = action.partition(":")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "exit":
        os._exit(1)
    elif verb == "sleep":
        time.sleep(int(amount) / 1000)
    elif verb == "raise":
        raise FailpointError(f"failpoint {name}")
    else:
        raise ValueError(f"failpoint {name}: {action!r} is no action")
