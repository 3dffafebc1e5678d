"""Which server serves, which comes next and which may still finish its calls: the supervisor's decisions, without processes.

    state, orders = succession.loaded(state, number, now_ms)

Servers are numbered in the order of their starts. At most one is *current* (it was told `go`), at most one is *coming* (started, not
yet told `go`), any number is *leaving* (handed over, finishing calls in flight). Times are milliseconds of one steady clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

QUICK_DEATH_MS: Final = 10_000
SERVED_MS: Final = 1_000
"""Whoever served for so long could start: what ended it is no reason to let callers wait for the next one."""
FIRST_BACKOFF_MS: Final = 100
LONGEST_BACKOFF_MS: Final = 5_000
TRIES_BEFORE_FIRST_SERVICE: Final = 5
BAD_CONFIGURATION: Final = 78
"""Exit code (EX_CONFIG) of a server whose settings are wrong: starting it again would end the same way."""


@dataclass(frozen=True, slots=True)
class Limits:
    load_ms: int = 30_000
    """For the next server to say `loaded`, and for the current one to say `handed_over`, in a planned restart."""
    first_load_ms: int = 120_000
    """To say `loaded` while nobody serves: giving up early would only delay the service."""
    leaving_ms: int = 3_600_000
    """To finish calls in flight after handing over."""


# Orders: what the process tree has to do now, in this order.


@dataclass(frozen=True, slots=True)
class Start:
    number: int


@dataclass(frozen=True, slots=True)
class Go:
    number: int


@dataclass(frozen=True, slots=True)
class HandOver:
    number: int


@dataclass(frozen=True, slots=True)
class End:
    """End a server: with a grace when its time to leave is up, at once when it is of no use."""

    number: int
    grace_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class EndBuilds:
    """End the builds that this server asked for: nobody waits for them any more."""

    number: int


@dataclass(frozen=True, slots=True)
class RestartFailed:
    """Tell this server, which serves on, that its planned restart was given up."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The server cannot be started; `roost up` ends with this sentence."""

    why: str


Order: TypeAlias = "Start | Go | HandOver | End | EndBuilds | RestartFailed | GiveUp"
Step: TypeAlias = "tuple[Succession, tuple[Order, ...]]"


@dataclass(frozen=True, slots=True)
class Coming:
    number: int
    started_ms: int
    until_ms: int
    loaded: bool = False


@dataclass(frozen=True, slots=True)
class Current:
    number: int
    started_ms: int
    hand_over_until_ms: int | None = None
    """Set while it is asked to hand over."""
    serving_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Leaving:
    number: int
    until_ms: int | None
    """None: its time was up and it is being ended."""


@dataclass(frozen=True, slots=True)
class Succession:
    limits: Limits
    current: Current | None = None
    coming: Coming | None = None
    leaving: tuple[Leaving, ...] = ()
    last_number: int = 0
    quick_deaths: int = 0
    start_at_ms: int | None = None
    """Nobody serves or comes; the next start waits until then (back-off)."""
    has_served: bool = False


def begin(limits: Limits, now_ms: int) -> Step:
    return _start(Succession(limits), limits.first_load_ms, now_ms)


def restart(state: Succession, now_ms: int) -> Step:
    """A planned restart was asked for. One at a time, and only of a server that serves."""
    if state.current is None or state.coming is not None:
        return state, ()
    return _start(state, state.limits.load_ms, now_ms)


def loaded(state: Succession, number: int, now_ms: int) -> Step:
    if state.coming is None or state.coming.number != number or state.coming.loaded:
        return state, ()
    coming = replace(state.coming, loaded=True)
    if (current := state.current) is None:
        return _go(state, coming)
    current = replace(current, hand_over_until_ms=now_ms + state.limits.load_ms)
    return replace(state, coming=coming, current=current), (HandOver(current.number),)


def serving(state: Succession, number: int, now_ms: int) -> Step:
    if state.current is None or state.current.number != number:
        return state, ()
    return replace(state, has_served=True, current=replace(state.current, serving_since_ms=now_ms)), ()


def handed_over(state: Succession, number: int, now_ms: int) -> Step:
    current = state.current
    if current is None or current.number != number or current.hand_over_until_ms is None:
        return state, ()
    leaving = (*state.leaving, Leaving(number, now_ms + state.limits.leaving_ms))
    state, orders = _succeed(replace(state, current=None, leaving=leaving), now_ms)
    return state, (EndBuilds(number), *orders)


def ended(state: Succession, number: int, code: int | None, now_ms: int) -> Step:
    """A server's process has ended; `code` is None when a signal ended it."""
    state = replace(state, leaving=tuple(leaving for leaving in state.leaving if leaving.number != number))
    orders: tuple[Order, ...] = (EndBuilds(number),)
    if state.coming is not None and state.coming.number == number:
        state, more = _coming_ended(state, state.coming, code, now_ms)
    elif state.current is not None and state.current.number == number:
        state, more = _current_ended(state, state.current, code, now_ms)
    else:
        more = ()
    return state, (*orders, *more)


