"""`roost.Client` and `roost call --queue` against a real server: results, logs, cancelling, and a server that dies while they wait."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import roost as api
from tests.system.conftest import APPS, MakeRoost
from tests.system.roosts import Roost, until

STEPPING = f"{APPS / 'stepping.py'}::Stepping"
ONWARD = f"{APPS / 'stepping.py'}::Onward"


def client_of(roost: Roost) -> api.Client:
    return api.Client(roost.key, host=roost.url)


@pytest.fixture(scope="module")
def stepping(roost: Roost) -> Roost:
    """The shared server with `stepping` on it."""
    roost.deploy(STEPPING)
    return roost


def test_subscribe_tells_every_step_with_its_logs_and_returns_the_result(stepping: Roost) -> None:
    told: list[Any] = []
    with client_of(stepping) as client:
        name = f"{stepping.owner}/stepping"
        result = client.subscribe(name, {"count": 4, "ms": 300}, with_logs=True, on_enqueue=told.append, on_queue_update=told.append)
    assert result == {"walked": 4}
    request_id, *statuses = told
    assert isinstance(request_id, str)
    assert isinstance(statuses[-1], api.Completed) and statuses[-1].error is None
    assert [line["message"] for line in statuses[-1].logs or ()] == [f"step {number}" for number in range(4)]
    running = [status for status in statuses if isinstance(status, api.InProgress)]
    # Lines arrive while it runs, not only at its end.
    assert any(0 < len(status.logs or ()) < 4 for status in running)


async def test_the_asynchronous_client_holds_many_at_once(stepping: Roost) -> None:
    name = f"{stepping.owner}/stepping"
    async with api.AsyncClient(stepping.key, host=stepping.url) as client:
        results = await asyncio.gather(*(client.subscribe(name, {"count": number}) for number in range(30)))
    assert [result["walked"] for result in results] == list(range(30))


def test_bytes_go_and_come_as_they_are_direct_and_queued(stepping: Roost) -> None:
    picture, name = bytes(range(256)) * 1000, f"{stepping.owner}/stepping/mirror"
    with client_of(stepping) as client:
        assert client.run(name, body=picture, content_type="image/png") == picture
        assert client.submit(name, body=picture, content_type="image/png").get() == picture
        assert client.submit(name, body="words").get(interval=0.05) == "words"


def test_the_same_idempotency_key_is_the_same_request(stepping: Roost) -> None:
    with client_of(stepping) as client:
        name = f"{stepping.owner}/stepping"
        first = client.submit(name, {"count": 1}, idempotency_key="order-7")
        again = client.submit(name, {"count": 1}, idempotency_key="order-7")
        assert first.request_id == again.request_id and first.get() == {"walked": 1}
        with pytest.raises(api.ClientHTTPError) as refused:
            client.submit(name, {"count": 2}, idempotency_key="order-7")
        assert refused.value.status_code == 422


def test_errors_say_whose_they_are(stepping: Roost) -> None:
    with client_of(stepping) as client:
        name = f"{stepping.owner}/stepping"
        handle = client.submit(name, {"count": "many"})
        with pytest.raises(api.ClientHTTPError) as failed:
            handle.get()
        assert (failed.value.status_code, failed.value.error_type, failed.value.request_id) == (422, None, handle.request_id)
        with pytest.raises(api.ClientHTTPError) as failed:
            client.status(name, "11111111-2222-4333-8444-555555555555")
        assert failed.value.status_code == 404
        with pytest.raises(api.ClientHTTPError) as failed:
            handle.cancel()
        assert (failed.value.status_code, failed.value.detail) == (400, "The request is completed already.")


def test_a_time_limit_cancels_what_it_waited_for(stepping: Roost) -> None:
    with client_of(stepping) as client:
        name, began = f"{stepping.owner}/stepping", time.monotonic()
        with pytest.raises(api.ClientTimeoutError) as late:
            client.subscribe(name, {"count": 100, "ms": 200}, client_timeout=2)
        assert 2 <= time.monotonic() - began < 4
        assert late.value.request_id is not None
        shown = stepping.api("GET", f"/v1/requests/{late.value.request_id}")
        assert "cancel" in " ".join(f"{event['kind']} {event['reason']}" for event in shown["events"]), shown


def test_an_app_calls_another_as_its_owner(stepping: Roost) -> None:
    stepping.deploy(ONWARD)
    with client_of(stepping) as client:
        assert client.run(f"{stepping.owner}/onward", {"count": 2}) == {"walked": 2}


def test_ctrl_c_in_the_command_line_cancels(stepping: Roost) -> None:
    lines: list[str] = []
    with stepping.begin("call", "--queue", "stepping", "count:=200", "ms:=100") as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip())
            if "step 0" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    request_id = lines[0].removeprefix("Submitted ")
    assert lines[-2:] == [f"Cancelled {request_id}", "Aborted."]


def test_whoever_waits_does_not_notice_that_the_server_died_or_was_restarted(own_roost: MakeRoost) -> None:
    roost = own_roost()
    roost.deploy(STEPPING)
    name, stop, ended = f"{roost.owner}/stepping", threading.Event(), list[float]()

    def work(number: int) -> int:
        done = 0
        with client_of(roost) as client:
            while not stop.is_set():
                how: dict[str, Any] = {"interval": 0.1} if number % 2 else {}
                assert client.subscribe(name, {"count": 2, "ms": 100}, **how) == {"walked": 2}
                ended.append(time.monotonic())
                done += 1
        return done

    with ThreadPoolExecutor(8) as threads:
        callers = [threads.submit(work, number) for number in range(8)]
        try:
            until("all work", lambda: len(ended) >= 8)
            killed_at = time.monotonic()
            os.kill(roost.server_pid(), signal.SIGKILL)
            until("work goes on", lambda: sum(at > killed_at + 0.5 for at in ended) >= 8)
            roost.cli("restart")
            restarted_at = time.monotonic()
            until("work goes on", lambda: sum(at > restarted_at for at in ended) >= 8)
        finally:
            stop.set()
        counts = [caller.result(60) for caller in callers]
    found = roost.api("GET", "/v1/requests", params={"limit": 1000})["requests"]
    # Each subscribe was one request, however often it was sent.
    assert len(found) == sum(counts)
    assert {item["status"] for item in found} == {"COMPLETED"}
    gap_s = min(at for at in ended if at > killed_at) - killed_at
    print(f"{len(found)} requests; first result {gap_s:.2f} s after the kill")
