"""The failpoint sweep (F-03): the server fails once at each named place on a request's path, and nothing that it accepted is lost.

One server stands for many strikes: a plan is put where its failpoints look (ROOST_FAILPOINTS_FILE), whoever visits a point next takes it, and
the server that is started in place of a killed one finds none. Each strike has a small workload, a folder and a verdict of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.arch.test_failpoints import literal_names, point_of, sources, writes
from tests.histories.check import Counts, check, counts, run_again
from tests.histories.history import read
from tests.soak.load import Job, Load, Outcome, OutOfPatience
from tests.soak.nemesis import server_pid
from tests.soak.receiver import NotTold, Receiver
from tests.system.roosts import Roost, running, until
from tests.system.trees import APPS

APP = APPS / "system" / "queue_recorder.py"
CLASSES = {"Recorder": "recorder", "Second": "recorder-2", "Single": "single", "Impatient": "impatient-recorder"}
"""And the names that they are deployed under."""

# Every way of a request through the queue, in about two seconds: back-offs begin at one.
HOLDER = Job("single", ms=700)
"""Takes the only slot of its app, so that others wait."""
WORKLOAD: tuple[Job, ...] = (
    Job(ms=5, webhook="ok"),
    Job("recorder-2", ms=20),
    Job(ms=50, input_bytes=100_000, answer_bytes=200_000, webhook="ok"),
    Job(ms=5, mood="again"),
    Job("recorder-2", ms=5, mood="dies"),
    Job(mood="patient", cancel_after_s=0.2),
    Job(ms=5, headers=(("x-fal-store-io", "0"),)),
    Job("single", ms=5, headers=(("x-fal-request-timeout", "0.3"),), webhook="ok"),
    Job("single", ms=5, cancel_after_s=0.05),
    Job("single", ms=5, input_bytes=100_000, headers=(("x-fal-queue-priority", "low"),)),
)


LONGER: tuple[Job, ...] = (*WORKLOAD, Job(ms=4_500), Job("impatient-recorder", ms=20_000), Job(ms=5, webhook="again"))
"""And what takes its time: a lease that is renewed, a call that is cut by request_timeout, a webhook that is tried again."""

EXCUSED: Mapping[str, str] = {
    "requests.end_damaged": "takes a row damaged by hand: tests/contract",
    "requests.delete_expired": "takes an hour at least: tests/contract",
    "payloads.remove": "follows delete_expired",
    "link.release": "takes a claim that fails, of a runner whose slots others use too: tests/sim",
    "payloads.sweep_one": "takes a file that nothing names: tests/unit/data",
    "webhooks.resend": "takes an operator's word: tests/contract",
}
"""Points that no workload of some seconds can visit."""


@dataclass(frozen=True, slots=True)
class Strike:
    """What goes wrong in one run."""

    point: str
    action: str
    """kill, raise or lost."""
    visit: int = 1
    at_start: bool = False
    """The server is killed in the middle of the workload, and it is the next one that is struck, while it takes over."""
    before: str = ""
    """What must go wrong first for the point to be visited at all."""

    @property
    def plan(self) -> str:
        return ",".join(filter(None, (self.before, f"{self.point}@{self.visit}={self.action}")))

    def __str__(self) -> str:
        return self.plan + (" at start" if self.at_start else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    strike: Strike
    hit: bool
    problems: tuple[str, ...]
    counts: Counts
    took_s: float

    @property
    def good(self) -> bool:
        return not self.problems


@dataclass
class Target:
    """A server under strikes."""

    roost: Roost
    folder: Path
    runs: int = 0
    strikes: list[Verdict] = field(default_factory=list[Verdict])

    @property
    def plan(self) -> Path:
        return self.folder / "plan"

    @property
    def visited(self) -> Path:
        return self.folder / "visited"

    def names(self) -> list[str]:
        """What was visited and what acted since the last `forget`."""
        return self.visited.read_text().split() if self.visited.exists() else []

    def arm(self, strike: Strike) -> None:
        """Renamed into place: half a plan would be another one."""
        draft = self.folder / "plan.draft"
        draft.write_text(strike.plan)
        draft.rename(self.plan)

    def workload_for(self, strike: Strike) -> Sequence[Job]:
        """The usual one, unless only the longer one visits the point."""
        return LONGER if strike.point.startswith(("requests.renew", "link.drop", "webhooks.failed")) else WORKLOAD

    async def suffer(self, strike: Strike | None, jobs: Sequence[Job] = WORKLOAD) -> Verdict:
        """One run of the workload, with a strike or without."""
        self.runs += 1
        began = time.monotonic()
        folder = self.folder / f"run-{self.runs}"
        acted_before = self._acts(strike)
        if strike is not None and not strike.at_start:
            self.arm(strike)
        problems: list[str] = []
        outcomes: list[Outcome] = []
        try:
            async with Receiver(folder) as receiver, Load(self.roost, folder, patience_s=45, webhook=receiver.url) as load:
                nemesis = asyncio.create_task(self._kill_and_arm(strike)) if strike is not None and strike.at_start else None
                same = os.urandom(8).hex()
                twins = [Job(ms=30, key=same), Job(ms=30, key=same)]
                flush = asyncio.create_task(self._flush(load))
                holder = asyncio.create_task(load.carry([HOLDER], callers=1))
                await asyncio.sleep(0.1)
                outcomes = await load.carry([*jobs, *twins], callers=len(jobs) + 2)
                outcomes += await holder
                await flush
                if nemesis is not None:
                    await nemesis
                await receiver.told(outcome.request for outcome in outcomes if outcome.request and outcome.job.webhook)
                # Those whose submit had no answer and whose key was not sent again do not exist: every caller goes on until it knows.
                await load.list_these({outcome.request for outcome in outcomes if outcome.request})
        except (OutOfPatience, NotTold) as error:
            problems.append(str(error))
        history = read(folder)
        problems += [str(violation) for violation in check(history)]
        # In this app no runner dies, and nothing else asks for another attempt.
        kept = {outcome.request for outcome in outcomes if outcome.job.application == "recorder" and outcome.job.mood != "again"}
        problems += [f"{request} ran again after its handler had answered" for request in run_again(history) if request in kept]
        with contextlib.suppress(FileNotFoundError):
            self.plan.unlink()
        hit = self._acts(strike) > acted_before
        verdict = Verdict(strike or Strike("none", "nothing"), hit, tuple(problems), counts(history), time.monotonic() - began)
        self.strikes.append(verdict)
        return verdict

    def _acts(self, strike: Strike | None) -> int:
        return 0 if strike is None else self.names().count(f"{strike.point}={strike.action}")

    async def _kill_and_arm(self, strike: Strike) -> None:
        await asyncio.sleep(0.3)
        os.kill(await server_pid(self.roost), signal.SIGKILL)
        self.arm(strike)

    async def _flush(self, load: Load) -> None:
        """Empty the queue of the app with one slot while something waits there."""
        await asyncio.sleep(0.35)
        path = f"/_rest/applications/{load.owner}/single/queue"
        async with httpx.AsyncClient(base_url=self.roost.url, headers={"authorization": f"Key {load.key}"}, timeout=10) as client:
            for _ in range(100):
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.delete(path)).status_code == 200:
                        return
                await asyncio.sleep(0.1)
        raise OutOfPatience("the queue could not be flushed")


@contextlib.contextmanager
def target(folder: Path, cache: Path, classes: Iterable[str] = CLASSES, **env: str) -> Iterator[Target]:
    """A server with the recording apps deployed and warm."""
    folder.mkdir(parents=True, exist_ok=True)
    armed = {"ROOST_FAILPOINTS_FILE": str(folder / "plan"), "ROOST_FAILPOINTS_LOG": str(folder / "visited")}
    armed |= {"ROOST_WEBHOOK_ALLOW": "127.0.0.1", **env}
    with running(folder / "home", cache, up_words=(), **armed) as roost:
        deploy(roost, folder, classes)
        yield Target(roost, folder)


def deploy(roost: Roost, folder: Path, classes: Iterable[str] = CLASSES) -> None:
    """The recording apps, each with a runner; `folder` is where their histories lie."""
    for name in classes:
        roost.cli("deploy", f"{APP}::{name}", "--json", RECORD=str(folder))
        until(f"{name} is warm", lambda app=CLASSES[name]: roost.runners(app))


def learn(one: Target) -> tuple[list[str], list[str]]:
    """The points that the workload visits, and those that a server visits which starts, or takes over in the middle of it."""
    at_start = {name for name in one.names() if on_the_path(name)}
    asyncio.run(one.suffer(None, LONGER))
    usual = [name for name in dict.fromkeys(one.names()) if on_the_path(name) and name not in at_start]
    asyncio.run(one.suffer(Strike("none", "kill", at_start=True), LONGER))
    later = [name for name in dict.fromkeys(one.names()) if on_the_path(name) and name not in usual]
    return usual, later


def on_the_path(name: str) -> bool:
    """Whether a point belongs to queued requests."""
    return "=" not in name and name.startswith(("requests.", "payloads.", "link.", "webhooks."))


def in_the_source() -> set[str]:
    """All points of queued requests that the syntax trees have."""
    found: set[str] = set()
    for source in sources("store", "data", "link"):
        for call in writes(source):
            found |= {f"{point_of(call)}:{moment}" for moment in ("before", "inside", "after")}
        found |= {name for name in literal_names(source) if source.file.startswith(("data/", "link/"))}
    # Those with a name in two parts.
    found -= {"payloads.keep", "blobs.put"}
    found |= {f"payloads.keep:{moment}" for moment in ("write", "written", "synced", "renamed", "after", "drop")}
    found |= {f"link.{order}:{moment}" for order in ("taken", "drop") for moment in ("before", "after")}
    return {name for name in found if on_the_path(name)}


def strikes_at(usual: Sequence[str], later: Sequence[str]) -> list[Strike]:
    """kill -9 at each point, at its first visit and at a later one; an error at each, which may or may not have had its effect; and both once
    more in the server that takes over from a killed one."""
    strikes: list[Strike] = []
    for point in usual:
        strikes += [Strike(point, "kill"), Strike(point, "kill", visit=5), Strike(point, "raise"), Strike(point, "raise", visit=3)]
    for point in (*usual, *later):
        strikes += [Strike(point, "kill", at_start=True), Strike(point, "raise", at_start=True)]
    return strikes