def tick(state: Succession, now_ms: int) -> Step:
    """Do what is due by the clock: a start after its back-off, and the end of whoever took too long."""
    if state.start_at_ms is not None and state.start_at_ms <= now_ms:
        return _start(replace(state, start_at_ms=None), state.limits.first_load_ms, now_ms)
    orders: list[Order] = []
    if (coming := state.coming) is not None and not coming.loaded and coming.until_ms <= now_ms:
        # Its end is then noticed like any other, and answered there.
        state = replace(state, coming=replace(coming, until_ms=now_ms + state.limits.first_load_ms))
        orders.append(End(coming.number, 0, f"not loaded within {(coming.until_ms - coming.started_ms) / 1000:g} s"))
    if (current := state.current) is not None and current.hand_over_until_ms is not None and current.hand_over_until_ms <= now_ms:
        state = replace(state, current=replace(current, hand_over_until_ms=now_ms + state.limits.load_ms))
        orders.append(End(current.number, 0, f"did not hand over within {state.limits.load_ms / 1000:g} s"))
    overdue = {leaving.number for leaving in state.leaving if leaving.until_ms is not None and leaving.until_ms <= now_ms}
    state = replace(state, leaving=tuple(replace(one, until_ms=None) if one.number in overdue else one for one in state.leaving))
    orders += [
        End(number, 5_000, f"calls in flight not finished within {state.limits.leaving_ms / 1000:g} s") for number in sorted(overdue)
    ]
    return state, tuple(orders)


def deadline_ms(state: Succession) -> int | None:
    """When `tick` has something to do."""
    times = [state.start_at_ms]
    times += [state.coming.until_ms] if state.coming is not None and not state.coming.loaded else []
    times += [state.current.hand_over_until_ms] if state.current is not None else []
    times += [leaving.until_ms for leaving in state.leaving]
    return min((time for time in times if time is not None), default=None)


def _start(state: Succession, load_ms: int, now_ms: int) -> Step:
    number = state.last_number + 1
    return replace(state, last_number=number, coming=Coming(number, now_ms, now_ms + load_ms)), (Start(number),)


def _go(state: Succession, coming: Coming) -> Step:
    """The coming server is loaded and nobody holds the store: it is the current one from now on."""
    return replace(state, current=Current(coming.number, coming.started_ms), coming=None), (Go(coming.number),)


def _succeed(state: Succession, now_ms: int) -> Step:
    """Nobody serves: let the coming server go, or wait for it to load, or start one at once."""
    if state.coming is None:
        return _start(state, state.limits.first_load_ms, now_ms)
    return _go(state, state.coming) if state.coming.loaded else (state, ())


def _current_ended(state: Succession, current: Current, code: int | None, now_ms: int) -> Step:
    state = replace(state, current=None)
    if state.coming is not None:
        return _succeed(state, now_ms)
    served = current.serving_since_ms is not None and now_ms - current.serving_since_ms >= SERVED_MS
    return _after_death(state, not served and now_ms - current.started_ms < QUICK_DEATH_MS, code, now_ms)


def _coming_ended(state: Succession, coming: Coming, code: int | None, now_ms: int) -> Step:
    state = replace(state, coming=None)
    if state.current is None:
        return _after_death(state, now_ms - coming.started_ms < QUICK_DEATH_MS, code, now_ms)
    how = "was ended" if code is None else f"ended with exit code {code}"
    failed = RestartFailed(
        state.current.number, f"the new server {how} before it could take over; its last words are on the server's stderr"
    )
    if state.current.hand_over_until_ms is None:
        return state, (failed,)
    # The current one has begun to hand over and will not serve on: somebody must come.
    state, orders = _start(state, state.limits.first_load_ms, now_ms)
    return state, (failed, *orders)


def _after_death(state: Succession, quick: bool, code: int | None, now_ms: int) -> Step:
    state = replace(state, quick_deaths=state.quick_deaths + 1 if quick else 0)
    if code == BAD_CONFIGURATION:
        return state, (GiveUp("the server's settings are wrong; it said above what to change"),)
    if not state.has_served and state.quick_deaths >= TRIES_BEFORE_FIRST_SERVICE:
        return state, (GiveUp(f"the server ended {state.quick_deaths} times before it could serve; it said above why"),)
    if not quick:
        return _start(state, state.limits.first_load_ms, now_ms)
    wait_ms = min(FIRST_BACKOFF_MS << (state.quick_deaths - 1), LONGEST_BACKOFF_MS)
    return replace(state, start_at_ms=now_ms + wait_ms), ()
