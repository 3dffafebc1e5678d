"""The durable queue on a disk that loses power again and again, and on one that fails now and then (faults.md F-05, F-29, F-30).

Clients submit, claim, finish and requeue together, until the power goes somewhere in the middle of it. Then everything that was ever answered is
compared with what the database says. A disk goes through many lives, so that what one of them spoiled would show in the next.
ROOST_LONG=1 has ten thousand lives on twenty disks; ROOST_SEED=N another order of things.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from dataclasses import dataclass, field

import pytest

from roost.core.requests import (
    Again,
    AttemptState,
    Claim,
    Content,
    Final,
    Input,
    NewRequest,
    Output,
    Priority,
    Request,
    RequestState,
    RetryRules,
    SameKey,
    Submitted,
)
from roost.store import DatabaseBusy, DiskTrouble, Store, known
from roost.testkit.clock import VirtualClock
from roost.testkit.powerloss import LossyDisk, PowerLost

LIVES = 500 if os.environ.get("ROOST_LONG") else 100
DISKS = range(20 if os.environ.get("ROOST_LONG") else 2)
SEED = int(os.environ.get("ROOST_SEED", "4"))
NEVER = 10**12
TROUBLE = (DiskTrouble, DatabaseBusy)
"""What a caller must bear. Other errors of the store would be its own."""
INPUT = Input("POST", b"/", b"", ((b"content-type", b"application/json"),), Content(2, b"{}"))


@dataclass(slots=True)
class Told:
    """What callers of one request were told."""

    request: Request
    attempt: int = 0
    """The highest attempt that somebody was given."""
    final: Final | None = None


@dataclass(slots=True)
class Ledger:
    """Everything that was answered, over all lives."""

    told: dict[str, Told] = field(default_factory=dict[str, Told])
    unknown: int = 0
    """Verbs that ended in an error: nobody knows whether they happened."""
    ids: int = 0
    ended: int = 0

    def submitted(self, request: Request) -> None:
        assert request.id not in self.told
        self.told[request.id] = Told(request)

    def claimed(self, request: Request) -> None:
        told = self.told[request.id]
        assert request.attempt > told.attempt, f"attempt {request.attempt} of {request.id} was given out before (I3)"
        assert told.final is None, f"{request.id} was given to a runner after it had ended (I2)"
        told.attempt = request.attempt

    def finished(self, request: Request, final: Final) -> None:
        told = self.told[request.id]
        assert told.final is None, f"{request.id} ended twice (I2, I4)"
        told.final = final
        self.ended += 1

    async def check(self, store: Store) -> None:
        kept = {request.id: request for request in await store.requests.list(limit=NEVER)}
        living = {request.id for request in await store.requests.living(5_000)}
        for name, told in self.told.items():
            assert name in kept, f"{name} was accepted and is not there (I1)"
            request = kept[name]
            assert request.seq == told.request.seq and await store.requests.input(name) == INPUT
            assert request.attempt >= told.attempt, f"attempt {told.attempt} of {name} would be given out again (I3)"
            assert (request.state is RequestState.COMPLETED) == (name not in living)
            if told.final is not None:
                assert request.state is RequestState.COMPLETED, f"the end of {name} is forgotten (I2)"
            owed = await store.webhooks.get(name)
            assert (owed is not None) == (request.state is RequestState.COMPLETED and bool(request.webhook)), f"the webhook of {name} (I6)"
            if request.state is RequestState.COMPLETED:
                await self._check_end(store, request, told)
        assert len({request.seq for request in kept.values()}) == len(kept)

    async def _check_end(self, store: Store, request: Request, told: Told) -> None:
        output = await store.requests.output(request.id)
        found = Final(request.status or 0, output=output, expires_ms=request.expires_ms or 0)
        if told.final is None:
            told.final = found  # nobody was told, but from now on everybody is
        assert (found.status, found.output, found.expires_ms) == (told.final.status, told.final.output, told.final.expires_ms), "I4"
        assert [attempt.number for attempt in await store.requests.attempts(request.id)] == list(range(1, request.attempt + 1))


class Life:
    """Clients of one life of the disk."""

    def __init__(self, store: Store, ledger: Ledger, dice: random.Random) -> None:
        self._store = store
        self._ledger = ledger
        self._dice = dice

    async def live(self, clients: int) -> None:
        waiting = list(await self._store.requests.living(5_000))
        self._dice.shuffle(waiting)
        work = [self._carry(request) for request in waiting[: 2 * clients]] + [self._new() for _ in range(clients)]
        self._dice.shuffle(work)
        await asyncio.gather(*work)

    async def _new(self) -> None:
        ledger = self._ledger
        ledger.ids += 1
        name = f"r{ledger.ids}"
        asked = Request(
            *(0, name, "ada", "painter", "main", "bob", RequestState.IN_QUEUE, Priority.NORMAL, 0, 0, (), 1_000),
            *(None, None, "", RetryRules(), True, "/", "POST"),
            gateway_request_id=name,
            webhook=self._dice.choice(("", "https://x.test/")),
        )
        try:
            answer = await self._store.requests.submit(NewRequest(asked, INPUT, f"key-{name}", "f"), 1_000)
        except TROUBLE:
            ledger.unknown += 1
            await self._ask_again(asked)
            return
        assert isinstance(answer, Submitted)
        ledger.submitted(answer.request)
        await self._carry(answer.request)

    async def _ask_again(self, asked: Request) -> None:
        """As a client does with the same idempotency key (F-02)."""
        try:
            answer = await self._store.requests.submit(NewRequest(asked, INPUT, f"key-{asked.id}", "f"), 1_000)
        except TROUBLE:
            return
        assert isinstance(answer, Submitted | SameKey)
        self._ledger.submitted(answer.request)

    async def _carry(self, request: Request) -> None:
        try:
            if request.id not in self._ledger.told:
                self._ledger.submitted(request)  # its submit was not answered, but it is there
            if request.state is RequestState.IN_PROGRESS:
                await self._end(request)  # of an earlier life
            else:
                await self._try(request)
        except TROUBLE:
            self._ledger.unknown += 1

    async def _try(self, request: Request) -> None:
        claim = Claim(f"{request.id}-{request.attempt + 1}", "run-1", NEVER)
        answers = await asyncio.gather(*(self._store.requests.claim(request.id, request.attempt, claim, 2_000) for _ in range(2)))
        got = [answer for answer in answers if answer is not None]
        assert len(got) <= 1, f"two have one attempt of {request.id} (I3)"
        if got:
            self._ledger.claimed(got[0].request)
            await self._end(got[0].request)

    async def _end(self, request: Request) -> None:
        what = self._dice.random()
        if what < 0.2:
            return  # still under way when the power goes
        if what < 0.4:
            again = await self._store.requests.requeue(request.id, request.attempt, Again(None, "server_error", "503"), 3_000)
            if again:
                await self._too_late(request)
                await self._try(again)
            return
        finals = [self._final(request) for _ in range(2)]
        answers = await asyncio.gather(
            *(self._store.requests.finish(request.id, request.attempt, final, 3_000) for final in finals), return_exceptions=True
        )
        for answer, final in zip(answers, finals, strict=True):
            if isinstance(answer, Request):
                self._ledger.finished(answer, final)
            elif isinstance(answer, TROUBLE):
                self._ledger.unknown += 1
            else:
                assert answer is None, answer

    async def _too_late(self, request: Request) -> None:
        answer = await self._store.requests.finish(request.id, request.attempt, self._final(request), 3_000)
        assert answer is None, f"a late result of attempt {request.attempt} of {request.id} was taken (I4)"

    def _final(self, request: Request) -> Final:
        body = b"%d " % self._dice.randrange(10**9) * self._dice.choice((1, 100))
        status = self._dice.choice((200, 422, 500))
        return Final(status, output=Output(status, (), Content(len(body), body)), expires_ms=NEVER, attempt_state=AttemptState.ANSWERED)


class Machine:
    """A disk, and the store that is open on it."""

    def __init__(self, number: int) -> None:
        self.dice = random.Random(f"{SEED} {number}")
        self.disk = LossyDisk(self.dice)
        self.ledger = Ledger()
        self.store: Store | None = None

    async def on(self) -> Store:
        self.store = await Store.on(self.disk.driver(), VirtualClock(), known())
        return self.store

    async def lose_power(self) -> None:
        store, self.store = self.store, None
        self.disk.restart()
        if store is not None:
            # Of a process that is gone: nothing of it reaches the disk.
            with contextlib.suppress(PowerLost):
                await store.close()

    async def forget_some(self, store: Store) -> None:
        """So that a long test does not become a slow one: what ended long ago is taken from the database and from the ledger."""
        ended = [name for name, told in self.ledger.told.items() if told.final is not None]
        for name in ended[:-20]:
            del self.ledger.told[name]
            await store._driver.write(lambda tx, one=name: tx.run("UPDATE requests SET expires_ms = 1 WHERE id = ?", (one,)), "test")
        await store.requests.delete_expired(2, 1_000)


@pytest.fixture(params=DISKS, ids=lambda number: f"disk {number}")
async def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


async def test_nothing_that_was_answered_is_lost_when_the_power_goes(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    dice, disk, ledger = machine.dice, machine.disk, machine.ledger
    cut_short = 0
    for life in range(LIVES):
        store = await machine.on()
        await ledger.check(store)
        if life % 50 == 0:
            assert await store._driver.read(lambda tx: tx.records("PRAGMA integrity_check")) == [("ok",)]
        await machine.forget_some(store)
        disk.fail_after(dice.randrange(1, dice.choice((20, 200))))
        before = ledger.unknown
        await Life(store, ledger, dice).live(dice.choice((1, 5, 16)))
        cut_short += ledger.unknown > before
        await machine.lose_power()
    await ledger.check(await machine.on())
    with capsys.disabled():
        print(
            f"\n{LIVES} power losses, {cut_short} of them in the middle of {ledger.unknown} writes; {ledger.ids} requests, {ledger.ended} ends answered: 0 lost"
        )
    # The test would prove nothing if the power never went in the middle of something.
    assert cut_short > LIVES // 2
    assert ledger.ended > LIVES
    await machine.lose_power()


async def test_a_disk_that_fails_now_and_then_costs_errors_and_nothing_that_was_answered(machine: Machine) -> None:
    dice, disk, ledger = machine.dice, machine.disk, machine.ledger
    for _ in range(LIVES // 10):
        store = await machine.on()
        await ledger.check(store)
        await machine.forget_some(store)
        disk.trouble = 0.05
        for _ in range(5):
            await Life(store, ledger, dice).live(5)
        # It recovers alone: nothing has to be opened again.
        disk.trouble = 0.0
        before = ledger.unknown
        await Life(store, ledger, dice).live(5)
        assert ledger.unknown == before
        await ledger.check(store)
        await machine.lose_power()
    await ledger.check(await machine.on())
    assert disk.troubles > LIVES // 5 and ledger.unknown > LIVES // 10
    await machine.lose_power()
