"""Queues of apps: how long one is, by whom, and ending all that waits in it (spec: queue.md §11)."""

from __future__ import annotations

from roost.api.answer import Answer, Json
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import May, Route
from roost.wire.errors import RoostError


class QueueCalls:
    """Of an account's own apps."""

    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._queue = parts.queue

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/v1/serverless/apps/{owner}/{name}/queue", self.length, May.READ),
            Route("GET", "/applications/{owner}/{name}/queue", self.size, May.READ),
            Route("DELETE", "/applications/{owner}/{name}/queue", self.flush),
        )

    async def length(self, request: Request) -> Answer:
        """As the platform API says it."""
        return Json({"queue_size": self._queue.queued(await self._application(request))})

    async def size(self, request: Request) -> Answer:
        """As the CLI of the public protocol reads it: under both names that it has had; `?by_user=true` for how many each caller has."""
        application = await self._application(request)
        size = self._queue.queued(application)
        told: dict[str, object] = {"size": size, "queue_size": size}
        if request.flag("by_user"):
            told["by_user"] = self._queue.queued_by_caller(application)
        return Json(told)

    async def flush(self, request: Request) -> Answer:
        """End all that wait, or those of `?caller_user_id=`, as if their callers had cancelled them. What runs goes on."""
        owner, _, name = (await self._application(request)).partition("/")
        ended = await self._queue.flush(owner, name, request.query.get("caller_user_id") or None)
        return Json({"flushed": len(ended)})

    async def _application(self, request: Request) -> str:
        """The app in the path. Raises `not_found`, also for somebody else's; of a deleted one as long as something waits."""
        owner, name = request.params["owner"], request.params["name"]
        application = f"{owner}/{name}"
        known = self._queue.queued(application) or await self._store.apps.get(owner, name) is not None
        if owner != request.owner or not known:
            raise RoostError(
                "not_found", f"Application {application[:80]!r} not found", hint="`roost apps list` shows the apps of this account."
            )
        return application
