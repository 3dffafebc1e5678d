"""How calls and runners end: hung up, timed out, told to stop, idle; and what a caller costs that waits for a runner to begin."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.conftest import APPS
from tests.system.probing import Connection
from tests.system.roosts import Roost, until


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Journal:
    """What an app wrote down since this was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = 0
        self.before = len(self.lines)

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()[self.before :] if self.path.exists() else []

    def has(self, *lines: str) -> None:
        until(f"the journal has {lines}", lambda: set(lines) <= set(self.lines), 20)


class Deployed:
    """Deploys an app once; each test gets what is written down from then on."""

    def __init__(self, roost: Roost, folder: Path) -> None:
        self.roost = roost
        self.folder = folder
        self.names: set[str] = set()

    def __call__(self, name: str, *words: str) -> Journal:
        path = self.folder / name
        if name not in self.names:
            self.names.add(name)
            self.roost.cli("deploy", f"{APPS / 'ending.py'}::{name}", "--json", *words, JOURNAL=str(path))
        return Journal(path)


@pytest.fixture(scope="module")
def deployed(roost: Roost, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(roost, tmp_path_factory.mktemp("journals"))


def runner_pid(roost: Roost, app: str) -> int:
    (runner,) = [r for r in roost.runners(app) if r["state"] in ("IDLE", "RUNNING")]
    return runner["pid"]


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(("name", "app"), [("Ending", "ending"), ("EndingLater", "ending-later")])
def test_a_runner_that_is_told_to_stop_ends_in_good_order(
    roost: Roost, deployed: Deployed, threads: ThreadPoolExecutor, name: str, app: str
) -> None:
    """Whether its hooks are `def` or `async def`: handle_exit at once, calls in flight end, teardown, and the next call is another's."""
    journal = deployed(name)
    first: Future[httpx.Response] = threads.submit(roost.call, app, {"ms": 1500, "mark": "a"})
    journal.has("began a")
    pid = runner_pid(roost, app)
    os.kill(pid, signal.SIGTERM)
    journal.has("handle_exit RUNNING")
    assert "ended a" not in journal.lines
    assert roost.call(app, {"mark": "b"}).json()["pid"] != pid
    assert first.result().json() == {"pid": pid}
    until("the process has ended", lambda: gone(pid), 10)
    own = [line for line in journal.lines if not line.endswith(" b")]
    assert [line for line in own if line != "setup"] == ["began a", "handle_exit RUNNING", "ended a", "teardown TERMINATING"]


def test_handle_exit_runs_also_while_a_handler_holds_the_event_loop(roost: Roost, deployed: Deployed, threads: ThreadPoolExecutor) -> None:
    journal = deployed("Ending")
    call = threads.submit(roost.call, "ending/blocks", {"ms": 1500, "mark": "a"})
    journal.has("began a")
    os.kill(runner_pid(roost, "ending"), signal.SIGTERM)
    journal.has("handle_exit RUNNING")
    assert "ended a" not in journal.lines
    assert call.result().status_code == 200


def test_a_teardown_that_hangs_is_killed_at_the_end_of_the_grace(roost: Roost, deployed: Deployed) -> None:
    journal = deployed("Stuck")
    assert roost.call("stuck").status_code == 200
    pid = runner_pid(roost, "stuck")
    (runner,) = roost.runners("stuck")
    roost.cli("runners", "stop", runner["runner_id"])
    journal.has("teardown began")
    began = time.monotonic()
    until("the process has ended", lambda: gone(pid), 10)
    assert 0.3 < time.monotonic() - began < 3


def test_a_call_that_takes_too_long_is_answered_504_and_its_runner_goes_when_the_others_have_ended(
    roost: Roost, deployed: Deployed, threads: ThreadPoolExecutor
) -> None:
    journal = deployed("Ending")
    began = time.monotonic()
    late = threads.submit(roost.call, "ending", {"ms": 60_000, "mark": "late"})
    journal.has("began late")
    pid = runner_pid(roost, "ending")
    time.sleep(max(0.0, began + 1.0 - time.monotonic()))  # so that this one is under way when the other's time is up
    other = threads.submit(roost.call, "ending", {"ms": 1800, "mark": "other"})
    answer = late.result()
    assert (answer.status_code, answer.json()["error_type"], answer.headers["x-fal-error-type"]) == (
        504,
        "request_timeout",
        "request_timeout",
    )
    assert "x-fal-request-timeout-type" not in answer.headers
    assert 1.9 < time.monotonic() - began < 4
    assert roost.call("ending", {"mark": "next"}).json()["pid"] != pid
    assert (other.result().status_code, other.result().json()) == (200, {"pid": pid})
    until("the process has ended", lambda: gone(pid), 10)


def test_what_an_answer_means_for_its_runner(roost: Roost, deployed: Deployed) -> None:
    deployed("Ending")

    def stays(status: int, headers: dict[str, str]) -> bool:
        answer = roost.call("ending/answer", {"status": status, "headers": headers})
        assert answer.status_code == status and "x-fal-stop-runner" not in answer.headers
        pid, after = int(answer.text), roost.call("ending").json()["pid"]
        if pid != after:
            until("it has ended", lambda: gone(pid), 10)
        return pid == after

    assert stays(200, {}) and stays(429, {}) and stays(500, {}) and stays(502, {}) and stays(503, {"x-fal-stop-runner": "0"})
    assert not stays(503, {})
    assert not stays(200, {"x-fal-stop-runner": "true"})


def hang_up(roost: Roost, path: str, wish: dict[str, Any], began: Any) -> None:
    """Call, and break the connection when `began` has returned."""
    host, _, port = roost.address.rpartition(":")
    body = json.dumps(wish)
    with socket.create_connection((host, int(port)), 10) as sock:
        lines = (f"POST /{roost.owner}/{path} HTTP/1.1", "host: x", f"authorization: Key {roost.key}", "content-type: application/json")
        sock.sendall("\r\n".join([*lines, f"content-length: {len(body)}", "", body]).encode())
        began()


def test_a_caller_that_hangs_up_is_told_to_the_app(roost: Roost, deployed: Deployed) -> None:
    """Its `<path>/cancel` first, with the same id, then the closed connection; an app without one runs to its end."""
    journal = deployed("Ending")
    hang_up(roost, "ending/work", {"mark": "w"}, lambda: journal.has("began w"))
    over = until("the work is over", lambda: [line.split() for line in journal.lines if line.startswith("work is over")], 10)
    cancels = [line.split() for line in journal.lines if line.startswith("cancel")]
    assert over == [["work", "is", "over", cancels[0][1], "http.disconnect"]] and cancels == [["cancel", cancels[0][1], "True"]]
    hang_up(roost, "ending", {"ms": 500, "mark": "deaf"}, lambda: journal.has("began deaf"))
    journal.has("ended deaf")
    until("no slot is taken", lambda: not sum(r["in_flight_requests"] for r in roost.runners("ending")), 10)
    answer = roost.call("ending/gives-up")
    assert (answer.status_code, answer.json()) == (499, {"detail": "given up"})


def test_runners_without_work_end_when_their_time_is_up(roost: Roost, deployed: Deployed) -> None:
    """keep_alive after the last call; ten seconds for one that was never used, however long its keep_alive."""
    deployed("Unused")
    unused = until("it is ready", lambda: [r for r in roost.runners("unused") if r["state"] == "IDLE"])[0]["pid"]
    ready = time.monotonic()
    deployed("Fleeting")
    assert roost.call("fleeting").status_code == 200
    called = time.monotonic()
    used = runner_pid(roost, "fleeting")
    until("the idle one has ended", lambda: gone(used), 20)
    assert 0.9 < time.monotonic() - called < 5
    until("the unused one has ended", lambda: gone(unused), 20)
    assert 8 < time.monotonic() - ready < 15


async def test_a_thousand_callers_that_wait_cost_little_and_are_all_answered(roost: Roost, deployed: Deployed) -> None:
    count = 1000
    deployed("Waking", "--strategy", "recreate")  # which starts no runner
    assert not roost.runners("waking")
    path, headers = f"/{roost.owner}/waking", [("content-type", "application/json"), ("authorization", f"Key {roost.key}")]
    server = roost.server_pid()
    before = pss_kb(server)
    connections = [await Connection.open(roost.address) for _ in range(count)]
    connected = pss_kb(server)
    calls = [asyncio.create_task(c.ask("POST", path, headers, b'{"mark": "%d"}' % n)) for n, c in enumerate(connections)]
    await asyncio.to_thread(until, "all wait", lambda: waiting(roost) == count)
    each = (pss_kb(server) - before) / count
    answers = await asyncio.gather(*calls)
    for connection in connections:
        await connection.close()
    assert [answer.status for answer in answers] == [200] * count
    assert [answer.json() for answer in answers] == [{"mark": str(n)} for n in range(count)]
    print(
        f"\n{count} waiting callers: {each:.1f} KB each ({(connected - before) / count:.1f} KB of it their connections), server {before / 1024:.0f} MB"
    )
    assert each <= 20


def waiting(roost: Roost) -> int:
    (app,) = [app for app in roost.api("GET", "/v1/apps")["apps"] if app["name"] == "waking"]
    return app["waiting"]


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")
