"""Restarts, kills and stops with queued calls under way: what callers, handlers and the operator at the log notice."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import roost as api
from tests.histories.check import check, counts
from tests.histories.history import read
from tests.soak.load import Job, Load
from tests.soak.sweep import deploy
from tests.system.conftest import APPS, MakeRoost
from tests.system.roosts import until

JOBS = [Job(("recorder", "recorder-2")[n % 2], ms=(200, 500, 1_000, 2_000)[n // 2 % 4]) for n in range(60)]
STEPPING = f"{APPS / 'stepping.py'}::Stepping"


def test_calls_of_a_planned_restart_run_once_and_those_who_watch_see_their_end(own_roost: MakeRoost, tmp_path: Path) -> None:
    roost = own_roost()
    deploy(roost, tmp_path)
    folder = tmp_path / "restart"
    began = threading.Event()

    async def callers() -> list[int]:
        async with Load(roost, folder) as load:
            work = asyncio.create_task(load.carry(JOBS, callers=len(JOBS)))
            await asyncio.sleep(0.5)
            began.set()
            outcomes = await work
            await load.list_these({outcome.request for outcome in outcomes})
        return [outcome.code for outcome in outcomes]

    def watch() -> list[type[api.Status]]:
        with api.Client(roost.key, host=roost.url) as client:
            handle = client.submit(f"{roost.owner}/recorder", {"key": "watched", "ms": 4_000})
            return [type(status) for status in handle.iter_events()]

    with ThreadPoolExecutor(2) as threads:
        carried, watched = threads.submit(asyncio.run, callers()), threads.submit(watch)
        assert began.wait(30)
        for _ in range(2):
            roost.cli("restart")
        assert set(carried.result(90)) == {200}
        assert watched.result(90)[-1] is api.Completed
    history = read(folder)
    assert not check(history)
    assert counts(history).again == 0, "a planned restart costs no second run"


def test_a_kill_a_restart_and_a_stop_need_no_word_of_warning_and_the_stop_no_patience(own_roost: MakeRoost) -> None:
    """Queued calls are under way all the time, also at the end: nobody will come for the result of that one, so its runner does not wait."""
    roost = own_roost()
    roost.deploy(STEPPING)
    name, stop = f"{roost.owner}/stepping", threading.Event()

    def work() -> None:
        with api.Client(roost.key, host=roost.url) as client:
            while not stop.is_set():
                client.subscribe(name, {"count": 1, "ms": 50})

    with ThreadPoolExecutor(8) as threads:
        callers = [threads.submit(work) for _ in range(8)]
        time.sleep(1)
        instance = roost.health()
        os.kill(roost.server_pid(), signal.SIGKILL)
        until("the next server answers", lambda: roost.health() not in (None, instance))
        time.sleep(1)
        roost.cli("restart")
        time.sleep(1)
        stop.set()
        for caller in callers:
            caller.result(60)
    with api.Client(roost.key, host=roost.url) as client:
        handle = client.submit(name, {"count": 1, "ms": 700})
        until("it runs", lambda: isinstance(handle.status(), api.InProgress))
    began = time.monotonic()
    roost.stop()
    took_s = time.monotonic() - began
    said = roost.log.read_text()
    print(f"\nstopped in {took_s:.2f} s")
    assert not [line for line in said.splitlines() if re.search(r"WARNING|ERROR|Traceback", line)], said
    assert took_s < 4, "a runner waited for a server that will never come"
