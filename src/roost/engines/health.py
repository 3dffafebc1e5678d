"""Asking runners for their health: until one is ready, every so often after that, and when a response asks for it (core/health.py decides).

What an app answers is remembered here only: a server that comes after this one begins anew, so that no restart ends a runner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from roost.core import fate, health
from roost.core.model import Revision, Runner, RunnerState, Scale
from roost.core.policy import scale_of
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.link.directory import Directory
from roost.store import Store

_NOTHING_DUE_S = 600.0
_SLACK_MS = 250
"""For the way there and back, beyond the time that the runner has for its answer."""
_OVERSLEPT_MS = 1_000
"""A wait that ends so much after its time was none."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is needed of the link's listener."""

    ask: Callable[[str, dict[str, Any], float], Awaitable[dict[str, Any] | None]]
    tell: Callable[[str, dict[str, Any]], bool]


class HealthEngine:
    """Follows every linked runner whose app declares a health check, and any other from the moment that its app asks for a check."""

    def __init__(
        self, store: Store, clock: Clock, hints: Hints, directory: Directory, line: Line, defaults: Scale, dice: Callable[[], float]
    ) -> None:
        self._store = store
        self._clock = clock
        self._hints = hints
        self._directory = directory
        self._line = line
        self._defaults = defaults
        self._dice = dice
        self._kinds: dict[str, str] = {}
        """By linked runner, what its hello said of its check: "declared", "usual", or "" for one that cannot be asked."""
        self._watches: dict[str, _Watch] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.on_fate: Callable[[str, fate.Fate], None] = lambda runner_id, verdict: None
        """A runner is not well, or cannot be asked and should be pinged."""

    async def stop(self) -> None:
        self._stopped = True
        for runner_id in list(self._watches):
            self._forget(runner_id)
        if self._ending:
            await asyncio.wait(list(self._ending))

    def on_report(self, runner_id: str, body: dict[str, Any]) -> None:
        """The link: what a runner says on its control connection."""
        if self._stopped:
            return
        if body.get("op") == "gone":
            self._kinds.pop(runner_id, None)
            self._forget(runner_id)
        elif body.get("op") == "state":
            kind = self._kinds[runner_id] = str(body.get("health", self._kinds.get(runner_id, "")))
            if kind == "declared" and body.get("state") in ("CHECK", "READY"):
                self._watch(runner_id, ready=body["state"] == "READY")

    def on_wish(self, runner_id: str, why: str) -> None:
        """The gateway: a response of this runner asks for a check."""
        if self._kinds.get(runner_id):
            self._watch(runner_id, ready=True).wish(why)
        else:
            self.on_fate(runner_id, fate.ProbeLoop(why))

    def last(self, runner_id: str) -> health.Last | None:
        """What this runner last said; None if it was not asked."""
        watch = self._watches.get(runner_id)
        return watch.memory.last if watch is not None and watch.memory is not None else None

    def unready(self, runner_id: str) -> str:
        """What keeps a runner from being ready, whose setup() has ended; "" for any other."""
        watch = self._watches.get(runner_id)
        if watch is None or watch.memory is None or watch.memory.ready:
            return ""
        return watch.memory.last.said if watch.memory.last is not None else "it was not asked"

    # for the watches

    async def rules(self, runner: Runner) -> health.Rules | None:
        """None: its revision is gone, and it will be."""
        revision = await self._store.revisions.get(runner.revision_id)
        if revision is None:
            return None
        return health.rules_of(revision.spec.health_check, runner.created_ms, await self._startup_timeout_ms(revision))

    async def _startup_timeout_ms(self, revision: Revision) -> int:
        alias = await self._store.apps.get(revision.owner, revision.name)
        if alias is not None and alias.revision_id == revision.id:
            return alias.scale.startup_timeout_ms
        return scale_of(revision.spec, self._defaults, None).startup_timeout_ms

    async def runner(self, runner_id: str) -> Runner | None:
        """None when it has ended."""
        runner = await self._store.runners.get(runner_id)
        return runner if runner is not None and runner.state is not RunnerState.TERMINATED else None

    def begin(self, rules: health.Rules, *, ready: bool) -> health.Memory:
        return health.begin(rules, ready=ready, now_ms=self.now_ms(), dice=self._dice())

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def leaves(self, runner_id: str) -> bool:
        """It takes no new calls, and an answer that is not well must not cut short the calls that it finishes."""
        entry = self._directory.get(runner_id)
        return entry is not None and entry.draining

    async def ask(self, runner_id: str, rules: health.Rules) -> health.Outcome:
        """One question and its outcome."""
        check = rules.check
        order = {"op": "health", "path": check.path, "method": check.method, "timeout_ms": check.timeout_ms}
        wait_ms = check.timeout_ms + _SLACK_MS
        began_ms = self.now_ms()
        answer = await self._line.ask(runner_id, order, wait_ms / 1000)
        if answer is None:
            # Sooner: it has no connection. Much later: this server did not run.
            waited = check.timeout_ms <= self.now_ms() - began_ms <= wait_ms + _OVERSLEPT_MS
            how = f"did not answer within {check.timeout_ms / 1000:g} s, and its event loop is held"
            return health.Failed(how) if waited else health.NotHeard()
        status = int(answer.get("status", 0))
        return health.Answered(status) if status else health.Failed(str(answer.get("detail", "did not answer")))

    def judged(self, runner_id: str, verdict: health.Verdict) -> None:
        match verdict:
            case health.Ready():
                self._line.tell(runner_id, {"op": "serve"})
            case health.Stop(reason):
                log.warning("runner.unwell", runner=runner_id, reason=reason)
                self.on_fate(runner_id, fate.Stop(reason, unwell=True))
            case health.Keep():
                pass

    def _watch(self, runner_id: str, *, ready: bool) -> _Watch:
        watch = self._watches.get(runner_id)
        if watch is None:
            watch = self._watches[runner_id] = _Watch(self, self._hints, runner_id, ready=ready)
            watch.loop.start()
        return watch

    def _forget(self, runner_id: str) -> None:
        watch = self._watches.pop(runner_id, None)
        if watch is not None:
            task = asyncio.get_running_loop().create_task(watch.loop.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


class _Watch:
    """One runner, from the moment that it can be asked until its control connection is closed."""

    def __init__(self, engine: HealthEngine, hints: Hints, runner_id: str, *, ready: bool) -> None:
        self._engine = engine
        self._hints = hints
        self._runner_id = runner_id
        self._ready = ready
        self._rules: health.Rules | None = None
        self._wish = ""
        self.memory: health.Memory | None = None
        self.loop = Loop(f"health of {runner_id}", hints, (self._topic,), self.round)

    @property
    def _topic(self) -> str:
        return f"health:{self._runner_id}"

    def wish(self, why: str) -> None:
        self._wish = why
        self._hints.give(self._topic)

    async def round(self) -> float:
        """Ask if it is time to. Answers when it will be."""
        engine = self._engine
        if self._rules is None or self.memory is None:
            runner = await engine.runner(self._runner_id)
            self._rules = await engine.rules(runner) if runner is not None else None
            if self._rules is None:
                return _NOTHING_DUE_S
            self.memory = engine.begin(self._rules, ready=self._ready)
        if self._wish:
            self.memory, self._wish = health.wished(self.memory, self._wish), ""
        probe = health.next_probe(self.memory)
        if probe is None:
            return _NOTHING_DUE_S
        if probe.at_ms > engine.now_ms():
            return (probe.at_ms - engine.now_ms()) / 1000
        self.memory = health.asked(self._rules, self.memory, engine.now_ms())
        if not engine.leaves(self._runner_id):
            outcome = await engine.ask(self._runner_id, self._rules)
            self.memory, verdict = health.judge(self._rules, self.memory, probe, outcome, engine.now_ms())
            engine.judged(self._runner_id, verdict)
        return 0.0
