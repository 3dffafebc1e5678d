"""`roost deploy`: a manifest becomes a revision, and its author is told what becomes of that until it is deployed or has failed.

An author who hangs up before the end has ended the deploy. One who was cut off by a restart of the server and sends the same
again is given the revision that is under way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from roost.api import intake
from roost.api.answer import Answer, Lines, Streamed
from roost.api.intake import Intake, Order
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import Route
from roost.api.shapes import ready_json
from roost.api.watch import CallerGone, Deployed, Failed, ServerCloses, Sources, Watch, Watched
from roost.core.model import DeployPlan, Revision, RevisionState
from roost.data.logs import NOW, Since, Start
from roost.wire.errors import RoostError

UNDER_WAY = (RevisionState.BUILDING, RevisionState.STARTING)


class DeployCalls:
    def __init__(self, parts: ApiParts, watched: Watched) -> None:
        self._parts = parts
        self._store = parts.store
        self._intake = Intake(parts)
        self._watch = Watch(parts)
        self._watched = watched

    def routes(self) -> tuple[Route, ...]:
        return (Route("POST", "/v1/deploy", self.deploy),)

    async def deploy(self, request: Request) -> Answer:
        refuse_while_closing(self._parts)
        body = await request.json()
        manifest = intake.manifest_in(body)
        message = body.get("message")
        if isinstance(message, str) and message:
            manifest = dataclasses.replace(manifest, message=message)
        plan = DeployPlan(
            strategy=intake.choice_in(body, "strategy", intake.STRATEGIES, "rolling") or "rolling",
            auth=intake.choice_in(body, "auth", intake.AUTH_MODES, None),
            reset_scale=intake.flag_in(body, "reset_scale"),
            detached=intake.flag_in(body, "detach"),
        )
        if plan.detached and plan.strategy != "rolling":
            raise RoostError("unprocessable", "detach is for the rolling strategy; recreate switches first in any case")
        wanted = await self._intake.take(Order(request.owner, request.actor, manifest.spec.name, manifest, plan))
        revision = await self._under_way(wanted)
        sources = await self._watch.sources(revision or wanted, since_in(body) if revision is not None else None)
        if revision is None:
            revision = wanted
            await self._store.revisions.create(revision, actor=request.actor)
            self._parts.hints.give("build")
        alias = await self._store.apps.get(revision.owner, revision.name)
        if plan.detached and alias is not None:
            return Streamed(lambda lines: _tell_begun(revision, lines))
        return Streamed(lambda lines: self._tell(request, revision, sources, lines))

    async def _under_way(self, wanted: Revision) -> Revision | None:
        for revision in await self._store.revisions.in_state(*UNDER_WAY):
            if revision.id not in self._watched and intake.same_content(wanted, revision):
                return revision
        return None

    async def _tell(self, request: Request, revision: Revision, sources: Sources, lines: Lines) -> None:
        application = f"{revision.owner}/{revision.name}"
        with self._watched.watching(revision.id):
            await lines.say({"event": "accepted", "application": application, "revision_id": revision.id})
            match await self._watch.follow(revision, sources, lines):
                case Deployed(deployed, ms):
                    alias = await self._store.apps.get(deployed.owner, deployed.name)
                    auth = alias.auth if alias is not None else ""
                    await lines.say(
                        ready_json(deployed, auth, self._parts.base_url(request.scope), ms),
                        {"event": "done", "application": application, "revision_id": deployed.id, "status": "deployed"},
                    )
                case Failed(error):
                    await lines.say({"event": "error", **error.body()})
                case CallerGone():
                    await self._watch.give_up(revision, request.actor)
                case ServerCloses():
                    await lines.say({"event": "restarting"})


async def _tell_begun(revision: Revision, lines: Lines) -> None:
    """A detached deploy goes on by itself, whoever hangs up."""
    about = {"application": f"{revision.owner}/{revision.name}", "revision_id": revision.id}
    await lines.say({"event": "accepted", **about}, {"event": "done", **about, "status": "rolling_out"})


def since_in(body: Mapping[str, object]) -> Start:
    """Where the output goes on for an author who comes back: after the last line they saw, if they say so."""
    since = body.get("since")
    return Since(since) if isinstance(since, int) and not isinstance(since, bool) else NOW


def refuse_while_closing(parts: ApiParts) -> None:
    """A revision that is made while this server hands over would have nobody to tell its author."""
    if parts.closing.is_set():
        raise RoostError("server_stopping", "this server hands over to a new one", hint="Try again in a moment.")
