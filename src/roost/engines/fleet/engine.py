"""The runners of every app: how many should there be, start what is missing, let go what is not wanted, bury what has ended.

Decisions are `core.scaling` and `core.fleet`; this reads what they need, carries out what they answer, and tells the waiting
callers' board how things stand. Reports of runners and of the supervisor are taken in order, at the beginning of each round.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from roost.backends.base import Backend
from roost.core import fate, fleet, placement, scaling, trial
from roost.core.admission import Outlook
from roost.core.explain import Held
from roost.core.lifecycle import RUNNER, RunnerEvent, sources
from roost.core.model import Alias, Release, ReleaseKind, Revision, RevisionState, Runner, RunnerSeen, RunnerState, Scale
from roost.core.policy import scale_of
from roost.core.stages import ColdStart
from roost.demand.board import Board
from roost.engines.fleet.roster import Known, Roster
from roost.engines.fleet.starting import Ground, Starter
from roost.engines.fleet.tallies import Tallies
from roost.kit import hints as nudges
from roost.kit import log
from roost.kit.clock import Clock
from roost.kit.hints import Hints
from roost.kit.loop import Loop
from roost.kit.spawn import Exited
from roost.link.directory import Directory
from roost.store import Store, StoreClosed

_POLL_S = 2.0
_PING_WAIT_S = 5.0
_LAST_WORDS_MS = 500
_LOOK_EVERY_MS = 1_000
"""Hints may come by the hundred a second; the supervisor need not be asked each time."""
_LEAVING = (RunnerState.DRAINING, RunnerState.TERMINATING)


class Links:
    """What the fleet needs of the link's listener (given by the wiring)."""

    def __init__(self, tell: Callable[[str, dict[str, Any]], bool], ping: Callable[[str, float], Any]) -> None:
        self.tell = tell
        self.ping = ping


