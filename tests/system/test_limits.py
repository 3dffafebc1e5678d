"""Machine types on a real machine: who takes too much memory is ended and named (faults.md F-15), and GPUs are shown to their owner only."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from roost.kit import linux
from tests.system.conftest import APPS
from tests.system.roosts import Roost, running, until
from tests.system.test_templates import has_template, stop_all

HUNGRY = APPS / "hungry.py"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Roost]:
    """A server with an app that takes too much, a modest neighbour, and two GPUs that it pretends to have."""
    with running(tmp_path_factory.mktemp("limited"), cache, ROOST_GPUS="L40,L40", ROOST_MEMORY_OVERCOMMIT="100") as roost:
        for name in ("Hungry", "Small", "Gpus"):
            roost.deploy(f"{HUNGRY}::{name}")
        yield roost


def reason_of(roost: Roost, runner_id: str) -> str:
    found = roost.api("GET", "/v1/runners?since=0")["runners"]
    return next(runner["reason"] for runner in found if runner["runner_id"] == runner_id)


def instance(roost: Roost) -> str:
    """Another one for each server process; "" while none serves."""
    return str((roost.health() or {}).get("instance", ""))


@pytest.mark.parametrize("template", [False, True], ids=["fresh", "forked"])
@pytest.mark.parametrize("endpoint", ["hungry", "hungry/child"])
def test_a_handler_that_takes_too_much_is_ended_by_name_and_nobody_else_notices(limited: Roost, template: bool, endpoint: str) -> None:
    if template:
        until("the template lives", lambda: has_template(limited, "hungry"))
        stop_all(limited, "hungry")
    assert limited.call("hungry", {"mb": 40}).json()["held"] == 10
    [runner] = limited.runners("hungry")
    server, over = limited.server_pid(), threading.Event()
    neighbours: list[int] = []

    def neighbour() -> None:
        while not over.is_set():
            neighbours.append(limited.call("small").status_code)

    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(neighbour)
        answer = limited.call(endpoint, {"mb": 4_000})
        over.set()
        asking.result()
    body = answer.json()
    assert (answer.status_code, body["error_type"]) == (503, "runner_disconnected"), body
    assert "it was out of memory: it held" in body["detail"], body
    assert "its machine type has 512 MB" in body["detail"], body
    assert len(neighbours) > 3
    assert set(neighbours) == {200}
    assert limited.server_pid() == server
    assert limited.health() is not None
    until("the row says why", lambda: "out of memory" in reason_of(limited, runner["runner_id"]))
    assert "its machine type has 512 MB" in limited.cli("apps", "logs", "hungry").stdout
    assert limited.call("hungry", {"mb": 40}).status_code == 200


def test_a_queued_request_that_takes_too_much_says_why_at_its_end(limited: Roost) -> None:
    submitted = httpx.post(f"{limited.url}/_queue/{limited.owner}/hungry", json={"mb": 4_000}, headers=limited.auth, timeout=30).json()
    until("it has ended", lambda: limited.api("GET", f"/v1/requests/{submitted['request_id']}")["status"] == "COMPLETED")
    told = limited.api("GET", f"/v1/requests/{submitted['request_id']}")
    assert told["error_type"] == "runner_disconnected"
    assert "its machine type has 512 MB" in told["error"], told
    assert len(told["attempts"]) == 3


def test_each_gpu_is_shown_to_one_runner_and_to_no_template(limited: Roost) -> None:
    until("the template lives", lambda: has_template(limited, "gpus"))
    stop_all(limited, "gpus")
    limited.cli("apps", "scale", "gpus", "--min-concurrency", "2")
    until("both have a runner", lambda: len([r for r in limited.runners("gpus") if r["state"] == "IDLE"]) == 2)
    seen = {answer["now"]: answer for answer in (limited.call("gpus").json() for _ in range(8))}
    assert set(seen) == {"0", "1"}
    assert {(answer["preload"], answer["order"]) for answer in seen.values()} == {("", "PCI_BUS_ID")}
    assert all(answer["setup"] == answer["now"] for answer in seen.values())
    assert limited.call("small").json()["now"] == ""


def test_a_crash_of_the_server_gives_no_gpu_away_and_who_waits_says_why(limited: Roost) -> None:
    limited.cli("apps", "scale", "gpus", "--min-concurrency", "2")
    until("both have a runner", lambda: len([r for r in limited.runners("gpus") if r["state"] == "IDLE"]) == 2)
    before = {runner["pid"] for runner in limited.runners("gpus")}
    old = instance(limited)
    os.kill(limited.server_pid(), signal.SIGKILL)
    until("another server serves", lambda: instance(limited) not in ("", old))
    limited.cli("apps", "scale", "gpus", "--min-concurrency", "3")
    until("the third is wanted", lambda: "PENDING (no room" in limited.cli("runners", "list").stdout.replace("\n", " "))
    wanted = [runner for runner in limited.runners("gpus") if not runner["runner_id"]]
    assert [runner["reason"] for runner in wanted] == ["no room: GPU needs 1 x GPU, and 2 of 2 are in use"]
    assert "2 of 2 are in use" in limited.cli("apps", "show", "gpus").stdout.replace("\n", " ")
    assert {runner["pid"] for runner in limited.runners("gpus") if runner["runner_id"]} == before
    assert all(linux.stat(pid) is not None for pid in before)
    limited.cli("apps", "scale", "gpus", "--min-concurrency", "2")
    until("nobody waits", lambda: all(runner["runner_id"] for runner in limited.runners("gpus")))


def test_doctor_says_how_limits_are_kept_and_which_gpus_there_are(limited: Roost) -> None:
    said = limited.cli("doctor").stdout
    assert "memory limits" in said
    assert "cpu shares" in said
    assert "0: L40, 1: L40 (from: pretended by the setting gpus)" in said.replace("\n", " ")
    assert "runners are started above 256 MB" in said.replace("\n", " ")
