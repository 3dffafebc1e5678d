"""Callers of the queue that write a history (tests/histories): whatever happens to the server, they come back until they know.

    async with Load(roost, folder) as load:
        outcomes = await load.carry([Job("recorder", ms=20) for _ in range(500)], callers=20)
    assert check(read(folder)) == []

Each job is submitted with an idempotency key, again and again while the outcome is unknown; then its status is asked for until it is
COMPLETED, and then its result. At the end `list_everything` writes down what the server says of all requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from typing_extensions import Self

from tests.histories.history import Called, Listed, Operation, Phase, Tried, Writer, now
from tests.system.probing import Connection, Response
from tests.system.roosts import Roost

ANSWER_LIMIT_S = 20.0
PATIENCE_S = 90.0
"""For one job, from its submit to its end."""


class OutOfPatience(AssertionError):
    """A job did not come to its end; says what the last answer was."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a caller wants: the fields of tests/apps/system/queue_recorder.py, and how it is sent."""

    application: str = "recorder"
    ms: int = 5
    mood: str = ""
    answer_bytes: int = 0
    input_bytes: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    cancel_after_s: float | None = None
    """Cancel it so long after the submit was answered."""
    key: str = ""
    """Idempotency key; empty: a new one."""
    webhook: str = ""
    """Ask to be told of its end, at this word below `Load.webhook`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, as its caller saw it."""

    job: Job
    request: str
    code: int
    """Of the result."""
    error_type: str
    attempt: int
    token: str
    submit_s: float
    """What the submit that was answered took."""
    submits: int
    """How often it was sent."""
    submitted_at: float
    ended_at: float


@dataclass
class Load:
    """A run of callers against one server, into one folder. The folder lies inside of the one that the apps were deployed with (RECORD)."""

    roost: Roost
    folder: Path
    patience_s: float = PATIENCE_S
    poll_s: float = 0.05
    webhook: str = ""
    """URL that webhooks go below."""
    owner: str = ""
    key: str = ""
    writer: Writer = field(init=False)
    _calls: Iterator[int] = field(default_factory=itertools.count)

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Asked for once: while the server is down there is nobody to ask.
        self.key = self.key or self.roost.key
        self.owner = self.owner or await asyncio.to_thread(lambda: self.roost.owner)
        self.writer = Writer(self.folder / "callers.jsonl")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.writer.close()

    async def carry(self, jobs: Iterable[Job], callers: int = 20) -> list[Outcome]:
        """All jobs to their ends, so many at a time; answers in the order of the jobs."""
        left = enumerate(jobs)
        done: dict[int, Outcome] = {}

        async def one_caller() -> None:
            async with self.caller() as caller:
                for number, job in left:
                    done[number] = await caller.carry(job)

        await _all(one_caller() for _ in range(callers))
        return [done[number] for number in sorted(done)]

    async def at_rate(self, jobs: Iterable[Job], rate: float) -> list[Outcome]:
        """A job every 1/rate seconds, whatever becomes of those before (open loop)."""
        began = time.monotonic()
        tasks: list[asyncio.Task[Outcome]] = []

        async def one(job: Job) -> Outcome:
            async with self.caller() as caller:
                return await caller.carry(job)

        for number, job in enumerate(jobs):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(one(job)))
        return list(await asyncio.gather(*tasks))

    @contextlib.asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        caller = Caller(self)
        try:
            yield caller
        finally:
            await caller.leave()

    async def list_everything(self, *applications: str) -> tuple[Listed, ...]:
        """Write down every request of these apps that this run submitted, with its attempts, as the server lists them now."""
        rows: list[Listed] = []
        async with self.caller() as caller:
            for application in applications:
                before = ""
                while True:
                    page = await caller.look(f"/v1/requests?app={self.owner}/{application}&limit=100{before}")
                    for one in page["requests"]:
                        rows.append(await self._listed(caller, one))
                    if len(page["requests"]) < 100:
                        break
                    before = f"&before={page['requests'][-1]['request_id']}"
        for row in rows:
            self.writer.append(row)
        return tuple(rows)

    async def list_these(self, requests: Iterable[str]) -> tuple[Listed, ...]:
        """As `list_everything`, of these only: for a server that has more than this run's. Unknown ones are left out."""
        rows: list[Listed] = []
        async with self.caller() as caller:
            for request in requests:
                found = await caller.look(f"/v1/requests/{request}", missing={})
                if found:
                    rows.append(_row(found))
        for row in rows:
            self.writer.append(row)
        return tuple(rows)

    async def _listed(self, caller: Caller, one: Mapping[str, Any]) -> Listed:
        return _row(await caller.look(f"/v1/requests/{one['request_id']}"))

    def next_call(self) -> str:
        return f"{os.getpid()}-{next(self._calls)}"


