"""`roost run`: an app at a temporary address that lives as long as its author's stream, with what it prints.

The address belongs to the session (one author, file and class): a new run of it takes the address over. The stream renews the
alias's lease; a stream that breaks leaves it a moment, in which the same run may come back.
"""

from __future__ import annotations

import hashlib
from typing import Final

from roost.api import intake
from roost.api.answer import Answer, Empty, Lines, Streamed
from roost.api.deploy import UNDER_WAY, refuse_while_closing, since_in
from roost.api.intake import Intake, Order
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import Route
from roost.api.shapes import log_json, ready_json
from roost.api.watch import CallerGone, Deployed, Failed, ServerCloses, Sources, Watch, Watched
from roost.core.model import Alias, DeployPlan, Revision
from roost.kit.hints import wait
from roost.wire.errors import RoostError

LEASE_MS: Final = 10_000
RENEW_MS: Final = 2_500
"""Less than GRACE_MS: two streams of one run may overlap, and the one that ends must not end the other."""
GRACE_MS: Final = 3_000
"""How long a run outlives its stream."""
TAKEN_OVER: Final = "another `roost run` of the same class took its place"


class RunCalls:
    def __init__(self, parts: ApiParts, watched: Watched) -> None:
        self._parts = parts
        self._store = parts.store
        self._clock = parts.clock
        self._intake = Intake(parts)
        self._watch = Watch(parts)
        self._watched = watched

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/v1/run", self.run),
            Route("DELETE", "/v1/run/{name}", self.end),
        )

    async def run(self, request: Request) -> Answer:
        refuse_while_closing(self._parts)
        body = await request.json()
        session = body.get("session")
        if not isinstance(session, str) or not session:
            raise RoostError("unprocessable", "session must be a text: the same for each run of one class by one author")
        manifest = intake.manifest_in(body)
        plan = DeployPlan(auth=intake.choice_in(body, "auth", intake.AUTH_MODES, "public"), ephemeral=True, lease_ms=LEASE_MS)
        name = run_name(manifest.spec.name, session)
        wanted = await self._intake.take(Order(request.owner, request.actor, name, manifest, plan))
        revision = await self._left_alone(wanted)
        sources = await self._watch.sources(revision or wanted, since_in(body) if revision is not None else None)
        if revision is None:
            revision = wanted
            await self._store.revisions.create(revision, actor=request.actor)
            self._parts.hints.give("build")
        return Streamed(lambda lines: self._tell(request, revision, sources, lines))

    async def end(self, request: Request) -> Answer:
        """End it now: its address is gone when this is answered, and whatever was still being prepared is given up."""
        name, now_ms = request.params["name"], self._clock.now_ms()
        found = False
        for revision in await self._store.revisions.in_state(*UNDER_WAY):
            if (revision.owner, revision.name, revision.plan.ephemeral) == (request.owner, name, True):
                found = True
                await self._watch.give_up(revision, request.actor)
        alias = await self._store.apps.get(request.owner, name)
        if alias is not None and alias.ephemeral:
            found = True
            await self._store.apps.delete(request.owner, name, now_ms, reason="its author ended it", actor=request.actor)
            for topic in ("apps", "fleet"):
                self._parts.hints.give(topic)
        if not found:
            raise RoostError("not_found", f"Run {name[:80]!r} not found", hint="It may have ended already.")
        return Empty()

    async def _left_alone(self, wanted: Revision) -> Revision | None:
        """The same run, if it still lives and nobody is at its stream: its author was cut off and comes back."""
        alias = await self._store.apps.get(wanted.owner, wanted.name)
        current = alias.revision_id if alias is not None else None
        candidates = [*await self._store.revisions.in_state(*UNDER_WAY)]
        if current is not None and (serving := await self._store.revisions.get(current)) is not None:
            candidates.append(serving)
        return next((one for one in candidates if one.id not in self._watched and intake.same_content(wanted, one)), None)

    async def _tell(self, request: Request, revision: Revision, sources: Sources, lines: Lines) -> None:
        application = f"{revision.owner}/{revision.name}"
        with self._watched.watching(revision.id):
            await lines.say({"event": "accepted", "application": application, "revision_id": revision.id})
            match await self._watch.follow(revision, sources, lines):
                case Deployed(deployed, ms):
                    await self._serve(request, deployed, ms, sources, lines)
                case Failed(error):
                    await lines.say({"event": "error", **error.body()})
                case CallerGone():
                    await self._watch.give_up(revision, request.actor)
                    # It may have been deployed in this very moment.
                    await self._let_go(revision)
                case ServerCloses():
                    await lines.say({"event": "restarting"})

    async def _serve(self, request: Request, revision: Revision, ms: int | None, sources: Sources, lines: Lines) -> None:
        """The run is there: keep it alive and say what it prints, until it is ended, taken over or left."""
        alias = await self._store.apps.get(revision.owner, revision.name)
        if alias is not None and alias.revision_id == revision.id:
            await lines.say(ready_json(revision, alias.auth, self._parts.base_url(request.scope), ms))
        renew_ms = 0
        with self._parts.hints.listen("apps", "runners", f"revision:{revision.id}") as nudge:
            while True:
                nudge.clear()
                alias = await self._store.apps.get(revision.owner, revision.name)
                await lines.say_all([{"event": "log", **log_json(line)} for line in await sources.output.poll()])
                if ended := await self._ended(alias, revision):
                    await lines.say({"event": "ended", "reason": ended})
                    return
                if lines.gone:
                    await self._let_go(revision)
                    return
                now_ms = self._clock.now_ms()
                closing = self._parts.closing.is_set()
                if closing or now_ms >= renew_ms:
                    await self._store.apps.renew_lease(revision.owner, revision.name, now_ms + LEASE_MS)
                    renew_ms = now_ms + RENEW_MS
                if closing:
                    await lines.say({"event": "restarting"})
                    return
                await lines.beat()
                await wait(nudge, self._parts.about.poll_s)

    async def _ended(self, alias: Alias | None, revision: Revision) -> str:
        """Why this run is over; "" while it is not."""
        if alias is not None:
            return "" if alias.revision_id == revision.id else TAKEN_OVER
        history = await self._store.events.list(f"app:{revision.owner}/{revision.name}", limit=1)
        return history[-1].reason if history and history[-1].reason else "its address was deleted"

    async def _let_go(self, revision: Revision) -> None:
        alias = await self._store.apps.get(revision.owner, revision.name)
        if alias is not None and alias.revision_id == revision.id:
            await self._store.apps.renew_lease(revision.owner, revision.name, self._clock.now_ms() + GRACE_MS)


def run_name(app_name: str, session: str) -> str:
    """The run's name: the same for each run of one session, so that editing and running again keeps the URL."""
    return f"{app_name}-{hashlib.sha256(session.encode()).hexdigest()[:6]}"
