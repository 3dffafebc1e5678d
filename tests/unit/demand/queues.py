"""A queue over a database in memory, for unit tests."""

from __future__ import annotations

from roost.core.requests import Claim, Claimed, Content, Input, NewRequest, Request, Submitted
from roost.demand.queue import Queue, Retention
from roost.kit.hints import Hints
from roost.store import MEMORY, Store
from roost.store.migrate import known
from roost.store.sqlite import SqliteDriver
from roost.testkit import blank
from roost.testkit.clock import EPOCH_MS, VirtualClock
from roost.testkit.flaky import FlakyDriver

NOW = EPOCH_MS
APP = "me/app"
BLANK = blank.REQUEST._replace(created_ms=NOW)


def new(id: str, *, caller: str = "me", hint: str = "", deadline_ms: int | None = None, store_io: bool = True) -> NewRequest:
    request = BLANK._replace(id=id, caller=caller, hint=hint, deadline_ms=deadline_ms, store_io=store_io)
    return NewRequest(request, Input("POST", b"/", b"", (), Content(2, b"{}")))


class Bench:
    """One queue, its store, and a clock that stands still."""

    def __init__(self, driver: FlakyDriver, store: Store) -> None:
        self.driver = driver
        self.store = store
        self.hints = Hints()
        self.now_ms = NOW
        self.queue = self.another()

    @classmethod
    async def open(cls) -> Bench:
        driver = FlakyDriver(await SqliteDriver.open(MEMORY))
        return cls(driver, await Store.on(driver, VirtualClock(), known()))

    def another(self) -> Queue:
        """What the next server has, before it has loaded anything."""
        return Queue(self.store.requests, self.hints, lambda: self.now_ms, Retention(1_000_000, 1_000))

    async def submit(self, *ids: str) -> list[Request]:
        answers = [await self.queue.submit(new(one)) for one in ids]
        return [answer.request for answer in answers if isinstance(answer, Submitted)]

    async def start(self, id: str, runner_id: str = "run-1") -> Claimed:
        """Hand it out and claim it; it must be the next."""
        request = self.queue.next(APP, self.now_ms)
        assert request is not None and request.id == id
        claimed = await self.queue.claim(request, Claim(f"{id}-{request.attempt + 1}", runner_id, self.now_ms + 10_000))
        assert claimed is not None
        return claimed
