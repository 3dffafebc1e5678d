"""The durable queue against a model of it: any order of submits, claims, ends, cancels, deadlines, crashes and failing writes.

The model is a dict and a few comparisons. After each step the queue's view, the rows and the model must agree (faults.md I1-I4, I9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from roost.core import retry
from roost.core.requests import (
    Again,
    AttemptState,
    Claim,
    Content,
    Final,
    Input,
    NewRequest,
    OtherBody,
    Output,
    Priority,
    Request,
    RequestState,
    SameKey,
    Submitted,
)
from roost.core.retry import Answered, Broken, Moved, Outcome, TimedOut
from roost.demand.queue import AlreadyCompleted, Asked, Cancelled, NotFound, Queue
from roost.kit.hints import Hints
from roost.store import DiskTrouble, Store
from roost.store.migrate import known as migrations
from roost.store.sqlite import SqliteDriver
from roost.testkit import blank
from roost.testkit.clock import EPOCH_MS, VirtualClock
from roost.testkit.flaky import FlakyDriver

T = TypeVar("T")
APP = "me/app"
IN_QUEUE, IN_PROGRESS, COMPLETED = RequestState.IN_QUEUE, RequestState.IN_PROGRESS, RequestState.COMPLETED


@dataclass
class Known:
    """A request as the model knows it."""

    id: str
    place: tuple[int, int]
    deadline_ms: int | None
    state: RequestState = IN_QUEUE
    attempt: int = 0
    deaths: int = 0
    due_ms: int | None = None
    cancel_asked: bool = False
    held: bool = False
    result: bytes | None = None
    attempts: list[AttemptState] = field(default_factory=list[AttemptState])

    def may_go(self, now_ms: int) -> bool:
        return self.state is IN_QUEUE and not self.held and (self.due_ms is None or self.due_ms <= now_ms)


FAULTS = st.sampled_from(["", "", "", "", "before", "after"])
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(
    [
        Broken("runner_disconnected", "it died", death=True),
        Broken("runner_connection_error", "reset"),
        TimedOut(1_000),
        Moved("drained"),
        Answered(Output(503, (), Content(1, b"x")), 5),
        Answered(Output(200, (), Content(2, b"ok")), 5),
    ]
)


class QueueMachine(RuleBasedStateMachine):
    ids = Bundle("ids")
    handed = Bundle("handed")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        self.model: dict[str, Known] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.submits = 0
        self.now_ms = EPOCH_MS
        self.driver = FlakyDriver(self.loop.run_until_complete(SqliteDriver.open(":memory:")))
        self.store = self.loop.run_until_complete(Store.on(self.driver, self.clock, migrations()))
        self.open()

    def run(self, work: Coroutine[Any, Any, T], fault: str = "") -> T | None:
        """Do it; None if it failed with its write."""
        self.driver.fault = fault
        try:
            done = self.loop.run_until_complete(work)
        except DiskTrouble:
            assert fault
            done = None
        # A verb that had nothing to write has not used it.
        self.driver.fault = ""
        return done

    def ask(self, question: Callable[[], T]) -> T:
        """What the queue answers at once, on the loop as in a server."""

        async def asked() -> T:
            return question()

        return self.loop.run_until_complete(asked())

    def open(self) -> None:
        self.queue = self.loop.run_until_complete(Queue.open(self.store.requests, Hints(), lambda: self.now_ms))

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()

    # --- what happens

    @initialize(target=ids, priorities=st.lists(st.sampled_from(Priority), min_size=3, max_size=6))
    def some_wait(self, priorities: list[Priority]) -> Any:
        return multiple(*(self.submit_one(priority, None, "", b"1", "") for priority in priorities))

    @rule(
        target=ids,
        priority=st.sampled_from(Priority),
        start_timeout_ms=st.sampled_from([None, None, None, 500, 30_000]),
        key=st.sampled_from(["", "", "", "a", "b"]),
        body=st.sampled_from([b"1", b"2"]),
        fault=FAULTS,
    )
    def submit(self, priority: Priority, start_timeout_ms: int | None, key: str, body: bytes, fault: str) -> Any:
        accepted = self.submit_one(priority, start_timeout_ms, key, body, fault)
        return multiple() if accepted is None else accepted

    def submit_one(self, priority: Priority, start_timeout_ms: int | None, key: str, body: bytes, fault: str) -> str | None:
        self.submits += 1
        new_id = f"req-{self.submits}"
        deadline_ms = None if start_timeout_ms is None else self.now_ms + start_timeout_ms
        request = blank.REQUEST._replace(id=new_id, priority=priority, created_ms=self.now_ms, deadline_ms=deadline_ms)
        new = NewRequest(request, Input("POST", b"/", b"", (), Content(1, body)), key, body.decode())
        known_as = self.keys.get(key) if key else None
        answer = self.run(self.queue.submit(new), fault if known_as is None else "")
        if known_as is not None:
            assert isinstance(answer, SameKey if known_as[1] == body.decode() else OtherBody)
            assert answer.request.id == known_as[0]
            return None
        if answer is None:
            assert self.queue.find(new_id) is None and fault == "before"
            return None
        assert isinstance(answer, Submitted)
        assert all(answer.request.seq > other.place[1] for other in self.model.values())
        self.model[new_id] = Known(new_id, (priority.value, answer.request.seq), deadline_ms)
        if key:
            self.keys[key] = (new_id, body.decode())
        return new_id

    @rule(target=handed, suspects=st.booleans())
    def hand_out(self, suspects: bool) -> Any:
        request = self.hand_out_one(suspects)
        return multiple() if request is None else request

    def hand_out_one(self, suspects: bool) -> Request | None:
        waiting = [known for known in self.model.values() if known.may_go(self.now_ms) and (suspects or not known.deaths)]
        request = self.ask(lambda: self.queue.next(APP, self.now_ms, suspects=suspects))
        if not waiting:
            assert request is None
            return None
        first = min(waiting, key=lambda known: known.place)
        assert request is not None and request.id == first.id, "first by priority, then by age"
        first.held = True
        return request

    @rule(request=consumes(handed))
    def put_back(self, request: Request) -> None:
        self.ask(lambda: self.queue.put_back(request))
        self.model[request.id].held = False

    @rule(suspects=st.booleans(), fault=FAULTS)
    def begin(self, suspects: bool, fault: str) -> None:
        self.begin_one(suspects, fault)

    def begin_one(self, suspects: bool, fault: str) -> None:
        request = self.hand_out_one(suspects)
        if request is not None:
            self.claim_one(request, fault)

    @rule(request=consumes(handed), fault=FAULTS)
    def claim(self, request: Request, fault: str) -> None:
        self.claim_one(request, fault)

    def claim_one(self, request: Request, fault: str) -> None:
        known = self.model[request.id]
        may = known.state is IN_QUEUE and known.attempt == request.attempt
        claim = Claim(f"{request.id}-{self.submits}-{self.now_ms}-{known.attempt}", "run-1", self.now_ms + 10_000)
        claimed = self.run(self.queue.claim(request, claim), fault)
        known.held = False
        if claimed is not None:
            assert may
            known.state, known.attempt, known.due_ms = IN_PROGRESS, known.attempt + 1, None
            assert (claimed.request.attempt, claimed.request.started_ms) == (known.attempt, self.now_ms)
            assert claimed.input.content.size == 1
        else:
            assert not may or fault == "before"

    @rule(outcomes=st.lists(OUTCOMES, min_size=1, max_size=4), ms=st.sampled_from([1, 1_000, 5_000]))
    def several_attempts(self, outcomes: list[Outcome], ms: int) -> None:
        for outcome in outcomes:
            self.begin_one(True, "")
            self.attempt_ends_one(-1, outcome, "")
            self.pass_time(ms)

    @rule(pick=st.integers(0, 5), outcome=OUTCOMES, fault=FAULTS)
    def attempt_ends(self, pick: int, outcome: Outcome, fault: str) -> None:
        self.attempt_ends_one(pick, outcome, fault)

    def attempt_ends_one(self, pick: int, outcome: Outcome, fault: str) -> None:
        under_way = [known for known in self.model.values() if known.state is IN_PROGRESS]
        if not under_way:
            return
        known = under_way[pick % len(under_way)]
        request = self.queue.find(known.id)
        assert request is not None
        step = retry.next_step(outcome, request, self.now_ms, 0.5)
        if isinstance(step, Again):
            if self.run(self.queue.requeue(known.id, request.attempt, step), fault) is None:
                assert fault == "before"
                return
            known.state, known.due_ms = IN_QUEUE, step.due_ms
            known.deaths += step.death
            known.attempts.append(step.attempt_state)
            return
        if self.run(self.queue.finish(known.id, request.attempt, step.final), fault) is None:
            assert fault == "before"
            return
        known.state = COMPLETED
        known.result = step.final.output.content.inline if step.final.output is not None else None
        known.attempts.append(step.final.attempt_state)

    @rule(id=ids, back=st.integers(1, 3))
    def a_late_result_changes_nothing(self, id: str, back: int) -> None:
        known = self.model[id]
        attempt = known.attempt - back
        late = Final(200, output=Output(200, (), Content(4, b"late")))
        assert self.run(self.queue.finish(id, attempt, late)) is None
        assert self.run(self.queue.requeue(id, attempt, Again(None, "timeout", "late"))) is None
        if known.state is not IN_PROGRESS:
            assert self.run(self.queue.finish(id, known.attempt, late)) is None, "a final state never changes"
        # Nobody else's hold survives a look at the row; its claim is refused then.
        known.held = False

    @rule(id=ids, fault=FAULTS)
    def cancel(self, id: str, fault: str) -> None:
        known = self.model[id]
        answer = self.run(self.queue.cancel(id), "" if known.cancel_asked else fault)
        known.held = False if known.state is IN_QUEUE else known.held
        if answer is None:
            assert fault == "before"
            return
        if known.state is IN_QUEUE:
            assert isinstance(answer, Cancelled) and answer.request.status == 499
            known.state = COMPLETED
        elif known.state is IN_PROGRESS:
            assert isinstance(answer, Asked)
            known.cancel_asked = True
        else:
            assert isinstance(answer, AlreadyCompleted)

    @rule(ms=st.sampled_from([1, 400, 1_000, 5_000, 60_000]))
    def time_passes(self, ms: int) -> None:
        self.pass_time(ms)

    def pass_time(self, ms: int) -> None:
        before = self.queue.next_moment(self.now_ms)
        now_ms = self.now_ms + ms
        for known in self.model.values():
            if known.state is IN_QUEUE and not known.held:
                for at in (known.due_ms, known.deadline_ms):
                    assert at is None or at <= self.now_ms or (before is not None and before <= at), "nobody is overslept"
        self.now_ms = now_ms
        self.loop.run_until_complete(self.look())

    async def look(self) -> None:
        """What dispatch does at each moment that the queue names."""
        for request in self.queue.due_and_expired(self.now_ms):
            assert request.deadline_ms is not None and request.deadline_ms <= self.now_ms
            ended = await self.queue.expire(request.id)
            assert ended is not None and (ended.status, ended.timeout_type) == (504, "user")
            self.model[request.id].state = COMPLETED

    @rule(what=st.sampled_from(["look", "look", "look", "look", "reconcile", "reconcile", "crash", "flush"]))
    def something_rare(self, what: str) -> None:
        if what == "look":
            assert isinstance(self.run(self.queue.cancel("nobody")), NotFound)
        elif what == "reconcile":
            assert self.run(self.queue.reconcile()) == 0
        elif what == "crash":
            self.open()
            for known in self.model.values():
                known.held = False
        else:
            self.flush()

    def flush(self) -> None:
        ended = self.run(self.queue.flush("me", "app"))
        waiting = {known.id for known in self.model.values() if known.state is IN_QUEUE}
        assert ended is not None and {request.id for request in ended} == waiting
        for gone in waiting:
            self.model[gone].state, self.model[gone].held = COMPLETED, False

    # --- what must be true

    @invariant()
    def all_agree(self) -> None:
        self.loop.run_until_complete(self.compare())

    async def compare(self) -> None:
        await self.look()
        every = self.model.values()
        ahead = sorted(known.place for known in every if known.may_go(self.now_ms))
        assert self.queue.ready(APP) == len(ahead)
        assert self.queue.queued(APP) == sum(known.state is IN_QUEUE for known in every)
        assert {request.id for request in self.queue.in_progress()} == {known.id for known in every if known.state is IN_PROGRESS}
        for known in every:
            row = await self.store.requests.get(known.id)
            assert row is not None, "an accepted request is never lost"
            due_ms = known.due_ms if known.state is IN_QUEUE else None
            assert (row.state, row.attempt, row.deaths, row.due_ms) == (known.state, known.attempt, known.deaths, due_ms)
            seen = self.queue.find(known.id)
            assert seen == row or (seen is None and row.state is COMPLETED), "what finished before a crash is in the store only"
            if known.state is IN_QUEUE:
                assert self.queue.position(row) == sum(place < known.place for place in ahead)
                assert known.held or known.deadline_ms is None or known.deadline_ms > self.now_ms
            await self.compare_ends(known)

    async def compare_ends(self, known: Known) -> None:
        attempts = await self.store.requests.attempts(known.id)
        assert [attempt.number for attempt in attempts] == list(range(1, known.attempt + 1))
        assert [attempt.state for attempt in attempts if attempt.state is not AttemptState.RUNNING] == known.attempts
        if known.state is COMPLETED:
            output = await self.store.requests.output(known.id)
            assert (output.content.inline if output is not None else None) == known.result


QueueMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestQueue = QueueMachine.TestCase
