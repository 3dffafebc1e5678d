"""What would have happened: recorded traffic replayed through the decisions that run the real thing, in virtual time.

    outcome = run(arrivals, Scale(keep_alive_ms=30_000), Ground(cold_ms=fixed(900)))
    outcome.wait_ms(0.95), outcome.runner_ms

The same `scaling.decide`, `fleet.plan` and `routing.choose` as in a server decide here; only what the world does is invented: how long a
start takes, which starts fail, when there is no room. Same arguments, same outcome.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from roost.core import fairness, fleet, routing, scaling
from roost.core.fairness import Shares, Side, Use
from roost.core.model import Process, RunnerSeen, RunnerState, Scale

REVISION: Final = "simulated"
IDLE_NOTICED_MS: Final = 100
"""A server looks this long after a runner fell idle, not at each end of a call."""
NO_ROOM_RETRY_MS: Final = 20_000
"""Spec: app-lifecycle.md §4, scheduling failures."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call: when it came, and how long a runner worked on it."""

    at_ms: int
    service_ms: int
    queued: bool = False
    """It came through the durable queue, and takes turns with those that wait at a connection."""


@dataclass(frozen=True, slots=True)
class Ready:
    """This start will take its first call after so long."""

    after_ms: int


@dataclass(frozen=True, slots=True)
class Fails:
    after_ms: int
    reason: str = "setup() raised"


@dataclass(frozen=True, slots=True)
class NoRoom:
    """No machine has room for it now."""

    reason: str = "no machine has room"


Start = Ready | Fails | NoRoom
Starts = Callable[[int, int, int], Start]
"""(number of the start, now_ms, runners living) -> what becomes of it."""


def fixed(cold_ms: int) -> Starts:
    """Every start takes so long."""
    return lambda number, now_ms, living: Ready(cold_ms)


def recorded(cold_ms: Sequence[int]) -> Starts:
    """Starts take as long as these did, one after the other and then from the first again. At least one."""
    return lambda number, now_ms, living: Ready(cold_ms[(number - 1) % len(cold_ms)])


@dataclass(frozen=True, slots=True)
class Ground:
    """What the world does."""

    starts: Starts
    revision_grace_ms: int = 0
    """From SIGTERM to the end of a runner without calls."""
    reaction_ms: int = 0
    """From a call that finds no free runner to the decision about it."""
    ready: int = 0
    """Runners that are there when it begins; of those that the policy wants at rest none is missing."""


