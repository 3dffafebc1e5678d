"""The queue over plain HTTP, as any client would use it: what is answered when all is well (spec: queue.md §1-5, gateway-http.md §4)."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.roosts import Roost, until
from tests.system.trees import APPS, alive

APP = APPS / "system" / "queue_recorder.py"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("record")


@pytest.fixture(scope="module")
def queue(roost: Roost, record: Path) -> Iterator[httpx.Client]:
    """A caller of the shared server, with `recorder` and `single` deployed."""
    for name in ("Recorder", "Single"):
        roost.cli("deploy", f"{APP}::{name}", "--json", RECORD=str(record))
    with httpx.Client(base_url=f"{roost.url}/_queue/{roost.owner}", headers=roost.auth, timeout=30) as client:
        yield client
    for name in ("recorder", "single"):
        roost.cli("apps", "delete", name)


def submit(
    queue: httpx.Client, app: str = "recorder", *, headers: dict[str, str] | None = None, path: str = "", **job: Any
) -> dict[str, Any]:
    answer = queue.post(f"/{app}{path}", json={"key": "k", **job}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(queue: httpx.Client, submitted: dict[str, Any]) -> dict[str, Any]:
    """The status once it says COMPLETED."""

    def status() -> dict[str, Any] | None:
        answer = queue.get(submitted["status_url"])
        return answer.json() if answer.status_code == 200 else None

    return until("it is completed", status)


def test_a_request_goes_from_the_submit_to_its_result(queue: httpx.Client, roost: Roost) -> None:
    submitted = submit(queue, ms=200)
    assert {"request_id", "gateway_request_id", "response_url", "status_url", "cancel_url", "queue_position", "status"} <= submitted.keys()
    assert submitted["response_url"] == f"{roost.url}/_queue/{roost.owner}/recorder/requests/{submitted['request_id']}"
    under_way = queue.get(submitted["status_url"])
    assert (under_way.status_code, under_way.json()["status"]) in {(202, "IN_QUEUE"), (202, "IN_PROGRESS")}
    early = queue.get(submitted["response_url"])
    assert (early.status_code, early.json()["error_type"]) == (400, "bad_request")
    status = ended(queue, submitted)
    assert status["metrics"]["inference_time"] >= 0.2 and "error" not in status
    result = queue.get(submitted["response_url"])
    assert (result.status_code, result.json()["key"], result.json()["attempt"]) == (200, "k", 1)
    assert result.headers["x-fal-request-id"] == submitted["request_id"]
    assert queue.get(submitted["response_url"] + "/response").json() == result.json()


def test_the_stream_tells_every_change_and_ends_with_the_request(queue: httpx.Client) -> None:
    submitted = submit(queue, ms=400)
    with queue.stream("GET", submitted["status_url"] + "/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        seen = [json.loads(line[6:])["status"] for line in stream.iter_lines() if line.startswith("data: ")]
    assert seen[-1] == "COMPLETED" and "IN_PROGRESS" in seen


def test_large_bodies_come_through_both_ways(queue: httpx.Client) -> None:
    submitted = submit(queue, padding="x" * 3_000_000, answer_bytes=5_000_000)
    ended(queue, submitted)
    assert len(queue.get(submitted["response_url"]).json()["padding"]) == 5_000_000


def test_what_waits_has_a_position_is_served_by_priority_and_can_be_cancelled(queue: httpx.Client, record: Path) -> None:
    (record / "gated").mkdir()
    first = submit(queue, "single", folder="gated", mood="gated")
    until("it runs", lambda: queue.get(first["status_url"]).json()["status"] == "IN_PROGRESS")
    low = submit(queue, "single", headers={"x-fal-queue-priority": "low"})
    unwanted, normal = submit(queue, "single"), submit(queue, "single")
    positions = [queue.get(one["status_url"]).json()["queue_position"] for one in (unwanted, normal, low)]
    assert positions == [0, 1, 2]
    cancelled = queue.put(unwanted["cancel_url"])
    assert (cancelled.status_code, cancelled.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert ended(queue, unwanted)["error_type"] == "client_cancelled"
    assert queue.get(unwanted["response_url"]).status_code == 499
    again = queue.put(unwanted["cancel_url"])
    assert (again.status_code, again.json()) == (400, {"status": "ALREADY_COMPLETED"})
    assert queue.post("/single?fal_max_queue_length=1", json={"key": "one too many"}).status_code == 429
    (record / "gated" / "go").touch()
    for one in (first, normal, low):
        ended(queue, one)
    order = [
        json.loads(line)["request"]
        for path in record.glob("handler-*.jsonl")
        for line in path.read_text().splitlines()
        if '"start"' in line
    ]
    assert order.index(normal["request_id"]) < order.index(low["request_id"])
    assert unwanted["request_id"] not in order


def test_a_handler_that_listens_is_cancelled_while_it_runs(queue: httpx.Client) -> None:
    submitted = submit(queue, mood="patient")
    until("it runs", lambda: queue.get(submitted["status_url"]).json()["status"] == "IN_PROGRESS")
    assert queue.put(submitted["cancel_url"]).status_code == 202
    ended(queue, submitted)
    assert queue.get(submitted["response_url"]).status_code == 499


def test_an_idempotency_key_is_one_request_and_another_body_is_refused(queue: httpx.Client) -> None:
    key = {"idempotency-key": "once"}
    assert submit(queue, headers=key)["request_id"] == submit(queue, headers=key)["request_id"]
    assert queue.post("/recorder", json={"key": "other"}, headers=key).status_code == 422


def test_what_the_app_wants_tried_again_is_the_same_request_with_one_attempt_more(queue: httpx.Client, roost: Roost) -> None:
    submitted = submit(queue, mood="again")
    status = ended(queue, submitted)
    assert status["request_id"] == submitted["request_id"]
    assert queue.get(submitted["response_url"]).json()["attempt"] == 2
    shown = roost.api("GET", f"/v1/requests/{submitted['request_id']}")
    assert [(attempt["number"], attempt["state"]) for attempt in shown["attempts"]] == [(1, "FAILED"), (2, "ANSWERED")]


def test_a_request_that_nobody_knows_is_404_and_a_bad_key_401(queue: httpx.Client) -> None:
    unknown = queue.get("/recorder/requests/00000000-0000-4000-8000-000000000000/status")
    assert (unknown.status_code, unknown.json()) == (404, {"status": "NOT_FOUND"})
    assert queue.post("/recorder", json={"key": "k"}, headers={"authorization": "Key wrong:key"}).status_code == 401


def test_a_queued_request_wakes_an_app_that_sleeps(queue: httpx.Client, roost: Roost, record: Path) -> None:
    roost.cli("deploy", f"{APP}::Single", "--app-name", "sleeper", "--json", "--strategy", "recreate", RECORD=str(record))
    roost.api("PATCH", f"/v1/apps/{roost.owner}/sleeper", json={"min_concurrency": 0})
    submitted = submit(queue, "sleeper")
    ended(queue, submitted)
    assert queue.get(submitted["response_url"]).status_code == 200
    roost.cli("apps", "delete", "sleeper")


def test_a_runner_that_is_killed_costs_its_request_an_attempt_and_a_second(queue: httpx.Client, roost: Roost, record: Path) -> None:
    (record / "killed").mkdir()
    submitted = submit(queue, "single", folder="killed", mood="gated")
    until("it runs", lambda: list((record / "killed").glob("handler-*.jsonl")))
    (runner,) = roost.runners("single")
    began = time.monotonic()
    os.kill(runner["pid"], signal.SIGKILL)
    until("it is gone", lambda: not alive(runner["pid"]))
    threading.Timer(0.1, (record / "killed" / "go").touch).start()
    ended(queue, submitted)
    took_s = time.monotonic() - began
    print(f"\na killed runner cost {took_s:.2f} s, of which the back-off is 0.75 to 1.25")
    assert queue.get(submitted["response_url"]).json()["attempt"] == 2
    assert took_s < 5
