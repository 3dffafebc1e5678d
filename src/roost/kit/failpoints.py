"""Named places where a test can make the server fail: before and after every durable write, link message and file rename.

    failpoint("requests.claim:before")

They do nothing unless ROOST_FAILPOINTS names them, as `name=action[,name=action]`; the environment is read once, at import.
Actions: `kill` (SIGKILL to this process), `exit`, `raise` (FailpointError), `lost` (the same, but only where the thing is done: at points that
end in `:after`), `sleep:MS`. `name@N=action` acts at the Nth visit
(default the first) and only then; `name@N%=action` at each visit with that chance. `name*` is every name that begins so.

With ROOST_FAILPOINTS_FILE=path a running process is armed, by a file with such a text: whoever visits a point next takes the file away
and counts visits from there. So one process is armed, and the one that is started in its place is not.
With ROOST_FAILPOINTS_LOG=path each name that is visited is appended to that file once, and `name=action` whenever it acts.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from dataclasses import dataclass, field
from typing import Final


class FailpointError(OSError):
    """What an armed `raise` raises: an input/output error, which everything that writes must bear."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EIO, f"failpoint {name}")

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class _Charge:
    name: str
    """Of one point, or with a star at its end how several begin."""
    action: str
    visit: int = 1
    percent: float | None = None

    def meets(self, name: str, visits: int) -> bool:
        if not (name.startswith(self.name[:-1]) if self.name.endswith("*") else name == self.name):
            return False
        if self.action == "lost" and not name.endswith(":after"):
            return False
        return visits == self.visit if self.percent is None else random.random() * 100 < self.percent


@dataclass(slots=True)
class _Plan:
    charges: tuple[_Charge, ...] = ()
    log: str = ""
    file: str = ""
    visits: dict[str, int] = field(default_factory=dict[str, int])
    logged: set[str] = field(default_factory=set[str])


def _read(environ: os._Environ[str] | dict[str, str]) -> _Plan | None:
    text, log, file = (environ.get(f"ROOST_FAILPOINTS{kind}", "") for kind in ("", "_LOG", "_FILE"))
    return _Plan(_charges(text), log, file) if text or log or file else None


def _charges(text: str) -> tuple[_Charge, ...]:
    charges: list[_Charge] = []
    for entry in filter(None, text.strip().split(",")):
        name, _, action = entry.partition("=")
        name, _, when = name.partition("@")
        chance = float(when[:-1]) if when.endswith("%") else None
        charges.append(_Charge(name, action, int(when or 1) if chance is None else 0, chance))
    return tuple(charges)


_PLAN: Final = _read(os.environ)
PLANNED: Final = _PLAN is not None
"""Whether any is armed or logged. Where a visit takes more than its call, asking first spares it."""


def failpoint(name: str) -> None:
    """Pass, unless a test armed this name."""
    if _PLAN is not None:
        _visit(_PLAN, name)


def _visit(plan: _Plan, name: str) -> None:
    if plan.file:
        _take_file(plan)
    visits = plan.visits[name] = plan.visits.get(name, 0) + 1
    _note(plan, name)
    for charge in plan.charges:
        if charge.meets(name, visits):
            _note(plan, f"{name}={charge.action}", again=True)
            _act(name, charge.action)


def _note(plan: _Plan, line: str, *, again: bool = False) -> None:
    if plan.log and (again or line not in plan.logged):
        plan.logged.add(line)
        with open(plan.log, "a", encoding="utf-8") as log:
            log.write(line + "\n")


def _take_file(plan: _Plan) -> None:
    try:
        with open(plan.file, encoding="utf-8") as file:
            text = file.read()
        # Whoever removes it is armed; of two processes that read it, the other finds nothing to remove.
        os.unlink(plan.file)
    except FileNotFoundError:
        return
    plan.charges, plan.visits = _charges(text), {}


def _act(name: str, action: str) -> None:
    verb, _, amount = action.partition(":")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "exit":
        os._exit(1)
    elif verb == "sleep":
        time.sleep(int(amount) / 1000)
    elif verb in ("raise", "lost"):
        raise FailpointError(name)
    else:
        raise ValueError(f"failpoint {name}: {action!r} is no action")