class Caller:
    """One client with one connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._connection: Connection | None = None

    async def leave(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def carry(self, job: Job) -> Outcome:
        """Submit, perhaps cancel, wait for the end, fetch the result."""
        deadline = time.monotonic() + self._load.patience_s
        job = replace(job, key=job.key or os.urandom(8).hex())
        begun = time.monotonic()
        request, submit_s, submits = await self.submit(job, deadline)
        if not request:
            return Outcome(job, "", submits, "", 0, "", submit_s, 1, begun, time.monotonic())
        if job.cancel_after_s is not None:
            await asyncio.sleep(job.cancel_after_s)
            await self.cancel(job, request, deadline)
        await self.wait(job, request, deadline)
        ended_at = time.monotonic()
        result = await self.result(job, request, deadline)
        return Outcome(job, request, result.code, result.error_type, result.attempt, result.answer, submit_s, submits, begun, ended_at)

    async def submit(self, job: Job, deadline: float) -> tuple[str, float, int]:
        """(request id, seconds of the answered submit, times sent); with an empty id the last number is the status of a refusal."""
        body = json.dumps(
            {
                "key": job.key,
                "folder": self._load.folder.name,
                "ms": job.ms,
                "mood": job.mood,
                "answer_bytes": job.answer_bytes,
                "padding": "x" * job.input_bytes,
            }
        ).encode()
        headers = (("content-type", "application/json"), ("idempotency-key", job.key), *job.headers)
        for sent in itertools.count(1):
            began = time.monotonic()
            seen = await self._call("submit", "POST", job, "", deadline, headers, body)
            if seen.phase == "ok":
                return seen.request, time.monotonic() - began, sent
            if seen.phase == "fail":
                return "", time.monotonic() - began, seen.code
            await self._pause(deadline, f"submit of {job.key}", seen)
        raise AssertionError("unreachable")

    async def wait(self, job: Job, request: str, deadline: float) -> Called:
        """The first status that says COMPLETED."""
        poll_s = self._load.poll_s
        while True:
            seen = await self.status(job, request, deadline)
            if seen.state == "COMPLETED":
                return seen
            await self._pause(deadline, f"status of {request}", seen, poll_s if seen.phase == "ok" else 0.1)
            poll_s = min(poll_s * 1.2, 1.0)

    async def status(self, job: Job, request: str, deadline: float) -> Called:
        return await self._call("status", "GET", job, request, deadline)

    async def result(self, job: Job, request: str, deadline: float) -> Called:
        while True:
            seen = await self._call("result", "GET", job, request, deadline)
            if seen.phase == "ok":
                return seen
            await self._pause(deadline, f"result of {request}", seen)

    async def cancel(self, job: Job, request: str, deadline: float) -> Called:
        """Until somebody answers: 202, or 400 when it came too late."""
        while True:
            seen = await self._call("cancel", "PUT", job, request, deadline)
            if seen.phase != "unknown":
                return seen
            await self._pause(deadline, f"cancel of {request}", seen)

    async def look(self, path: str, missing: Any = None) -> Any:
        """Ask the control plane, outside of the history, until it answers."""
        deadline = time.monotonic() + self._load.patience_s
        while True:
            try:
                answer = await self._ask("GET", path, (), b"")
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                await self._pause(deadline, path, error)
                continue
            if answer.status == 200:
                return answer.json()
            if answer.status == 404 and missing is not None:
                return missing
            await self._pause(deadline, path, (answer.status, answer.body[:300]))

    async def _call(
        self,
        op: Operation,
        method: str,
        job: Job,
        request: str,
        deadline: float,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> Called:
        """One call, both its ends written down."""
        told = op == "submit" and bool(job.webhook)
        invoke = Called(now(), self._load.next_call(), op, "invoke", job.key, request, webhook=told)
        self._load.writer.append(invoke)
        path = f"/_queue/{self._load.owner}/{job.application}"
        if told:
            path += f"?fal_webhook={quote(self._load.webhook + job.webhook, safe='')}"
        if request:
            path += f"/requests/{request}" + {"status": "/status", "cancel": "/cancel"}.get(op, "")
        try:
            heard = _understood(invoke, await self._ask(method, path, headers, body))
        except (OSError, EOFError, asyncio.TimeoutError):
            heard = replace(invoke, at=now(), phase="unknown")
        self._load.writer.append(heard)
        return heard

    async def _ask(self, method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes) -> Response:
        if self._connection is None or self._connection.stale:
            await self.leave()
            self._connection = await asyncio.wait_for(Connection.open(f"{self._load.roost.host}:{self._load.roost.port}"), ANSWER_LIMIT_S)
        try:
            fields = [("authorization", f"Key {self._load.key}"), *headers]
            return await asyncio.wait_for(self._connection.ask(method, path, fields, body), ANSWER_LIMIT_S)
        except BaseException:
            await self.leave()
            raise

    async def _pause(self, deadline: float, what: str, last: object, pause_s: float = 0.1) -> None:
        if time.monotonic() > deadline:
            raise OutOfPatience(f"{what}: not in {self._load.patience_s:g} s; last seen: {last}")
        await asyncio.sleep(pause_s)


def _understood(invoke: Called, answer: Response) -> Called:
    heard = replace(invoke, at=now(), code=answer.status)
    # A 5xx of ours says nothing about the effect, and one with Retry-After is never a request's result.
    phase: Phase = "ok" if answer.status < 300 else "fail" if answer.status < 500 else "unknown"
    said: Any = {}
    with contextlib.suppress(ValueError):
        said = answer.json()
    if not isinstance(said, dict):
        said = {}
    error_type = str(said.get("error_type", ""))
    if invoke.op == "submit" and phase == "ok":
        return replace(heard, phase=phase, request=said["request_id"])
    if invoke.op == "status" and phase == "ok":
        return replace(heard, phase=phase, state=said["status"], error_type=error_type)
    if invoke.op == "result":
        final = answer.status not in (400, 404) and "retry-after" not in answer.headers
        token = str(said.get("token") or hashlib.sha256(answer.body).hexdigest()[:16])
        attempt = int(said.get("attempt", 0))
        return replace(heard, phase="ok" if final else phase, answer=token, attempt=attempt, error_type=error_type)
    return replace(heard, phase=phase, error_type=error_type)


def _row(one: Mapping[str, Any]) -> Listed:
    attempts = [
        Tried(tried["number"], tried["state"], _ms(tried["started_at"]) or 0, _ms(tried.get("ended_at"))) for tried in one["attempts"]
    ]
    return Listed(one["request_id"], one["application"], one["status"], tuple(attempts))


def _ms(text: str | None) -> int | None:
    """Milliseconds of an ISO time."""
    return None if text is None else round(dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


async def _all(running: Iterable[Any]) -> None:
    """Wait for all; the first failure ends the others."""
    tasks = [asyncio.ensure_future(one) for one in running]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