class FleetEngine:
    """Owns the lives of all runners of this server."""

    def __init__(
        self, store: Store, clock: Clock, hints: Hints, backend: Backend, links: Links, directory: Directory, board: Board, ground: Ground
    ) -> None:
        self._store = store
        self._clock = clock
        self._hints = hints
        self._backend = backend
        self._links = links
        self._directory = directory
        self._board = board
        self._ground = ground
        self._roster = Roster()
        self._starter = Starter(store, clock, hints, backend, ground, self._roster)
        self._looked_ms = 0
        self._releases: tuple[Release, ...] = ()
        self._tallies = Tallies(directory)
        self._backoffs: dict[str, fleet.Backoff] = {}
        self._memories: dict[str, scaling.Memory] = {}
        self._revisions: dict[str, Revision] = {}
        self._inbox: deque[Callable[[], Any]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.on_end: Callable[[str, str, bool], None] = lambda runner_id, reason, crashed: None
        """A runner has ended, why, and whether by itself: its exit was reported and nobody had told it to go."""
        self.on_wish: Callable[[str, str], None] = lambda runner_id, why: None
        """A response of this runner asks for a check of its health."""
        self.unready: Callable[[str], str] = lambda runner_id: ""
        """What its health check says of a runner that is not ready for that alone."""
        self.on_death: Callable[[str, str], None] = lambda runner_id, how: None
        """A runner's process has ended by itself, without a word of its own about why: how it ended."""
        self.loop = Loop("fleet", hints, ("fleet",), self.round)

    async def adopt(self) -> None:
        """At start: the runners that outlived the server before this one. They dial home again by themselves."""
        roster = self._roster
        roster.processes.update(await self._backend.living())
        now_ms = self._clock.now_ms()
        for runner in await self._store.runners.living():
            # A type that the settings have no more: what it was promised is forgotten, but its GPUs are its own all the same.
            kind = self._ground.machine_types.get(runner.machine_type) or placement.MachineType(runner.machine_type, 0, 0)
            known = roster.known[runner.id] = Known(runner.state, now_ms, place=placement.Place(kind, runner.gpus))
            if runner.id in roster.processes:
                known.unlinked_since_ms = now_ms
        for runner_id in roster.processes.keys() - roster.known.keys():
            # A process without a row was started by a server that died before it could know; nobody will ever call it.
            await self._backend.kill(runner_id)
        if roster.known:
            log.info("fleet.adopted", runners=len(roster.known), processes=len(roster.processes))

    async def stop(self) -> None:
        """Decide nothing any more. What the calls in flight say about their runners is then carried out without the store."""
        self._stopped = True
        await self.loop.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    # what others tell, on the event loop

    def on_exit(self, exited: Exited) -> None:
        """The supervisor: a runner's process has ended."""
        self._post(lambda: self._ended(exited))

    def on_report(self, runner_id: str, body: dict[str, Any]) -> None:
        """The link: what a runner says on its control connection."""
        self._post(lambda: self._reported(runner_id, body))

    def on_ready(self, runner_id: str, start: ColdStart) -> None:
        """The link: it takes calls, and this is what its start took. Written aside: callers wait for this runner, not for its story."""
        if not self._stopped:
            self._spawn_task(_unless_closed(self._store.runners.keep_cold_start(runner_id, start)))

    def on_fate(self, runner_id: str, verdict: fate.Fate) -> None:
        """The gateway: what an answer means for the runner that gave it."""
        self._tallies.judged(runner_id, verdict)
        match verdict:
            case fate.Stop(reason):
                # At once, not in the next round: the next caller must not be sent to it.
                self._directory.drain(runner_id)
                if self._stopped:
                    self._spawn_task(self._stop_for_successor(runner_id))
                else:
                    self._post(lambda: self._terminate(runner_id, reason))
            case fate.ProbeLoop(reason) if not self._stopped:
                self._spawn_task(self._probe(runner_id, reason))
            case fate.Check(reason) if not self._stopped:
                self.on_wish(runner_id, reason)
            case fate.ProbeLoop() | fate.Check() | fate.Keep():
                pass

    def lives(self, runner_id: str) -> bool:
        """Whether its process is there and not stopped by a signal, as far as the supervisor has said."""
        return self._roster.lives(runner_id)

    def no_room(self, application: str) -> str:
        """Why a runner of this app could not be placed at the last try; "" if it could."""
        found = self._starter.no_room.get(application)
        return found.reason if found is not None else ""

    def unplaced(self) -> dict[str, placement.Unplaced]:
        """The apps that want a runner for which there is no room, with why."""
        return dict(self._starter.no_room)

    def held(self, application: str, revision_id: str | None) -> Held:
        """What keeps further runners of this revision from starting, for whoever asks why."""
        backoff = self._backoffs.get(revision_id or "", fleet.Backoff())
        unplaced = self._starter.no_room.get(application)
        since_ms, reason = (unplaced.since_ms, unplaced.reason) if unplaced is not None else (None, "")
        return Held(backoff.failures, backoff.reason, backoff.next_start_ms, since_ms, reason)

    def tally(self, revision_id: str) -> trial.Tally:
        """What became of this revision's calls and runners, as far as this server has seen it."""
        return self._tallies.of(revision_id, self._backoffs.get(revision_id, fleet.Backoff()))

    def on_timeout(self, runner_id: str) -> None:
        """The gateway: a call of this runner overran request_timeout."""
        self.on_fate(runner_id, fate.Stop("a call overran request_timeout", failed=True))

    async def why_gone(self, runner_id: str) -> str:
        """The gateway: a runner broke off. Answers how it ended, in one line; "" if that is not known within a moment.

        The broken connection is noticed before the supervisor has told the end of the process, by milliseconds.
        """
        until_ms = self._clock.now_ms() + _LAST_WORDS_MS
        with self._hints.listen("runners") as nudge, contextlib.suppress(StoreClosed):
            while (left_ms := until_ms - self._clock.now_ms()) > 0:
                nudge.clear()
                runner = await self._store.runners.get(runner_id)
                if runner is None or runner.state is RunnerState.TERMINATED:
                    return runner.reason.partition("\n")[0] if runner is not None else ""
                await nudges.wait(nudge, left_ms / 1000)
        return ""

    def _post(self, work: Callable[[], Any]) -> None:
        self._inbox.append(work)
        self._hints.give("fleet")

    # one round

    async def round(self) -> float:
        """Take the news, then bring every app to what it should be."""
        while self._inbox:
            work = self._inbox.popleft()
            await work()
        aliases = {alias.application: alias for alias in await self._store.apps.list()}
        warm = await self._warming()
        renewals = {release.application: release for release in self._releases if release.kind is ReleaseKind.RENEW}
        runners: dict[str, list[Runner]] = defaultdict(list)
        living = await self._store.runners.living()
        for runner in living:
            runners[runner.application].append(runner)
        self._roster.forget_all_but({runner.id for runner in living})
        on_trial = {one for release in self._releases for one in (release.revision_id, release.previous)}
        current = {alias.revision_id for alias in aliases.values() if alias.revision_id is not None}
        self._tallies.forget_all_but({runner.id for runner in living}, on_trial | current)
        await self._look_for_stopped(living)
        pause_ms = int(_POLL_S * 1000)
        for application in aliases.keys() | warm.keys() | runners.keys():
            recheck_ms = await self._bring(
                application, aliases.get(application), warm.get(application), renewals.get(application), runners[application]
            )
            if recheck_ms is not None:
                pause_ms = min(pause_ms, recheck_ms)
        for line in self._board.lines():
            if line.application not in aliases and line.application not in runners:
                self._board.forget(line.application)
        return max(pause_ms, 5) / 1000

    async def _warming(self) -> dict[str, Revision]:
        """By application, the revision of which a runner should be ready before the alias points to it."""
        self._releases = await self._store.releases.under_way()
        # `recreate` switches without a runner: the next call starts one.
        warm = {
            f"{revision.owner}/{revision.name}": revision
            for revision in await self._store.revisions.in_state(RevisionState.STARTING)
            if revision.plan.strategy != "recreate"
        }
        for release in self._releases:
            if release.kind is ReleaseKind.MOVE and release.strategy != "recreate":
                revision = await self._revision(release.revision_id)
                backoff = self._backoffs.get(release.revision_id)
                if backoff is not None and backoff.failed_at_ms < release.begun_ms:
                    # What failed before somebody asked for it again says nothing about this time.
                    del self._backoffs[release.revision_id]
                if revision is not None:
                    warm[release.application] = revision
        return warm

    async def _bring(
        self, application: str, alias: Alias | None, warm: Revision | None, renewal: Release | None, runners: list[Runner]
    ) -> int | None:
        now_ms = self._clock.now_ms()
        seen = tuple([await self._see(runner, now_ms) for runner in runners])
        kept = alias.scale if alias is not None else None
        coming = scale_of(warm.spec, self._ground.defaults, kept) if warm is not None else None
        scale = kept or coming or self._ground.defaults
        wanted = fleet.Wanted(None, ended="" if alias is not None or warm is not None else "its app is gone")
        recheck_ms: int | None = None
        current = alias.revision_id if alias is not None else None
        if alias is not None and current is not None:
            decision = await self._decide(application, alias, seen, now_ms)
            recheck_ms = decision.recheck_ms
            wanted = fleet.Wanted(current, decision.runners, decision.reason, decision.surplus)
            if renewal is not None and renewal.revision_id == current:
                # Old and fresh together are more than is needed, which is no reason to stop the fresh ones.
                wanted = dataclasses.replace(wanted, surplus=(), renew_before_ms=renewal.begun_ms)
        # One that has failed is not started again while the rollout engine is about to give it back.
        if warm is not None and warm.id != current and warm.id not in self._backoffs:
            wanted = dataclasses.replace(wanted, warm_revision_id=warm.id, warm_runners=1)
        backoff = self._backoffs.get(current or "", fleet.Backoff())
        limits = fleet.limits_of(scale)
        if coming is not None:
            limits = dataclasses.replace(limits, startup_timeout_ms=coming.startup_timeout_ms)
        plan = fleet.plan(wanted, seen, backoff, now_ms, limits)
        for action in plan.actions:
            is_warm_up = warm is not None and isinstance(action, fleet.Start) and action.revision_id == warm.id
            await self._do(action, application, coming if is_warm_up and coming is not None else scale)
        if not any(isinstance(action, fleet.Start) for action in plan.actions):
            # Nobody wants one any more; or its starts fail, which is another reason to wait.
            self._starter.no_room.pop(application, None)
        if alias is not None:
            self._fit_slots(alias, runners)
        self._tell_board(application, alias, seen, backoff)
        moments = [ms for ms in (recheck_ms, plan.recheck_ms) if ms is not None]
        return min(moments) if moments else None

    async def _decide(self, application: str, alias: Alias, seen: tuple[RunnerSeen, ...], now_ms: int) -> scaling.Decision:
        waiting = self._board.waiting_since(application, alias.scale.max_concurrency * alias.scale.max_multiplexing)
        demand = scaling.Seen(waiting, tuple(r for r in seen if r.revision_id == alias.revision_id))
        memory = self._memories.get(application, scaling.Memory())
        decision = scaling.decide(alias.scale, demand, memory, now_ms)
        if decision.memory != memory:
            self._memories[application] = decision.memory
            record = self._store.decisions.record(
                application, decision.runners, decision.reason, {"since_ms": decision.memory.since_ms}, now_ms
            )
            # On its way, but not waited for: a caller who waits for a runner would wait for one more write to the disk.
            self._spawn_task(_unless_closed(record))
        return decision

    async def _see(self, runner: Runner, now_ms: int) -> RunnerSeen:
        known = self._roster.of(runner, now_ms)
        if known.state is not runner.state:
            known.state, known.since_ms = runner.state, now_ms
        entry = self._directory.get(runner.id)
        state = runner.state
        if runner.state is RunnerState.DRAINING and not known.told_to_drain:
            # Somebody else (an operator, a server before this one) decided it in the store.
            self._drain(runner.id, known)
        if entry is not None and state is RunnerState.IDLE and entry.busy:
            state = RunnerState.RUNNING
        served = runner.served
        if entry is not None and entry.served and not runner.served:
            served = entry.served
            await self._store.runners.update(runner.id, served=served)
        revision = await self._revision(runner.revision_id)
        return RunnerSeen(
            id=runner.id,
            revision_id=runner.revision_id,
            state=state,
            since_ms=known.since_ms,
            created_ms=runner.created_ms,
            ready_ms=runner.ready_ms,
            idle_since_ms=entry.idle_since_ms if entry is not None else runner.idle_since_ms,
            served=served,
            in_flight=entry.busy if entry is not None else 0,
            process=self._roster.process_of(runner),
            unlinked_since_ms=known.unlinked_since_ms,
            stopped_since_ms=known.stopped_since_ms,
            grace_ms=self._grace_ms(revision),
            checked=self.unready(runner.id) if state is RunnerState.SETUP else "",
        )

    async def _look_for_stopped(self, living: Sequence[Runner]) -> None:
        """Nobody reports that a process was stopped by a signal, so that each poll asks, and says it where operators look."""
        now_ms = self._clock.now_ms()
        if not living or now_ms - self._looked_ms < _LOOK_EVERY_MS:
            return
        self._looked_ms = now_ms
        stopped = await self._backend.stopped()
        for runner in living:
            known = self._roster.of(runner, now_ms)
            is_stopped, was_stopped = runner.id in stopped, known.stopped_since_ms is not None
            if is_stopped == was_stopped or runner.state in _LEAVING:
                continue
            known.stopped_since_ms = now_ms if is_stopped else None
            self._directory.freeze(runner.id, is_stopped)
            reason = "its process is stopped (SIGSTOP)" if is_stopped else "its process goes on after a SIGSTOP"
            log.warning("runner.stopped" if is_stopped else "runner.continued", runner=runner.id, app=runner.application)
            await self._store.runners.move(runner.id, (runner.state,), runner.state, reason, now_ms)

    def _tell_board(self, application: str, alias: Alias | None, seen: tuple[RunnerSeen, ...], backoff: fleet.Backoff) -> None:
        if alias is None or self._board.peek(application) is None:
            return  # nobody waits
        no_room = self._starter.no_room.get(application)
        self._board.tell(
            application,
            Outlook(
                ready=sum(1 for r in seen if r.revision_id == alias.revision_id and r.state in (RunnerState.IDLE, RunnerState.RUNNING)),
                failed_starts=backoff.failures,
                last_failure=backoff.reason,
                next_start_ms=backoff.next_start_ms,
                no_room_since_ms=no_room.since_ms if no_room is not None else None,
                no_room=no_room.reason if no_room is not None else "",
            ),
        )

    def _fit_slots(self, alias: Alias, runners: list[Runner]) -> None:
        """max_multiplexing was changed while runners live: they take that many from now on."""
        slots = alias.scale.max_multiplexing
        for runner in runners:
            entry = self._directory.get(runner.id)
            if entry is not None and runner.revision_id == alias.revision_id and entry.slots != slots:
                entry.slots = slots
                self._links.tell(runner.id, {"op": "slots", "limit": slots})
                self._directory.on_free(entry.revision_id)

    # carrying out

    async def _do(self, action: fleet.Action, application: str, scale: Scale) -> None:
        now_ms = self._clock.now_ms()
        match action:
            case fleet.Start(revision_id, count, reason):
                await asyncio.gather(*(self._start(revision_id, reason, application, scale) for _ in range(count)))
            case fleet.Drain(runner_id, reason):
                if await self._store.runners.move(runner_id, sources(RUNNER, RunnerEvent.DRAIN), RunnerState.DRAINING, reason, now_ms):
                    self._drain(runner_id, self._roster.known[runner_id])
                    self._hints.give("fleet")
            case fleet.Stop(runner_id, reason, _):
                await self._terminate(runner_id, reason)
            case fleet.Kill(runner_id, reason, failed_start):
                log.warning("runner.killed", runner=runner_id, app=application, reason=reason)
                self._directory.drain(runner_id)
                killed = await self._store.runners.move(
                    runner_id, sources(RUNNER, RunnerEvent.KILL), RunnerState.TERMINATING, reason, now_ms
                )
                if killed is not None and failed_start:
                    self._failed_start(killed, reason)
                await self._backend.kill(runner_id)
            case fleet.DeclareLost(runner_id, reason):
                await self._bury(runner_id, reason)

    def _drain(self, runner_id: str, known: Known) -> None:
        known.told_to_drain = True
        self._directory.drain(runner_id)
        self._links.tell(runner_id, {"op": "drain"})

    async def _terminate(self, runner_id: str, reason: str) -> None:
        self._directory.drain(runner_id)
        runner = await self._store.runners.move(
            runner_id, sources(RUNNER, RunnerEvent.STOP), RunnerState.TERMINATING, reason, self._clock.now_ms()
        )
        if runner is not None:
            await self._backend.stop(runner_id, self._grace_ms(await self._revision(runner.revision_id)))
            self._hints.give("fleet")

    async def _start(self, revision_id: str, reason: str, application: str, scale: Scale) -> None:
        revision = await self._revision(revision_id)
        if revision is None:
            return
        failed = await self._starter.start(revision, reason, application, scale, self._grace_ms(revision))
        if failed is not None:
            await self._ended(failed)

    # news

    async def _reported(self, runner_id: str, body: dict[str, Any]) -> None:
        known = self._roster.known.get(runner_id)
        if known is None:
            return
        now_ms = self._clock.now_ms()
        match body.get("op"):
            case "gone":
                known.unlinked_since_ms = now_ms
            case "state":
                known.unlinked_since_ms = None
                await self._advanced(runner_id, str(body.get("state")), now_ms)
                if known.told_to_drain:
                    self._links.tell(runner_id, {"op": "drain"})
            case "failed":
                known.failure = _said(body)
            case _:
                pass

    async def _advanced(self, runner_id: str, state: str, now_ms: int) -> None:
        if state == "SETUP":
            await self._store.runners.move(runner_id, sources(RUNNER, RunnerEvent.SETUP_BEGAN), RunnerState.SETUP, "setup() runs", now_ms)
        elif state == "CHECK":
            before = (*sources(RUNNER, RunnerEvent.SETUP_BEGAN), RunnerState.SETUP)
            await self._store.runners.move(runner_id, before, RunnerState.SETUP, "setup() has ended; its health check is asked", now_ms)
        elif state == "READY":
            runner = await self._store.runners.move(
                runner_id, sources(RUNNER, RunnerEvent.READY), RunnerState.IDLE, "ready", now_ms, ready_ms=now_ms, idle_since_ms=now_ms
            )
            if runner is not None:
                self._backoffs.pop(runner.revision_id, None)
                log.info("runner.ready", runner=runner_id, app=runner.application, ms=now_ms - runner.created_ms)
        for topic in ("runners", "rollout", "fleet"):
            self._hints.give(topic)

    async def _ended(self, exited: Exited) -> None:
        # Not earlier: a round under way would bury it as lost, and how it ended would be forgotten.
        self._roster.processes.pop(exited.name, None)
        known = self._roster.known.get(exited.name)
        runner = await self._store.runners.get(exited.name)
        if runner is None or runner.state is RunnerState.TERMINATED:
            return
        memory = fate.OutOfMemory(exited.memory_limit_mb, exited.memory_peak_mb) if exited.oom_killed else None
        how = fate.describe_end(exited.code, exited.signal, exited.error, memory)
        if runner.state in _LEAVING:
            reason = runner.reason
        else:
            reason = known.failure if known is not None and known.failure else how
            if reason == how:
                self.on_death(runner.id, how)
        if runner.state in scaling.STARTING:
            self._failed_start(runner, reason)
        elif runner.state not in _LEAVING:
            self._tallies.died(runner.revision_id, reason)
        await self._bury(exited.name, reason, crashed=runner.state not in _LEAVING)

    def _failed_start(self, runner: Runner, reason: str) -> None:
        backoff = self._backoffs.get(runner.revision_id, fleet.Backoff())
        self._backoffs[runner.revision_id] = fleet.after_failure(backoff, runner.created_ms, reason, self._clock.now_ms())

    async def _bury(self, runner_id: str, reason: str, *, crashed: bool = False) -> None:
        runner = await self._store.runners.move(
            runner_id, sources(RUNNER, RunnerEvent.ENDED), RunnerState.TERMINATED, reason, self._clock.now_ms()
        )
        if runner is not None:
            await self._store.keys.delete_for_runner(runner_id)
            log.info("runner.ended", runner=runner_id, app=runner.application, reason=reason.partition("\n")[0])
            self.on_end(runner_id, reason, crashed)
        self._roster.bury(runner_id)
        for topic in ("runners", "rollout", "fleet", "keys"):
            self._hints.give(topic)

    async def _probe(self, runner_id: str, reason: str) -> None:
        """After a 500, 502 or 504: a loop that answers serves on (spec: app-lifecycle.md §5)."""
        if not await self._links.ping(runner_id, _PING_WAIT_S):
            self.on_fate(runner_id, fate.Stop(f"{reason} and its event loop did not answer within {_PING_WAIT_S:g} s"))

    # small things

    async def _revision(self, revision_id: str) -> Revision | None:
        revision = self._revisions.get(revision_id)
        if revision is None:
            revision = await self._store.revisions.get(revision_id)
            if revision is not None:
                self._revisions[revision_id] = revision
        return revision

    def _grace_ms(self, revision: Revision | None) -> int:
        own = revision.spec.termination_grace_ms if revision is not None else None
        return own if own is not None else self._ground.grace_ms

    async def _stop_for_successor(self, runner_id: str) -> None:
        """After the hand-over the store is another's, who learns of this by the runner's goodbye and by its end."""
        entry = self._directory.get(runner_id)
        revision = self._revisions.get(entry.revision_id) if entry is not None else None
        with contextlib.suppress(OSError):
            await self._backend.stop(runner_id, self._grace_ms(revision))

    def _spawn_task(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _unless_closed(write: Awaitable[object]) -> None:
    with contextlib.suppress(StoreClosed):
        await write


def _said(body: dict[str, Any]) -> str:
    """A runner's last words as a reason: one line first, the author's traceback below it."""
    where = {"load": "the class could not be loaded", "preload": "preload() raised", "setup": "setup() raised"}.get(
        str(body.get("stage")), "it failed"
    )
    parts = [f"{where}: {body.get('error', '')}"]
    if body.get("hint"):
        parts.append(str(body["hint"]))
    return "\n".join(parts)
