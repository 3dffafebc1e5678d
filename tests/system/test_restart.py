"""A planned restart costs no call: those in flight end on the old server, those that arrive wait a moment."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from tests.system.conftest import APPS
from tests.system.probing import Connection, Prober
from tests.system.roosts import Roost, until

LONG = os.environ.get("ROOST_LONG") == "1"
RESTARTS, PAUSE_S = (10, 6.0) if LONG else (3, 3.0)
RATE = 50


@pytest.fixture(scope="module")
def timed(roost: Roost) -> Roost:
    """With both apps warm."""
    for name in ("Timed", "OpenTimed"):
        roost.cli("deploy", f"{APPS / 'timed.py'}::{name}", "--json")
    for name in ("timed", "open-timed"):
        assert roost.call(name).status_code == 200
    return roost


@pytest.fixture(scope="module")
def brief(roost: Roost) -> Roost:
    roost.cli("deploy", f"{APPS / 'timed.py'}::Brief", "--json")
    return roost


def targets(roost: Roost) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(f"/{roost.owner}/timed", [("authorization", f"Key {roost.key}")]), (f"/{roost.owner}/open-timed", [])]


async def call(roost: Roost, app: str, **wish: object) -> tuple[int, object]:
    connection = await Connection.open(roost.address)
    try:
        path, body = f"/{roost.owner}/{app}", json.dumps(wish).encode()
        answer = await connection.ask("POST", path, [("content-type", "application/json"), ("authorization", f"Key {roost.key}")], body)
        return answer.status, answer.json()
    finally:
        await connection.close()


async def test_restarts_under_load_fail_no_call_and_hold_none_up_for_long(timed: Roost) -> None:
    """With one long call in flight over several restarts: it ends on the server that took it."""
    prober = Prober(timed.address, targets(timed))
    pids = {timed.server_pid()}
    took: list[float] = []

    def restarts() -> None:
        time.sleep(1.0)  # some calls before the first one
        for _ in range(RESTARTS):
            began = time.monotonic()
            said = timed.cli("restart").stdout
            assert said.startswith("✓ Restarted in"), said
            took.append(time.monotonic() - began)
            pids.add(timed.server_pid())
            time.sleep(max(0.0, PAUSE_S - (time.monotonic() - began)))

    long_call = asyncio.create_task(call(timed, "timed", ms=10_000, mark="long"))
    await prober.run(RATE, asyncio.to_thread(restarts))
    print(f"\n{RESTARTS} restarts of {min(took):.1f} to {max(took):.1f} s: {prober.report()}")
    status, body = await long_call
    assert status == 200 and isinstance(body, dict) and body["mark"] == "long"
    assert not prober.failed, (prober.report(), prober.failed[:10])
    assert prober.worst_s() <= 2.0, (prober.report(), sorted(prober.calls, key=lambda one: -one.waited_s)[:10])
    assert len(pids) == RESTARTS + 1
    # The old servers leave as soon as their last call and connection have ended.
    until("only one server is left", lambda: sum("roost.server" in command for command in timed.tree().values()) == 1, 40)


async def test_a_call_in_flight_keeps_its_runner_alive_and_busy_for_the_new_server(brief: Roost) -> None:
    """The app would let an idle runner go after a second, and has one slot a runner: who calls meanwhile gets another runner."""
    roost = brief
    in_flight = asyncio.create_task(call(roost, "brief", ms=8_000, mark="long"))
    await asyncio.to_thread(until, "the call is in flight", lambda: [r for r in roost.runners("brief") if r["in_flight_requests"]])
    await asyncio.to_thread(roost.cli, "restart")
    status, other = await call(roost, "brief", mark="meanwhile")
    assert status == 200
    assert not in_flight.done()
    status, body = await in_flight
    assert status == 200, body
    assert isinstance(body, dict) and isinstance(other, dict) and body["mark"] == "long" and body["pid"] != other["pid"]
    await asyncio.to_thread(until, "both runners have gone", lambda: not roost.runners("brief"))


async def test_an_answer_of_503_ends_the_runner_also_when_its_server_has_handed_over(brief: Roost) -> None:
    roost = brief
    assert roost.call("brief").status_code == 200
    connection = await Connection.open(roost.address)
    asked = asyncio.create_task(
        connection.ask(
            "POST",
            f"/{roost.owner}/brief/last",
            [("content-type", "application/json"), ("authorization", f"Key {roost.key}")],
            b'{"ms": 3000}',
        )
    )
    await asyncio.to_thread(until, "the call is in flight", lambda: [r for r in roost.runners("brief") if r["in_flight_requests"]])
    (runner,) = roost.runners("brief")
    await asyncio.to_thread(roost.cli, "restart")
    answer = await asked
    await connection.close()
    assert (answer.status, answer.json()) == (503, {"detail": "enough"})
    await asyncio.to_thread(until, "its runner has ended", lambda: runner["runner_id"] not in [r["runner_id"] for r in roost.runners()])


async def test_callers_that_wait_for_a_cold_runner_are_served_by_the_new_server(roost: Roost, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    # `recreate` starts no runner.
    roost.cli("deploy", f"{APPS / 'timed.py'}::Slow", "--json", "--strategy", "recreate", GATE=str(gate))
    callers = [asyncio.create_task(call(roost, "slow", mark=f"w{n}")) for n in range(5)]
    await asyncio.to_thread(until, "a runner sets up", lambda: [r for r in roost.runners("slow") if r["state"] == "SETUP"])
    (runner,) = roost.runners("slow")
    await asyncio.to_thread(roost.cli, "restart")
    assert not any(caller.done() for caller in callers)
    gate.touch()
    assert await asyncio.gather(*callers) == [(200, {"mark": f"w{n}"}) for n in range(5)]
    assert [r["runner_id"] for r in roost.runners("slow")] == [runner["runner_id"]]


async def test_a_deploy_under_load_fails_no_call(timed: Roost) -> None:
    prober = Prober(timed.address, targets(timed))

    def deploys() -> None:
        for _ in range(3 if LONG else 1):
            for name in ("Timed", "OpenTimed"):
                timed.cli("deploy", f"{APPS / 'timed.py'}::{name}", "--json", "--message", str(time.time()))
        time.sleep(1.0)  # the old runners drain

    await prober.run(RATE, asyncio.to_thread(deploys))
    print(f"\n{prober.report()}")
    assert not prober.failed, (prober.report(), prober.failed[:10])
    assert prober.worst_s() <= 2.0, prober.report()
