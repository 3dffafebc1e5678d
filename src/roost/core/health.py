"""When a runner is asked for its health, and what its answer means (spec: app-lifecycle.md §4, §6; GAPS C6, C7).

Before a runner takes calls it is asked every half second until it answers well: that is its readiness, and bounded by startup_timeout
alone. Afterwards it is asked every 15 seconds, and whenever a response of its app asks for it. An app that declares no check is ready
when setup() has ended, and is asked only then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from roost.wire.spec import HealthCheckSpec

UNREADY_MS: Final = 500
"""From one question to the next, at the least: also of those that responses ask for."""
REGULAR_MS: Final = 15_000
UNDECLARED: Final = HealthCheckSpec("/health", method="GET", call_regularly=False)
"""What every app answers by itself."""
_NO_SUCH_ROUTE: Final = (404, 405)


# --- what is known ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rules:
    """How one runner is asked."""

    check: HealthCheckSpec
    declared: bool
    tolerant_until_ms: int
    """Until then it is asked, but regular checks that fail are not counted."""

    @property
    def name(self) -> str:
        return f"{self.check.method} {self.check.path}"


def rules_of(declared: HealthCheckSpec | None, created_ms: int, startup_timeout_ms: int) -> Rules:
    """The rules for a runner of this age.

    The start period begins when the runner is made and not when it is ready: it is never shorter than startup_timeout, which bounds that same
    stretch of its life; and the moment is in its row, so that a restart of the server does not give a sick runner ten more minutes.
    """
    check = declared or UNDECLARED
    return Rules(check, declared is not None, created_ms + max(check.start_period_ms, startup_timeout_ms))


@dataclass(frozen=True, slots=True)
class Answered:
    """The app's answer came in time."""

    status: int


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer came: it took too long (also when a handler holds the event loop), or the app broke off. `how` completes "it ..."."""

    how: str


@dataclass(frozen=True, slots=True)
class NotHeard:
    """The server itself was held up, and cannot know whether there was an answer in time: that says nothing about the runner."""


Outcome = Answered | Failed | NotHeard


@dataclass(frozen=True, slots=True)
class Last:
    """What the last question came to, for people."""

    well: bool
    said: str
    """Like "POST /ready answered 503"."""
    at_ms: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one runner by the server that asks it; a new server begins anew."""

    ready: bool
    due_ms: int | None
    """When it is asked next if nobody asks for it before; None: never."""
    asked_ms: int | None = None
    failures: int = 0
    """Those in a row that count."""
    wish: str = ""
    """A response asked for a check since the last one began, and why."""
    last: Last | None = None


def begin(rules: Rules, *, ready: bool, now_ms: int, dice: float) -> Memory:
    """`ready`: it took calls under a server before this one. Its first check is at a random moment of the interval: a server that
    comes back finds all runners at once, and would ask them all at the same time for ever. `dice` is at least 0 and below 1."""
    if not ready:
        return Memory(False, now_ms)
    return Memory(True, now_ms + int(REGULAR_MS * dice) if rules.check.call_regularly else None)


def wished(memory: Memory, why: str) -> Memory:
    """A response of the app asks for a check. Before it is ready it is asked all the time anyway."""
    return replace(memory, wish=why) if memory.ready else memory


# --- asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask it at this moment, or now if that has passed. `wish`: a response asked for it; its failure ends the runner at once."""

    at_ms: int
    wish: str = ""


def next_probe(memory: Memory) -> Probe | None:
    """The next question; None: not until a response asks for it. Only one question is under way at a time."""
    earliest_ms = memory.asked_ms + UNREADY_MS if memory.asked_ms is not None else 0
    if memory.wish:
        return Probe(earliest_ms, memory.wish)
    return Probe(max(earliest_ms, memory.due_ms)) if memory.due_ms is not None else None


def asked(rules: Rules, memory: Memory, now_ms: int) -> Memory:
    """The next question was put."""
    if not memory.ready:
        due_ms: int | None = now_ms + UNREADY_MS
    else:
        due_ms = now_ms + REGULAR_MS if rules.check.call_regularly else None
    return replace(memory, asked_ms=now_ms, due_ms=due_ms, wish="")


# --- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """It may take calls."""


@dataclass(frozen=True, slots=True)
class Keep:
    """It stays what it is."""


@dataclass(frozen=True, slots=True)
class Stop:
    """It takes no new calls and is terminated."""

    reason: str


Verdict = Ready | Keep | Stop


def judge(rules: Rules, memory: Memory, probe: Probe, outcome: Outcome, now_ms: int) -> tuple[Memory, Verdict]:
    """What an outcome means: the memory after it, and the runner's fate."""
    if isinstance(outcome, NotHeard):
        return replace(memory, wish=memory.wish or probe.wish), Keep()
    well = _is_well(rules, outcome)
    said = f"{rules.name} answered {outcome.status}" if isinstance(outcome, Answered) else f"{rules.name} {outcome.how}"
    memory = replace(memory, last=Last(well, said, now_ms))
    if well:
        if memory.ready:
            return replace(memory, failures=0), Keep()
        return replace(memory, ready=True, due_ms=now_ms + REGULAR_MS if rules.check.call_regularly else None), Ready()
    if not memory.ready:
        return memory, Keep()
    if probe.wish:
        return memory, Stop(f"{probe.wish}, and {said}")
    if now_ms < rules.tolerant_until_ms:
        return memory, Keep()
    memory = replace(memory, failures=memory.failures + 1)
    if memory.failures < rules.check.failure_threshold:
        return memory, Keep()
    times = f"{memory.failures} times in a row" if memory.failures > 1 else "once"
    return memory, Stop(f"its health check failed {times}, the last time because {said}")


def _is_well(rules: Rules, outcome: Outcome) -> bool:
    if not isinstance(outcome, Answered):
        return False
    # An app may have put something else at /health, or nothing: it never promised to answer there.
    return 200 <= outcome.status < 400 or (not rules.declared and outcome.status in _NO_SUCH_ROUTE)
