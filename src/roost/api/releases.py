"""An app's revisions: which there are, back to one of them, fresh runners of the present one (spec: scaling-routing.md §4).

What takes a while is a release: it is answered at once with an id, and goes on whether or not somebody asks about it.
"""

from __future__ import annotations

from collections import Counter

from roost.api import intake
from roost.api.aliases import own_alias
from roost.api.answer import Answer, Empty, Json
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import May, Route
from roost.api.shapes import release_json, revision_json
from roost.core.lifecycle import RUNNER, RunnerEvent, sources
from roost.core.model import Alias, EnvState, Release, ReleaseKind, ReleaseState, Revision, RevisionState, RunnerState
from roost.wire import ids
from roost.wire.errors import RoostError

_KILLABLE = sources(RUNNER, RunnerEvent.KILL)
_SHORTEST = 4
"""Characters of an id that may stand for all of it."""


class ReleaseCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._clock = parts.clock

    def routes(self) -> tuple[Route, ...]:
        app = "/v1/apps/{owner}/{name}"
        return (
            Route("GET", f"{app}/revisions", self.list, May.READ),
            Route("DELETE", f"{app}/revisions/{{id}}", self.delete),
            Route("POST", f"{app}/revision", self.move),
            Route("POST", f"{app}/rollout", self.renew),
            Route("GET", f"{app}/releases", self.releases, May.READ),
            Route("GET", f"{app}/releases/{{id}}", self.show, May.READ),
        )

    async def list(self, request: Request) -> Answer:
        """The newest first; one of them is active."""
        alias = await own_alias(self._store, request)
        living = Counter(runner.revision_id for runner in await self._store.runners.of_app(alias.owner, alias.name))
        shown = [
            revision_json(revision) | {"active": revision.id == alias.revision_id, "runners": living[revision.id]}
            for revision in await self._store.revisions.list(alias.owner, alias.name)
        ]
        return Json({"revisions": shown})

    async def move(self, request: Request) -> Answer:
        """Point the app to another of its revisions."""
        alias, body = await own_alias(self._store, request), await request.json()
        if alias.ephemeral:
            raise RoostError(
                "conflict", f"{alias.application} is from `roost run`, which has one revision only", hint="Deploy it to keep versions."
            )
        revision = await self._chosen(alias, str(body.get("revision_id") or ""))
        if revision.id == alias.revision_id:
            raise RoostError("conflict", f"{alias.application} points to revision {revision.id} already")
        await self._check_runnable(revision)
        release = self._release(
            request,
            alias,
            ReleaseKind.MOVE,
            revision.id,
            strategy=intake.choice_in(body, "strategy", intake.STRATEGIES, "rolling") or "rolling",
            auth=intake.choice_in(body, "auth", intake.AUTH_MODES, None),
        )
        return await self._begin(release)

    async def renew(self, request: Request) -> Answer:
        """Replace the runners by fresh ones, each when its successor is ready; with `force` end them all at once."""
        alias, body = await own_alias(self._store, request), await request.json()
        force = body.get("force", False)
        if not isinstance(force, bool):
            raise RoostError("bad_request", f"force must be true or false, not {str(force)[:40]!r}")
        if alias.revision_id is None:
            raise RoostError("conflict", f"{alias.application} has no revision yet")
        if force:
            return Json({"killed": await self._kill_all(request, alias)}, status=202)
        return await self._begin(self._release(request, alias, ReleaseKind.RENEW, alias.revision_id))

    async def releases(self, request: Request) -> Answer:
        alias = await own_alias(self._store, request)
        return Json({"releases": [release_json(one) for one in await self._store.releases.list(alias.owner, alias.name)]})

    async def show(self, request: Request) -> Answer:
        release = await self._store.releases.get(request.params["id"])
        application = f"{request.params['owner']}/{request.params['name']}"
        if release is None or release.owner != request.owner or release.application != application:
            raise RoostError("not_found", f"Release {request.params['id'][:80]!r} of {application[:200]} not found")
        return Json({"release": release_json(release)})

    async def delete(self, request: Request) -> Answer:
        alias = await own_alias(self._store, request)
        revision = await self._chosen(alias, request.params["id"])
        if revision.id == alias.revision_id:
            raise RoostError(
                "conflict",
                f"{alias.application} points to revision {revision.id}",
                hint="`roost apps set-rev` points it to another one first.",
            )
        reason = f"deleted by {request.actor}"
        if not await self._store.revisions.delete(revision.id, self._clock.now_ms(), reason=reason, actor=request.actor):
            raise RoostError("conflict", f"revision {revision.id} is under way, or has runners", hint="Try again when they have ended.")
        return Empty()

    # small things

    def _release(
        self, request: Request, alias: Alias, kind: ReleaseKind, revision_id: str, *, strategy: str = "rolling", auth: str | None = None
    ) -> Release:
        return Release(
            id=ids.revision_id(),
            owner=alias.owner,
            name=alias.name,
            environment=alias.environment,
            kind=kind,
            revision_id=revision_id,
            strategy=strategy,
            auth=auth,
            state=ReleaseState.UNDER_WAY,
            reason=f"asked for by {request.actor}",
            actor=request.actor,
            begun_ms=self._clock.now_ms(),
        )

    async def _begin(self, release: Release) -> Answer:
        await self._store.releases.create(release)
        for topic in ("rollout", "fleet"):
            self._parts.hints.give(topic)
        return Json({"release": release_json(release)}, status=202)

    async def _kill_all(self, request: Request, alias: Alias) -> int:
        reason, killed = f"rollout --force by {request.actor}", 0
        for runner in await self._store.runners.of_app(alias.owner, alias.name):
            moved = await self._store.runners.move(
                runner.id, _KILLABLE, RunnerState.TERMINATING, reason, self._clock.now_ms(), actor=request.actor
            )
            if moved is not None:
                self._parts.directory.drain(runner.id)
                await self._parts.kill_runner(runner.id)
                killed += 1
        for topic in ("fleet", "runners"):
            self._parts.hints.give(topic)
        return killed

    async def _check_runnable(self, revision: Revision) -> None:
        if revision.state is not RevisionState.DEPLOYED:
            raise RoostError(
                "conflict",
                f"revision {revision.id} is {revision.state.value} and never served",
                hint="`roost apps list-rev` shows those that did.",
            )
        env = await self._store.environments.get(revision.env_key)
        if env is None or env.state is not EnvState.READY:
            raise RoostError(
                "conflict",
                f"the packages of revision {revision.id} are not here any more",
                hint="Deploy that version again; this builds them.",
            )

    async def _chosen(self, alias: Alias, wanted: str) -> Revision:
        """The revision of this id, or whose id begins so. Raises `not_found`, `bad_request`."""
        if not wanted:
            raise RoostError("bad_request", "revision_id is missing", hint="`roost apps list-rev` shows the revisions.")
        revisions = await self._store.revisions.list(alias.owner, alias.name)
        found = [one for one in revisions if one.id == wanted or (len(wanted) >= _SHORTEST and one.id.startswith(wanted))]
        if not found:
            raise RoostError(
                "not_found", f"{alias.application} has no revision {wanted[:80]!r}", hint="`roost apps list-rev` shows the revisions."
            )
        if len(found) > 1:
            raise RoostError(
                "bad_request", f"{len(found)} revisions of {alias.application} begin with {wanted[:80]!r}", hint="Write more of the id."
            )
        return found[0]
