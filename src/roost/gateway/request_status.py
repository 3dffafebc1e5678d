"""A queued request as its caller watches it: the lines that it printed so far, and its state as a stream (spec: queue.md §1; GAPS B11)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from roost.core.requests import Attempt, Request, RequestState
from roost.data.request_logs import Lines, RequestLogs
from roost.demand.queue import Queue, Watch
from roost.gateway.queue_access import Access
from roost.web import queue_answers
from roost.web.answers import Receive, Send
from roost.web.sse import Events, streaming

EVERY_S: Final = 1.0
"""A stream says the state so often even if nothing changed."""
LOGS_EVERY_S: Final = 0.25
"""How soon a stream has new lines."""
_ATTEMPTS_KNOWN: Final = 4096
NO_LINES: Final = Lines((), 0)


class Statuses:
    """`private` says of an application whether its logs are hidden from all but its owner."""

    def __init__(
        self,
        queue: Queue,
        attempts: Callable[[str], Awaitable[tuple[Attempt, ...]]],
        logs: RequestLogs,
        private: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._queue = queue
        self._attempts_of = attempts
        self._logs = logs
        self._private = private
        self._attempts: OrderedDict[tuple[str, int, RequestState], tuple[Attempt, ...]] = OrderedDict()
        self._open: set[Watch] = set()
        self._ended = False

    def end_streams(self) -> None:
        """This server goes: streams end, and whoever read them asks the next one."""
        self._ended = True
        for watch in self._open:
            watch.wake()

    async def lines(self, request: Request, may: Access) -> Lines:
        """What it printed so far. To others than the app's owner an app with `private_logs` shows nothing."""
        if request.attempt == 0 or (may is not Access.OWNER and await self._private(request.application)):
            return NO_LINES
        key = (request.id, request.attempt, request.state)
        attempts = self._attempts.get(key)
        if attempts is None:
            attempts = self._attempts[key] = await self._attempts_of(request.id)
            if len(self._attempts) > _ATTEMPTS_KNOWN:
                self._attempts.popitem(last=False)
        return await self._logs.read(request.id, attempts)

    async def stream(self, request: Request, url: str, wants_logs: bool, may: Access, receive: Receive, send: Send) -> None:
        """The state at once, at every change and every second, until it is COMPLETED, the caller leaves or the server hands over."""
        fields = ((b"x-fal-request-id", request.id.encode()), *queue_answers.OPEN)
        with self._queue.watch(request.id) as watch:
            self._open.add(watch)
            try:
                async with streaming(receive, send, fields) as events:
                    events.on_gone = watch.wake
                    await self._tell(request.id, url, may if wants_logs else None, watch, events)
            finally:
                self._open.discard(watch)

    async def _tell(self, id: str, url: str, may: Access | None, watch: Watch, events: Events) -> None:
        """`may` None: without logs."""
        loop = asyncio.get_running_loop()
        said: Request | None = None
        said_s = 0.0
        seen = 0
        while not (self._ended or events.gone):
            request = await self._queue.get(id)
            if request is None:
                # Its retention ended while it was watched.
                return
            lines = await self.lines(request, may) if may is not None else None
            new = lines.after(seen) if lines is not None else None
            if request != said or new or loop.time() - said_s >= EVERY_S:
                await events.say(queue_answers.status(request, url, self._queue.position(request), new))
                # Lines that were dropped as too many count as seen.
                said, said_s, seen = request, loop.time(), lines.total if lines is not None else 0
            if request.state is RequestState.COMPLETED:
                return
            await events.keep_alive()
            prints = may is not None and request.state is RequestState.IN_PROGRESS
            await watch.changed(LOGS_EVERY_S if prints else EVERY_S)