@dataclass(frozen=True, slots=True)
class Life:
    """One runner, from the decision to start it to its end."""

    started_ms: int
    ready_ms: int | None
    ended_ms: int
    served: int
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`waits_ms` in the order of the arrivals: from arriving to being sent to a runner. Calls that never got one are in `unserved`."""

    waits_ms: tuple[int, ...]
    lives: tuple[Life, ...]
    unserved: int = 0
    held: tuple[str, ...] = ()
    """Why missing runners were not started, each reason once, in the order in which they came up."""

    def wait_ms(self, quantile: float) -> int:
        """The wait that this share of the calls did not exceed; 0 when there were none."""
        return quantile_of(sorted(self.waits_ms), quantile)

    @property
    def runner_ms(self) -> int:
        """Time that runners existed, all together: what they cost."""
        return sum(life.ended_ms - life.started_ms for life in self.lives)

    @property
    def peak(self) -> int:
        """The most runners that existed at once."""
        return most_at_once([(life.started_ms, life.ended_ms) for life in self.lives])


def quantile_of(ordered: Sequence[int], quantile: float) -> int:
    """Of sorted numbers; 0 when there are none."""
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0


def most_at_once(spans: Sequence[tuple[int, int]]) -> int:
    """How many of these (begin, end) there were at once, at most."""
    living = most = 0
    for _, change in sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans]):
        living += change
        most = max(most, living)
    return most


@dataclass(slots=True)
class _Runner:
    id: str
    state: RunnerState
    since_ms: int
    created_ms: int
    slots: int
    ready_ms: int | None = None
    idle_since_ms: int | None = None
    served: int = 0
    in_flight: int = 0
    reason: str = ""
    hints: tuple[str, ...] = ()
    remembered: tuple[str, ...] = ()

    @property
    def free(self) -> int:
        return self.slots - self.in_flight

    def seen(self, grace_ms: int) -> RunnerSeen:
        state = RunnerState.RUNNING if self.state is RunnerState.IDLE and self.in_flight else self.state
        return RunnerSeen(
            id=self.id,
            revision_id=REVISION,
            state=state,
            since_ms=self.since_ms,
            created_ms=self.created_ms,
            ready_ms=self.ready_ms,
            idle_since_ms=None if self.in_flight else self.idle_since_ms,
            served=self.served,
            in_flight=self.in_flight,
            process=Process.LIVING,
            grace_ms=grace_ms,
        )


def run(arrivals: Iterable[Arrival], policy: Scale, ground: Ground, *, from_ms: int | None = None, until_ms: int | None = None) -> Outcome:
    """Replay the arrivals (in order of time).

    Begins at `from_ms`, or with the first of them. Ends at `until_ms`, or when every call was served and every surplus runner has gone.
    """
    return _Replay(policy, ground).run(sorted(arrivals, key=lambda arrival: arrival.at_ms), from_ms, until_ms)


# Events at one moment come in this order: slots are given back before they are asked for, and decisions see what has happened.
_END, _READY, _FAILED, _GONE, _ARRIVES, _LOOK = range(6)


@dataclass(slots=True)
class _Replay:
    policy: Scale
    ground: Ground
    now_ms: int = 0
    runners: dict[str, _Runner] = field(default_factory=dict[str, _Runner])
    waiting: deque[int] = field(default_factory=deque[int])
    """Calls at connections."""
    queue: deque[int] = field(default_factory=deque[int])
    shares: Shares | None = None
    """What the two have of the slots; None while the queue wants none."""
    waits: list[int] = field(default_factory=list[int])
    lives: list[Life] = field(default_factory=list[Life])
    held: dict[str, None] = field(default_factory=dict[str, None])
    on: dict[int, _Runner] = field(default_factory=dict[int, _Runner])
    """Where each call in flight is."""
    events: list[tuple[int, int, int, int | str]] = field(default_factory=list[tuple[int, int, int, int | str]])
    """(when, kind, order of being foreseen, number of the call or id of the runner)"""
    memory: scaling.Memory = field(default_factory=scaling.Memory)
    backoff: fleet.Backoff = field(default_factory=fleet.Backoff)
    turn: int = 0
    started: int = 0
    sequence: int = 0
    left: int = 0
    """Calls that have not ended."""
    ready: tuple[_Runner, ...] = ()
    """Those that take calls; `routing.choose` is asked once a call."""
    look_at_ms: int | None = None
    room_at_ms: int = 0

    def run(self, arrivals: list[Arrival], from_ms: int | None, until_ms: int | None) -> Outcome:
        self.waits, self.left = [-1] * len(arrivals), len(arrivals)
        if from_ms is not None or arrivals:
            self.now_ms = arrivals[0].at_ms if from_ms is None else from_ms
        for number in range(min(self.ground.ready, self.policy.max_concurrency)):
            self._there(number)
        self._decide(arrivals)
        for at_ms, kind, which in self._moments(arrivals):
            if until_ms is not None and at_ms > until_ms:
                break
            self.now_ms = at_ms
            if kind == _LOOK and self.look_at_ms != at_ms:
                continue  # a look that was moved
            self._happens(kind, which, arrivals)
            if until_ms is None and not self._goes_on():
                break
        end_ms = self.now_ms if until_ms is None else until_ms
        for runner in list(self.runners.values()):
            self._bury(runner, end_ms, "the simulation ended")
        served = tuple(wait for wait in self.waits if wait >= 0)
        return Outcome(served, tuple(self.lives), len(self.waits) - len(served), tuple(self.held))

    def _moments(self, arrivals: list[Arrival]) -> Iterator[tuple[int, int, int | str]]:
        """What happens next, in order, for as long as anything does."""
        coming = iter(enumerate(arrivals))
        arrives = next(coming, None)
        while arrives is not None or self.events:
            if arrives is not None and (not self.events or (arrives[1].at_ms, _ARRIVES) < self.events[0][:2]):
                yield arrives[1].at_ms, _ARRIVES, arrives[0]
                arrives = next(coming, None)
            else:
                at_ms, kind, _, which = heapq.heappop(self.events)
                yield at_ms, kind, which

    def _goes_on(self) -> bool:
        """Whether anything but the runners that are always there is left."""
        if self.left:
            return True
        return len(self.runners) > scaling.decide(self.policy, scaling.Seen(), self.memory, self.now_ms).runners

    def _happens(self, kind: int, which: int | str, arrivals: list[Arrival]) -> None:
        if isinstance(which, int):
            (self._arrive if kind == _ARRIVES else self._finish)(which, arrivals)
            return
        runner = self.runners.get(which)
        if kind == _LOOK:
            self.look_at_ms = None
            self._decide(arrivals)
        elif runner is None:
            return
        elif kind == _READY and runner.state is RunnerState.SETUP:
            runner.state, runner.since_ms, runner.ready_ms, runner.idle_since_ms = RunnerState.IDLE, self.now_ms, self.now_ms, self.now_ms
            self.backoff = fleet.Backoff()
            self._recount()
            self._serve_waiting(arrivals)
            self._decide(arrivals)
        elif kind == _FAILED and runner.state is RunnerState.SETUP:
            self.backoff = fleet.after_failure(self.backoff, runner.created_ms, runner.reason, self.now_ms)
            self._bury(runner, self.now_ms, runner.reason)
            self._decide(arrivals)
        elif kind == _GONE:
            self._bury(runner, self.now_ms, runner.reason)

    # calls: as in `gateway.slots`, where each side's line is in order and the slots' time is divided between the two

    def _arrive(self, number: int, arrivals: list[Arrival]) -> None:
        queued = arrivals[number].queued
        is_first = not self.waiting and not (queued and self.queue)
        if is_first and self._send(number, arrivals, contested=False):
            if self.policy.concurrency_buffer or self.policy.concurrency_buffer_perc:
                self._decide(arrivals)
            return
        (self.queue if queued else self.waiting).append(number)
        # Not at once: a burst is one decision, and who is served within a moment needs none.
        self._look(self.now_ms + self.ground.reaction_ms)

    def _send(self, number: int, arrivals: list[Arrival], *, contested: bool) -> bool:
        choice = routing.choose(self.ready, routing.Pick(self.turn))
        if isinstance(choice, routing.Wait):
            return False
        runner, self.turn = choice.runner, choice.turn
        arrival = arrivals[number]
        if arrival.queued:
            self._measure()
        if self.shares is not None:
            self.shares = fairness.took(self.shares, _side(arrival), self.now_ms, contested=contested)
        runner.in_flight += 1
        runner.served += 1
        self.waits[number] = self.now_ms - arrival.at_ms
        self.on[number] = runner
        self._at(self.now_ms + arrival.service_ms, _END, number)
        return True

    def _serve_waiting(self, arrivals: list[Arrival]) -> None:
        while self.waiting or self.queue:
            contested = bool(self.waiting and self.queue)
            if self.queue:
                self._measure()
            line = self.queue if self.queue and (not contested or self._is_turn_of_queue()) else self.waiting
            if not self._send(line[0], arrivals, contested=contested):
                return
            line.popleft()

    def _is_turn_of_queue(self) -> bool:
        return self.shares is not None and fairness.whose(self.shares, self.now_ms) is Side.QUEUED

    def _measure(self) -> None:
        """The queue takes part from here on."""
        if self.shares is None:
            self.shares = Shares(Use(sum(runner.in_flight for runner in self.runners.values())), Use(), self.now_ms)

    def _finish(self, number: int, arrivals: list[Arrival]) -> None:
        runner = self.on.pop(number)
        runner.in_flight -= 1
        self.left -= 1
        if self.shares is not None:
            self.shares = fairness.gave_back(self.shares, _side(arrivals[number]), self.now_ms)
            if not self.shares.queued.held and not self.queue:
                self.shares = None
        self._serve_waiting(arrivals)
        if runner.in_flight == 0:
            runner.idle_since_ms = self.now_ms
            self._look(self.now_ms if runner.state is RunnerState.DRAINING else self.now_ms + IDLE_NOTICED_MS)

    # runners

    def _decide(self, arrivals: list[Arrival]) -> None:
        most = self.policy.max_concurrency * max(1, self.policy.max_multiplexing)
        since = tuple(arrivals[number].at_ms for line in (self.waiting, self.queue) for number in islice(line, most))
        seen = tuple(runner.seen(self.ground.revision_grace_ms) for runner in self.runners.values())
        decision = scaling.decide(self.policy, scaling.Seen(since, seen), self.memory, self.now_ms)
        self.memory = decision.memory
        wanted = fleet.Wanted(REVISION, decision.runners, decision.reason, decision.surplus)
        plan = fleet.plan(wanted, seen, self.backoff, self.now_ms, fleet.limits_of(self.policy))
        if plan.held:
            self.held.setdefault(plan.held)
        again = False
        for action in plan.actions:
            again = self._do(action) or again
        for moment in (decision.recheck_ms, plan.recheck_ms, 0 if again else None):
            if moment is not None:
                self._look(self.now_ms + moment)

    def _do(self, action: fleet.Action) -> bool:
        """Whether the next step of this should be looked for at once."""
        match action:
            case fleet.Start(_, count, _):
                for _ in range(count):
                    self._start()
                return False
            case fleet.Drain(runner_id, reason):
                self._move(self.runners[runner_id], RunnerState.DRAINING, reason)
                return True
            case fleet.Stop(runner_id, reason, grace_ms):
                runner = self.runners[runner_id]
                self._move(runner, RunnerState.TERMINATING, runner.reason or reason)
                self._at(self.now_ms + grace_ms, _GONE, runner_id)
                return False
            case fleet.Kill(runner_id, reason, failed_start):
                runner = self.runners[runner_id]
                if failed_start:
                    self.backoff = fleet.after_failure(self.backoff, runner.created_ms, reason, self.now_ms)
                self._bury(runner, self.now_ms, reason)
                return True
            case fleet.DeclareLost(runner_id, reason):
                self._bury(self.runners[runner_id], self.now_ms, reason)
                return True

    def _start(self) -> None:
        if self.now_ms < self.room_at_ms:
            return
        self.started += 1
        become = self.ground.starts(self.started, self.now_ms, len(self.runners))
        if isinstance(become, NoRoom):
            self.held.setdefault(become.reason)
            self.room_at_ms = self.now_ms + NO_ROOM_RETRY_MS
            self._look(self.room_at_ms)
            return
        reason = become.reason if isinstance(become, Fails) else ""
        runner = _Runner(
            f"r{self.started}", RunnerState.SETUP, self.now_ms, self.now_ms, max(1, self.policy.max_multiplexing), reason=reason
        )
        self.runners[runner.id] = runner
        self._at(self.now_ms + become.after_ms, _READY if isinstance(become, Ready) else _FAILED, runner.id)

    def _there(self, number: int) -> None:
        """A runner from before the beginning, which has been of use."""
        slots = max(1, self.policy.max_multiplexing)
        runner = _Runner(f"b{number}", RunnerState.IDLE, self.now_ms, self.now_ms, slots, self.now_ms, self.now_ms, served=1)
        self.runners[runner.id] = runner
        self._recount()

    def _move(self, runner: _Runner, state: RunnerState, reason: str) -> None:
        runner.state, runner.since_ms, runner.reason = state, self.now_ms, reason
        self._recount()

    def _bury(self, runner: _Runner, at_ms: int, reason: str) -> None:
        del self.runners[runner.id]
        self.lives.append(Life(runner.created_ms, runner.ready_ms, at_ms, runner.served, reason))
        self._recount()

    def _recount(self) -> None:
        self.ready = tuple(runner for runner in self.runners.values() if runner.state in scaling.READY)

    # time

    def _at(self, at_ms: int, kind: int, which: int | str) -> None:
        self.sequence += 1
        heapq.heappush(self.events, (at_ms, kind, self.sequence, which))

    def _look(self, at_ms: int) -> None:
        """Decide again at this moment, or at an earlier one that was said before."""
        if self.look_at_ms is None or at_ms < self.look_at_ms:
            self.look_at_ms = at_ms
            self._at(at_ms, _LOOK, "")


def _side(arrival: Arrival) -> Side:
    return Side.QUEUED if arrival.queued else Side.DIRECT


def changed(policy: Scale, **settings: int) -> Scale:
    """The policy with other numbers, to ask what they would have done."""
    return replace(policy, **settings)
