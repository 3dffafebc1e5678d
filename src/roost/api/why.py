"""Why: what is known of an app, a request or a runner is gathered here; `core.explain` makes the sentences."""

from __future__ import annotations

from typing import Final

from roost.api.answer import Answer, Json
from roost.api.parts import ApiParts
from roost.api.request import Request as Call
from roost.api.routes import May, Route
from roost.api.shapes import explanation_json, state_of
from roost.core import explain
from roost.core.explain import AppNow, AppPast, RunnerNow, Waits
from roost.core.model import RevisionState, Runner
from roost.core.requests import RequestState
from roost.wire.errors import RoostError

LATEST: Final = 10
"""Decisions, releases and failed starts that are told."""
_EVENTS: Final = 1_000


class WhyCalls:
    """Each answers `{"kind","id","parts":[{"title","said":[{"text","at"?}]}]}`."""

    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._queue = parts.queue
        self._board = parts.board
        self._directory = parts.directory
        self._held = parts.held

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/v1/why/app/{owner}/{name}", self.app, May.READ),
            Route("GET", "/v1/why/request/{id}", self.request, May.READ),
            Route("GET", "/v1/why/runner/{id}", self.runner),
        )

    async def app(self, call: Call) -> Answer:
        owner, name = call.params["owner"], call.params["name"]
        application = f"{owner}/{name}"
        now = await self._app_now(owner, name)
        if owner != call.owner or (now.alias is None and not now.coming):
            raise RoostError(
                "not_found", f'Application "{application[:200]}" not found', hint="`roost apps list` shows what is deployed here."
            )
        past = AppPast(
            await self._store.decisions.list(application, limit=LATEST),
            await self._store.releases.list(owner, name, LATEST),
            await self._store.runners.never_ready(owner, name, LATEST),
        )
        return Json(explanation_json("app", application, explain.of_app(now, past, self._clock.now_ms())))

    async def request(self, call: Call) -> Answer:
        request = await self._queue.get(call.params["id"])
        if request is None or call.owner not in ((request.caller, request.owner) if call.principal.is_admin else (request.caller,)):
            raise _unknown("Request", call.params["id"], "requests list")
        waits = Waits(0, None)
        if request.state is RequestState.IN_QUEUE:
            app = await self._app_now(request.owner, request.name) if request.owner == call.owner else None
            waits = Waits(self._queue.position(request), app)
        attempts = await self._store.requests.attempts(request.id)
        events = await self._store.events.list(f"request:{request.id}", limit=_EVENTS)
        said = explain.of_request(request, attempts, events, waits, self._clock.now_ms())
        return Json(explanation_json("request", request.id, said))

    async def runner(self, call: Call) -> Answer:
        runner = await self._store.runners.get(call.params["id"])
        if runner is None or runner.owner != call.owner:
            raise _unknown("Runner", call.params["id"], "runners list")
        events = await self._store.events.list(f"runner:{runner.id}", limit=_EVENTS)
        alias = await self._store.apps.get(runner.owner, runner.name)
        scale = alias.scale if alias is not None else None
        said = explain.of_runner(self._runner_now(runner, self._oldest()), events, scale, self._clock.now_ms())
        return Json(explanation_json("runner", runner.id, said))

    async def _app_now(self, owner: str, name: str) -> AppNow:
        application = f"{owner}/{name}"
        alias = await self._store.apps.get(owner, name)
        under_way = await self._store.revisions.in_state(RevisionState.BUILDING, RevisionState.STARTING)
        line, oldest = self._board.peek(application), self._oldest()
        return AppNow(
            application,
            alias,
            tuple(self._runner_now(runner, oldest) for runner in await self._store.runners.of_app(owner, name)),
            len(line.since()) if line is not None else 0,
            self._queue.queued(application),
            await self._store.decisions.latest(application),
            self._held(application, alias.revision_id if alias is not None else None),
            tuple(revision for revision in under_way if (revision.owner, revision.name) == (owner, name)),
        )

    def _runner_now(self, runner: Runner, oldest: dict[str, int]) -> RunnerNow:
        entry = self._directory.get(runner.id)
        if entry is None:
            return RunnerNow(runner, runner.state)
        return RunnerNow(
            runner,
            state_of(runner, entry.busy),
            entry.busy,
            entry.slots,
            entry.served,
            entry.idle_since_ms,
            oldest.get(runner.id),
            entry.frozen,
        )

    def _oldest(self) -> dict[str, int]:
        """When each runner got the oldest of the queued requests that it has."""
        found: dict[str, int] = {}
        for request in self._queue.in_progress():
            if request.runner_id is not None and request.started_ms is not None:
                found[request.runner_id] = min(request.started_ms, found.get(request.runner_id, request.started_ms))
        return found


def _unknown(what: str, id: str, command: str) -> RoostError:
    return RoostError("not_found", f"{what} {id[:80]!r} not found", hint=f"`roost {command}` shows those of this account.")
