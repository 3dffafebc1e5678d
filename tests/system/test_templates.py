"""Templates: runners are forks of a process that has everything loaded, and nobody can tell but by the clock (faults.md F-27)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from roost.kit import linux
from tests.system.roosts import Roost, running, until

APPS = Path(__file__).parent.parent / "apps" / "templates"
LONG = os.environ.get("ROOST_LONG") == "1"
CYCLES = 200 if LONG else 25
RUNNERS = 5
WEIGHTS_MB = 200


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Roost]:
    """A server whose templates give up soon."""
    with running(tmp_path_factory.mktemp("forking"), cache, ROOST_TEMPLATE_IMPORT_LIMIT_S="8", ROOST_FAILED_STARTS="1") as roost:
        yield roost


@pytest.fixture(scope="module")
def shared(forking: Roost) -> Roost:
    """The same server with an app that has a template."""
    forking.deploy(f"{APPS / 'shared.py'}::Shared")
    until("the template lives", lambda: has_template(forking, "shared"))
    stop_all(forking, "shared")
    return forking


def template_of(roost: Roost, app: str) -> dict[str, Any]:
    return roost.api("GET", f"/v1/apps/{roost.owner}/{app}").get("template") or {}


def has_template(roost: Roost, app: str) -> bool:
    return template_of(roost, app).get("state") == "living"


def stop_all(roost: Roost, app: str) -> None:
    for runner in roost.runners(app):
        roost.api("POST", f"/v1/runners/{runner['runner_id']}/stop")
    until(f"no runner of {app} is left", lambda: not roost.runners(app))


def stages_of_cold_call(roost: Roost, app: str) -> tuple[dict[str, Any], list[str]]:
    """A call that wakes a runner: its answer, and the names of the stages in which it came to be."""
    answer = roost.call(app, headers={"x-roost-trace": "1"})
    assert answer.status_code == 200, answer.text
    return answer.json(), re.findall(r"(\w+);dur=[\d.]+", answer.headers["x-roost-stages"])


def processes(roost: Roost, title: str) -> list[int]:
    found: list[int] = []
    for pid in roost.tree():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == title:
                found.append(pid)
    return found


def test_a_runner_is_a_fork_and_a_process_of_its_own(shared: Roost) -> None:
    stop_all(shared, "shared")
    answer, stages = stages_of_cold_call(shared, "shared")
    assert stages == ["decide", "fork", "connect", "setup", "route", "call"]
    [runner] = shared.runners("shared")
    pid = answer["pid"]
    assert runner["pid"] == pid
    assert answer["session"] == pid
    assert answer["preloaded_in"] != pid
    assert answer["preloads"] == 1
    assert answer["product"] == 300.0**3
    supervisor = int((shared.home / "state" / "lock").read_text().split()[0])
    assert answer["parent"] == supervisor
    assert linux.environment_value(pid, "ROOST_RUNNER_ID") == runner["runner_id"]
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "500"


def test_secrets_come_after_the_fork_and_what_held_the_template_back_is_gone(shared: Roost) -> None:
    answer = shared.call("shared").json()
    assert answer["secret_seen"] == []
    [runner] = [r for r in shared.runners("shared") if r["pid"] == answer["pid"]]
    assert answer["job"] == runner["runner_id"]
    assert ":" in answer["key"]
    assert answer["omp"] == ""


def test_each_fork_writes_its_own_log(shared: Roost) -> None:
    stop_all(shared, "shared")
    shared.call("shared")
    [runner] = shared.runners("shared")
    assert "setup() has run" in shared.cli("runners", "logs", runner["runner_id"]).stdout
    assert "preload() has run" not in shared.cli("runners", "logs", runner["runner_id"]).stdout
    log = shared.home / "state" / "logs" / "runners" / f"{runner['runner_id']}.log"
    assert log.stat().st_mode & 0o777 == 0o600


def test_preloaded_weights_are_in_memory_once_and_forks_share_no_dice(shared: Roost) -> None:
    with ThreadPoolExecutor(RUNNERS) as pool:
        answers = list(pool.map(lambda _: shared.call("shared", {"sleep": 3}).json(), range(RUNNERS)))
    pids = {answer["pid"] for answer in answers}
    assert len(pids) == RUNNERS
    for what in ("random", "numpy", "uuid1", "uuid4", "temporary", "key"):
        assert len({answer[what] for answer in answers}) == RUNNERS, what
    everything = sum(linux.pss_mb(pid) or 0 for pid in shared.tree() if "roost-start" in shared.tree()[pid])
    assert everything < WEIGHTS_MB + RUNNERS * 25 + 100, "five copies would be a gigabyte"
    stop_all(shared, "shared")


def test_a_template_that_was_killed_costs_nobody_anything(shared: Roost) -> None:
    stop_all(shared, "shared")
    shared.call("shared")
    [served_by] = shared.runners("shared")
    templates = processes(shared, "roost-template")
    assert templates
    for pid in templates:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # Its runners live on.
    assert shared.call("shared").json()["pid"] == served_by["pid"]
    stop_all(shared, "shared")
    answer, stages = stages_of_cold_call(shared, "shared")
    assert stages[1] == "spawn"
    assert answer["preloads"] == 1
    assert answer["preloaded_in"] == answer["pid"], "a fresh runner preloads itself"
    stop_all(shared, "shared")
    until("there is a template again", lambda: processes(shared, "roost-template"), 40)
    until("runners are forked again", lambda: _woken_by_fork(shared))


def _woken_by_fork(roost: Roost) -> bool:
    stop_all(roost, "shared")
    return stages_of_cold_call(roost, "shared")[1][1] == "fork"


def test_a_template_that_hangs_when_it_should_fork_costs_a_moment(shared: Roost) -> None:
    until("runners are forked", lambda: _woken_by_fork(shared))
    stop_all(shared, "shared")
    stopped = processes(shared, "roost-template")
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    answer, stages = stages_of_cold_call(shared, "shared")
    assert stages[1] == "spawn"
    until("the one that hung is gone", lambda: any(linux.stat(pid) is None for pid in stopped))
    [runner] = shared.runners("shared")
    assert runner["pid"] == answer["pid"]
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    until("runners are forked again", lambda: _woken_by_fork(shared))


def test_forked_runners_start_and_stop_without_a_trace(shared: Roost) -> None:
    until("runners are forked", lambda: _woken_by_fork(shared))
    stop_all(shared, "shared")
    supervisor = int((shared.home / "state" / "lock").read_text().split()[0])

    def counted() -> tuple[int, int, int]:
        server = shared.server_pid()
        open_in_supervisor, open_in_server = (len(os.listdir(f"/proc/{pid}/fd")) for pid in (supervisor, server))
        return len(shared.tree()), open_in_supervisor, open_in_server

    # Most of what was seen while nothing happens: a spare fork is made a moment after the one before it was used.
    seen: list[tuple[int, int, int]] = []
    until("a second has passed", lambda: seen.append(counted()) or len(seen) >= 50, 30)
    before = tuple(max(each) for each in zip(*seen, strict=True))
    for number in range(CYCLES):
        assert shared.call("shared").status_code == 200
        [runner] = shared.runners("shared")
        os.kill(runner["pid"], signal.SIGKILL if number % 2 else signal.SIGTERM)
        until("it is gone", lambda: not shared.runners("shared"))
    until("all is as before", lambda: all(now <= then for now, then in zip(counted(), before, strict=True)), 20)


def test_runners_outlive_a_crash_of_the_server_and_templates_do_not(shared: Roost) -> None:
    until("runners are forked", lambda: _woken_by_fork(shared))
    pid = shared.call("shared").json()["pid"]
    old = set(processes(shared, "roost-template"))
    os.kill(shared.server_pid(), signal.SIGKILL)
    until("a server answers", shared.health)
    until("the runner is back", lambda: any(r["pid"] == pid and r["state"] in ("IDLE", "RUNNING") for r in shared.runners("shared")))
    assert shared.call("shared").json()["pid"] == pid
    until("the old templates are gone", lambda: not old & set(shared.tree()))
    until("runners are forked again", lambda: _woken_by_fork(shared))


def test_a_planned_restart_with_templates_loses_nothing(shared: Roost) -> None:
    until("runners are forked", lambda: _woken_by_fork(shared))
    pid = shared.call("shared").json()["pid"]
    shared.cli("restart")
    assert shared.call("shared").json()["pid"] == pid
    until("runners are forked again", lambda: _woken_by_fork(shared))


REFUSALS = {
    "Thread": ("thread", r"the thread 'heart' is running, in beat\(\) of .*refused\.py:\d+; .*start it in setup\(\)"),
    "Cuda": ("cuda", r"CUDA is initialised .*move to the GPU in setup\(\)"),
    "Socket": ("socket", r"a socket was left open.*open it in setup\(\)"),
    "EventLoop": ("event-loop", r"an event loop \(epoll\) was left open"),
    "Process": ("process", r"a process was left running \(sleep 600\)"),
    "Hangs": ("hangs", r"preload\(\) did not end within 8 s; it was in preload\(\) of .*refused\.py:\d+"),
    "Raises": ("raises", r"preload\(\) raised LookupError: no weights here"),
    "Unpickling": ("unpickling", r"the class and its imports raised KeyError: 'not here'"),
    "ForkDies": ("fork-dies", r"a trial fork died of SIGSEGV"),
    "ForkHangs": ("fork-hangs", r"a trial fork hung"),
}


@pytest.mark.parametrize("cls", REFUSALS)
def test_what_cannot_be_forked_says_why_and_starts_afresh(forking: Roost, cls: str) -> None:
    app, reason = REFUSALS[cls]
    forking.deploy(f"{APPS / 'refused.py'}::{cls}")
    told = until("the template was refused", lambda: template_of(forking, app))
    assert told["state"] == "refused"
    assert re.search(reason, told["reason"]), told["reason"]
    assert "refused" in forking.cli("apps", "show", app).stdout
    stop_all(forking, app)
    _, stages = stages_of_cold_call(forking, app)
    assert stages[1] == "spawn"
    stop_all(forking, app)
