"""Apps: what is deployed, its settings, its output."""

from __future__ import annotations

import asyncio
from collections import Counter

from roost.api.aliases import own_alias, unknown
from roost.api.answer import Answer, Json, Streamed
from roost.api.logs import LogCalls, asked
from roost.api.output import of_app
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import May, Route
from roost.api.scale import change
from roost.api.shapes import app_json, app_url, decision_json, revision_json, state_of, template_json
from roost.core.model import Alias
from roost.core.placement import Never, Unknown, could_ever_fit, resolve
from roost.wire.errors import RoostError


class AppCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._clock = parts.clock
        self._logs = LogCalls(parts)
        # Settings are read, changed and written: two changes at once must not lose one.
        self._scaling = asyncio.Lock()

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/v1/apps", self.list, May.READ),
            Route("GET", "/v1/apps/{owner}/{name}", self.show, May.READ),
            Route("PATCH", "/v1/apps/{owner}/{name}", self.scale),
            Route("DELETE", "/v1/apps/{owner}/{name}", self.delete),
            Route("GET", "/v1/apps/{owner}/{name}/logs", self.logs),
        )

    async def list(self, request: Request) -> Answer:
        states = await self._states(request.owner)
        aliases = await self._store.apps.list(request.owner)
        return Json({"apps": [self._app(request, alias, states.get(alias.application, Counter())) for alias in aliases]})

    async def show(self, request: Request) -> Answer:
        alias = await own_alias(self._store, request)
        shape = await self._shape(request, alias)
        revision = await self._store.revisions.get(alias.revision_id) if alias.revision_id is not None else None
        decision = await self._store.decisions.latest(alias.application)
        if revision is not None:
            shape |= {
                "spec": revision.spec.to_json(),
                "openapi": revision.openapi,
                "endpoints": [endpoint.path for endpoint in revision.spec.endpoints],
                "revision": revision_json(revision),
            }
            template = await self._store.decisions.latest(alias.application, kind="template")
            shape["template"] = template_json(template, revision.id) if template is not None else None
        wanted = self._parts.unplaced().get(alias.application)
        shape["no_room"] = wanted.reason if wanted is not None else ""
        return Json(shape | {"decision": decision_json(decision) if decision is not None else None})

    async def scale(self, request: Request) -> Answer:
        changes = await request.json()
        async with self._scaling:
            alias = await own_alias(self._store, request)
            changed = change(alias.scale, changes, self._parts.about.machine_types)
            await self._check_machine(alias, changed.scale.machine_types if "machine_types" in changes else ())
            said = ", ".join(f"{name}={value}" for name, value in changes.items())
            await self._store.apps.set_scale(
                alias.owner, alias.name, changed.scale, self._clock.now_ms(), reason=f"scaled: {said}", actor=request.actor
            )
        self._hint()
        shape = await self._shape(request, await own_alias(self._store, request))
        return Json(shape | ({"notes": list(changed.notes)} if changed.notes else {}))

    async def delete(self, request: Request) -> Answer:
        alias = await own_alias(self._store, request)
        reason = f"deleted by {request.actor}"
        if not await self._store.apps.delete(alias.owner, alias.name, self._clock.now_ms(), reason=reason, actor=request.actor):
            raise unknown(alias.application)
        self._hint()
        return Json({"deleted": alias.application})

    async def logs(self, request: Request) -> Answer:
        alias = await own_alias(self._store, request)
        wish = asked(request, self._clock.now_ms())
        find = of_app(self._store.runners, alias.owner, alias.name, wish.since_ms or 0)
        return Streamed(lambda lines: self._logs.tell(find, wish, lines))

    async def _shape(self, request: Request, alias: Alias) -> dict[str, object]:
        return self._app(request, alias, (await self._states(alias.owner)).get(alias.application, Counter()))

    def _app(self, request: Request, alias: Alias, states: Counter[str]) -> dict[str, object]:
        url = app_url(self._parts.base_url(request.scope), alias.application)
        return app_json(alias, states, self._parts.board.peek(alias.application), url)

    async def _states(self, owner: str) -> dict[str, Counter[str]]:
        """How many living runners each app has in each public state."""
        found: dict[str, Counter[str]] = {}
        for runner in await self._store.runners.living():
            if runner.owner == owner:
                entry = self._parts.directory.get(runner.id)
                state = state_of(runner, entry.busy if entry is not None else 0)
                found.setdefault(runner.application, Counter())[state.value] += 1
        return found

    async def _check_machine(self, alias: Alias, names: tuple[str, ...]) -> None:
        about = self._parts.about
        types = resolve(names, about.machine_types)
        if not names or isinstance(types, Unknown):
            return
        revision = await self._store.revisions.get(alias.revision_id) if alias.revision_id is not None else None
        verdict = could_ever_fit(types, revision.spec.num_gpus if revision is not None else None, about.node, about.overcommit)
        if isinstance(verdict, Never):
            raise RoostError("unsatisfiable", f"no runner could ever be placed here: {verdict.reason}", hint="Choose other machine_types.")

    def _hint(self) -> None:
        for topic in ("apps", "fleet"):
            self._parts.hints.give(topic)
