"""How many runners an alias should have now, which idle ones have been idle for too long, and why (spec: scaling-routing.md §1-2).

    volume = calls in flight + calls that have waited for at least scaling_delay
    needed = ceil(volume / max_multiplexing)
    buffer = max(concurrency_buffer, ceil(concurrency_buffer_perc % of volume / max_multiplexing))
    target = min(max_concurrency, max(min_concurrency, needed + buffer))

Runners above the target are not stopped for that alone: an idle one stays for `keep_alive`, so that the next burst finds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from roost.core.model import RunnerSeen, RunnerState, Scale

NEVER_USED_MS = 10_000
"""How long a runner that never took a call may idle when neither min_concurrency nor a buffer asks for spare ones."""

STARTING = (RunnerState.PENDING, RunnerState.SETUP)
READY = (RunnerState.IDLE, RunnerState.RUNNING)


@dataclass(frozen=True, slots=True)
class Seen:
    """Demand and supply of one alias at one moment."""

    waiting_since_ms: tuple[int, ...] = ()
    """When each waiting call arrived, in any order. More than max_concurrency * max_multiplexing of them (the oldest) change nothing."""
    runners: tuple[RunnerSeen, ...] = ()
    """Runners of the alias's current revision, whatever their state."""

    @property
    def in_flight(self) -> int:
        """Calls on runners that will take more. Those on leaving runners need no capacity of anybody else."""
        return sum(runner.in_flight for runner in self.runners if runner.state in READY)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision tells the next: since when its number has been the same."""

    runners: int = 0
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Surplus:
    """A runner to let go, and why."""

    runner_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """`runners` should be there (start what is missing); those in `surplus` should go; ask again within `recheck_ms` (None: when something happens)."""

    runners: int
    reason: str
    memory: Memory
    recheck_ms: int | None = None
    surplus: tuple[Surplus, ...] = ()


def decide(policy: Scale, seen: Seen, memory: Memory, now_ms: int) -> Decision:
    """The decision for this moment. Same arguments, same answer; more demand never means fewer runners; never more than max_concurrency."""
    runners, reason = _target(policy, seen, now_ms)
    going, expires_ms = _surplus(policy, seen, runners, now_ms)
    since_ms = memory.since_ms if memory.runners == runners else now_ms
    # A call that is too young to count now will count without anything else happening.
    moments = [at + policy.scaling_delay_ms for at in seen.waiting_since_ms if at + policy.scaling_delay_ms > now_ms]
    moments += expires_ms
    return Decision(runners, reason, Memory(runners, since_ms), min(moments) - now_ms if moments else None, going)


def _target(policy: Scale, seen: Seen, now_ms: int) -> tuple[int, str]:
    slots = max(1, policy.max_multiplexing)
    waiting = sum(1 for at in seen.waiting_since_ms if now_ms - at >= policy.scaling_delay_ms)
    young = len(seen.waiting_since_ms) - waiting
    volume = seen.in_flight + waiting
    needed = _ceil_div(volume, slots)
    spare = max(policy.concurrency_buffer, _ceil_div(policy.concurrency_buffer_perc * volume, 100 * slots))
    asked = max(policy.min_concurrency, needed + spare)
    runners = max(0, min(policy.max_concurrency, asked))

    if volume:
        words = [f"{waiting} waiting + {seen.in_flight} in flight over multiplexing {slots} need {_count(needed)}"]
    else:
        words = ["no demand"]
    if young:
        words.append(f"{young} waiting for less than scaling_delay {_seconds(policy.scaling_delay_ms)} do not count yet")
    if spare and asked == needed + spare:
        words.append(f"plus a buffer of {spare}")
    if asked > needed + spare:
        words.append(f"min_concurrency keeps {policy.min_concurrency}")
    if runners < asked:
        words.append(f"capped at max_concurrency {policy.max_concurrency}")
    return runners, "; ".join(words)


def _surplus(policy: Scale, seen: Seen, target: int, now_ms: int) -> tuple[tuple[Surplus, ...], list[int]]:
    """Who goes now, and when the next ones might."""
    over = _above_maximum(policy, seen.runners)
    gone = {item.runner_id for item in over}
    ready = [runner for runner in seen.runners if runner.state in READY and runner.id not in gone]
    # Runners that are only starting do not make a ready one superfluous: they may never get there.
    excess = len(ready) - target
    going: list[Surplus] = []
    later: list[int] = []
    for runner in sorted((r for r in ready if r.state is RunnerState.IDLE), key=_idle_since):
        limit_ms, rule = _patience(policy, runner)
        idle_ms = now_ms - _idle_since(runner)
        if idle_ms < limit_ms:
            later.append(now_ms + limit_ms - idle_ms)
        elif len(going) < excess:
            going.append(Surplus(runner.id, f"idle for {_seconds(idle_ms)}: {rule}"))
    # Runners inside the target are exempt, so their idle time running out changes nothing.
    return (*over, *going), later if len(going) < excess else []


def _above_maximum(policy: Scale, runners: Iterable[RunnerSeen]) -> tuple[Surplus, ...]:
    """max_concurrency was lowered: what is above it leaves, first what hurts least."""
    living = sorted((r for r in runners if r.state in STARTING or r.state in READY), key=_worth)
    excess = max(0, len(living) - max(0, policy.max_concurrency))
    return tuple(Surplus(r.id, f"{len(living)} runners are more than max_concurrency {policy.max_concurrency}") for r in living[:excess])


def _worth(runner: RunnerSeen) -> tuple[int, int, int]:
    if runner.state in STARTING:
        return (0, 0, -runner.created_ms)
    return (1, runner.in_flight, _idle_since(runner))


def _patience(policy: Scale, runner: RunnerSeen) -> tuple[int, str]:
    """How long this runner may idle, and the name of the rule."""
    spares_wanted = policy.min_concurrency or policy.concurrency_buffer or policy.concurrency_buffer_perc
    if runner.served == 0 and not spares_wanted and policy.keep_alive_ms > NEVER_USED_MS:
        return NEVER_USED_MS, f"never used, which ends after {_seconds(NEVER_USED_MS)} without min_concurrency or a buffer"
    return policy.keep_alive_ms, f"keep_alive is {_seconds(policy.keep_alive_ms)}"


def _idle_since(runner: RunnerSeen) -> int:
    if runner.idle_since_ms is not None:
        return runner.idle_since_ms
    return runner.since_ms if runner.ready_ms is None else runner.ready_ms


def _ceil_div(amount: int, by: int) -> int:
    return -(-amount // by)


def _count(runners: int) -> str:
    return "1 runner" if runners == 1 else f"{runners} runners"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:g} s"
