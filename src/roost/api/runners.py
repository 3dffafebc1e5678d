"""Runners: which there are, what they print, and ending one."""

from __future__ import annotations

from roost.api.answer import Answer, Json, Streamed
from roost.api.logs import LogCalls, asked
from roost.api.output import Find
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import Route
from roost.api.shapes import runner_json, state_of, unplaced_json
from roost.core.lifecycle import RUNNER, RunnerEvent, sources
from roost.core.model import Runner, RunnerState
from roost.wire.errors import RoostError

STOPPABLE = sources(RUNNER, RunnerEvent.DRAIN)
KILLABLE = sources(RUNNER, RunnerEvent.KILL)


class RunnerCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._hints = parts.hints
        self._directory = parts.directory
        self._kill_process = parts.kill_runner
        self._health = parts.health
        self._unplaced = parts.unplaced
        self._logs = LogCalls(parts)

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/v1/runners", self.list),
            Route("POST", "/v1/runners/{id}/stop", self.stop),
            Route("POST", "/v1/runners/{id}/kill", self.kill),
            Route("GET", "/v1/runners/{id}/logs", self.logs),
        )

    async def list(self, request: Request) -> Answer:
        """The living ones, oldest first; with `since`, after those that ended since. Last, without an id, those that there is no room for."""
        application, since_ms = request.query.get("app"), request.whole("since")
        runners = [*(await self._store.runners.ended_since(since_ms) if since_ms is not None else ()), *await self._store.runners.living()]
        now_ms = self._clock.now_ms()
        shown = [
            runner_json(runner, self._in_flight(runner), now_ms, self._health(runner.id))
            for runner in runners
            if runner.owner == request.owner and application in (None, runner.application)
        ]
        wanted = [
            unplaced_json(name, one, now_ms)
            for name, one in self._unplaced().items()
            if name.startswith(f"{request.owner}/") and application in (None, name)
        ]
        return Json({"runners": [*shown, *wanted]})

    async def stop(self, request: Request) -> Answer:
        """Let it finish its calls and go. One that goes already, or has gone, stays as it is."""
        runner = await self._own(request)
        reason = f"stopped by {request.actor}"
        moved = await self._store.runners.move(
            runner.id, STOPPABLE, RunnerState.DRAINING, reason, self._clock.now_ms(), actor=request.actor
        )
        if moved is not None:
            # Out of routing at once; the rest is the fleet's.
            self._directory.drain(runner.id)
        return await self._left(runner)

    async def kill(self, request: Request) -> Answer:
        """End it at once, whatever it does."""
        runner = await self._own(request)
        reason = f"killed by {request.actor}"
        moved = await self._store.runners.move(
            runner.id, KILLABLE, RunnerState.TERMINATING, reason, self._clock.now_ms(), actor=request.actor
        )
        if moved is not None:
            self._directory.drain(runner.id)
            await self._kill_process(runner.id)
        return await self._left(runner)

    async def logs(self, request: Request) -> Answer:
        runner = await self._own(request)
        wish = asked(request, self._clock.now_ms())
        return Streamed(lambda lines: self._logs.tell(self._alone(runner), wish, lines))

    def _alone(self, runner: Runner) -> Find:
        async def find() -> list[Runner]:
            return [await self._store.runners.get(runner.id) or runner]

        return find

    async def _left(self, runner: Runner) -> Answer:
        for topic in ("fleet", "runners"):
            self._hints.give(topic)
        now = await self._store.runners.get(runner.id) or runner
        return Json({"runner_id": now.id, "state": state_of(now, self._in_flight(now)).value}, status=202)

    def _in_flight(self, runner: Runner) -> int:
        entry = self._directory.get(runner.id)
        return entry.busy if entry is not None else 0

    async def _own(self, request: Request) -> Runner:
        """The runner in the path. Raises `not_found`, also for somebody else's."""
        runner_id = request.params["id"]
        runner = await self._store.runners.get(runner_id)
        if runner is None or runner.owner != request.owner:
            raise RoostError(
                "not_found", f"Runner {runner_id[:80]!r} not found", hint="`roost runners list` shows the runners of this account."
            )
        return runner
