"""Planned change costs no request: every kind of change in random order, under a steady rate of direct calls and submits (promise 3; F-15, F-65)."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from dataclasses import dataclass, field

import pytest

from tests.system.conftest import APPS
from tests.system.probing import Connection, Prober, Response
from tests.system.roosts import Roost, until

LONG = os.environ.get("ROOST_LONG") == "1"
CHANGES, RATE = (100, 50) if LONG else (7, 25)
"""Changes, and direct calls a second; as many are submitted."""
APP = "open-timed"


@pytest.fixture(scope="module")
def warm(roost: Roost) -> Roost:
    """With two revisions of the app, so that there is one to go back to."""
    for _ in range(2):
        deploy(roost)
    assert roost.call(APP).status_code == 200
    return roost


def deploy(roost: Roost) -> None:
    roost.cli("deploy", f"{APPS / 'timed.py'}::OpenTimed", "--json", "--message", str(time.time()))


def go_back(roost: Roost) -> None:
    revisions = json.loads(roost.cli("apps", "list-rev", APP, "--json").stdout)["revisions"]
    chosen = next(one for one in revisions if not one["active"] and one["state"] == "DEPLOYED")
    roost.cli("apps", "set-rev", APP, chosen["revision_id"])


def scale(roost: Roost) -> None:
    roost.cli("apps", "scale", APP, "--max-concurrency", str(random.randint(4, 10)), "--max-multiplexing", str(random.randint(2, 8)))


def renew(roost: Roost) -> None:
    roost.cli("apps", "rollout", APP)


def stop_a_runner(roost: Roost) -> None:
    # All may be leaving at this moment.
    if living := [one for one in roost.runners(APP) if one["state"] in ("IDLE", "RUNNING")]:
        roost.cli("runners", "stop", living[0]["runner_id"])


def restart(roost: Roost) -> None:
    roost.cli("restart")


KINDS = (deploy, go_back, scale, renew, stop_a_runner, restart)


@dataclass
class Submitter:
    """Submits at a steady rate, and asks for each result in the end."""

    address: str
    path: str
    key: str
    accepted: list[tuple[str, str]] = field(default_factory=list)
    """Request id and mark."""
    refused: list[str] = field(default_factory=list)

    async def run(self, rate: float, done: asyncio.Event) -> None:
        tasks: set[asyncio.Task[None]] = set()
        began = time.perf_counter()
        number = 0
        while not done.is_set():
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            tasks.add(asyncio.create_task(self._submit(f"job-{number}")))
            number += 1
        await asyncio.gather(*tasks)

    async def _submit(self, mark: str) -> None:
        try:
            answer = await asyncio.wait_for(self._ask("POST", "", json.dumps({"ms": 20, "mark": mark}).encode()), 30)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            self.refused.append(repr(error))
            return
        if answer.status != 200:
            self.refused.append(f"{answer.status} {answer.body[:200]!r}")
        else:
            self.accepted.append((json.loads(answer.body)["request_id"], mark))

    async def wrong(self) -> list[str]:
        """What is not as it should be once everything has ended."""
        found: list[str] = []
        for request_id, mark in self.accepted:
            until_s = time.monotonic() + 60
            while (answer := await self._ask("GET", f"/requests/{request_id}")).status == 400 and time.monotonic() < until_s:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            if answer.status != 200 or mark.encode() not in answer.body:
                found.append(f"{request_id}: {answer.status} {answer.body[:200]!r}")
        return found

    async def _ask(self, method: str, below: str, body: bytes = b"") -> Response:
        connection = await Connection.open(self.address)
        try:
            headers = [("content-type", "application/json"), ("authorization", f"Key {self.key}")]
            return await connection.ask(method, f"{self.path}{below}", headers, body)
        finally:
            await connection.close()


async def test_changes_of_every_kind_fail_no_request(warm: Roost) -> None:
    dice = random.Random(20)
    order = [*KINDS, *dice.choices(KINDS, k=max(0, CHANGES - len(KINDS)))]
    dice.shuffle(order)
    prober = Prober(warm.address, [(f"/{warm.owner}/{APP}", [])], durations_ms=(5, 20, 80))
    submitter, done = Submitter(warm.address, f"/_queue/{warm.owner}/{APP}", warm.key), asyncio.Event()

    def change() -> None:
        time.sleep(1.0)
        for one in order:
            one(warm)
        time.sleep(1.0)

    async def changes() -> None:
        try:
            await asyncio.to_thread(change)
        finally:
            done.set()

    submitting = asyncio.create_task(submitter.run(RATE, done))
    await prober.run(RATE, changes())
    await submitting
    wrong = await submitter.wrong()
    print(
        f"\n{len(order)} changes; {prober.report()}; {len(submitter.accepted)} submits, {len(submitter.refused)} refused, {len(wrong)} wrong"
    )
    assert not prober.failed, (prober.report(), prober.failed[:10])
    assert not submitter.refused and not wrong, (submitter.refused[:10], wrong[:10])
    until("only one server is left", lambda: sum("roost.server" in command for command in warm.tree().values()) == 1, 40)
