"""`fal-client`, unmodified, from its index: the flows of `flows/`, with each version of it and on each way that leads here."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.compat import ways
from tests.compat.conftest import Served
from tests.compat.cutting import cutting
from tests.compat.environments import LATEST, newest_python, python_with
from tests.compat.ways import Way
from tests.system.roosts import until

HERE = Path(__file__).parent
FLOWS = HERE / "flows"
NEWEST, HALF_A_YEAR_OLDER = "1.0.3", "0.13.2"
MODULES = ("direct", "queued", "asynchronous", "doors")
REACHES = (
    [("latest", "direct"), ("latest", "nginx"), ("latest", "connect")]
    if LATEST
    else [(NEWEST, "direct"), (NEWEST, "nginx"), (NEWEST, "connect"), (HALF_A_YEAR_OLDER, "direct")]
)
VERSION = REACHES[0][0]


def names_of_flows() -> list[str]:
    """Read from their text: only the client's own Python can import them."""
    return [
        f"{module}.{step.name}"
        for module in MODULES
        for step in ast.parse((FLOWS / f"{module}.py").read_text()).body
        if isinstance(step, ast.FunctionDef) and not step.name.startswith("_")
    ]


@cache
def python(version: str) -> Path:
    """An interpreter that has this version of the client."""
    if version == "latest":
        return newest_python("fal-client")
    return python_with((HERE / "pinned" / f"{version}.txt").read_text(), f"fal-client-{version}")


def start(version: str, way: Way, served: Served, *flows: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python(version), FLOWS, *flows],
        env=way.environ(served.roost, RECORD=str(served.record)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcomes(client: subprocess.Popen[str]) -> dict[str, str | None]:
    """The failures of the flows that it ran; None for those that went well."""
    said, complaints = client.communicate(timeout=180)
    assert client.returncode == 0, complaints
    return {outcome["flow"]: outcome["failure"] for outcome in map(json.loads, said.splitlines())}


def finish(client: subprocess.Popen[str]) -> None:
    failed = {flow: failure for flow, failure in outcomes(client).items() if failure}
    assert not failed, "\n".join(f"{flow}:\n{failure}" for flow, failure in failed.items())


@pytest.fixture(scope="module")
def done(served: Served, reach: Callable[[str], Way]) -> Callable[[str, str], dict[str, str | None]]:
    """What came of all flows with this version on this way. They run once, side by side."""

    @cache
    def run(version: str, way: str) -> dict[str, str | None]:
        return outcomes(start(version, reach(way), served, *MODULES))

    return run


@pytest.mark.parametrize(("version", "way"), REACHES, ids=lambda word: word)
@pytest.mark.parametrize("flow", names_of_flows())
def test_the_official_client_does(flow: str, version: str, way: str, done: Callable[[str, str], dict[str, str | None]]) -> None:
    came_of_it = done(version, way)
    assert flow in came_of_it
    if came_of_it[flow]:
        pytest.fail(came_of_it[flow] or "", pytrace=False)


@pytest.mark.parametrize(("flow", "answered"), [("a_submit_that_was_cut_off", False), ("a_submit_whose_answer_was_lost", True)])
def test_the_official_client_sends_again(flow: str, answered: bool, served: Served) -> None:
    with cutting(served.roost.port, 150_000 if not answered else 200_000, answered=answered) as cutter:
        finish(start(VERSION, ways.direct(served.roost, cutter.port), served, f"interrupted.{flow}_is_sent_again"))
        assert cutter.cuts == 1


def test_subscribers_outlive_a_restart_and_a_killed_server(served: Served) -> None:
    roost, finished = served.roost, served.record / "done"

    def another_server_than(before: str) -> str:
        return until("another server answers", lambda: (now := roost.health()) and now["instance"] != before and now["instance"])

    def five_more() -> None:
        already = int(finished.read_text() or 0)
        until("five more are done", lambda: int(finished.read_text() or 0) >= already + 5)

    flows = ("subscribers_outlive_the_server", "direct_calls_outlive_a_planned_restart")
    client = start(VERSION, ways.direct(roost), served, *(f"interrupted.{flow}" for flow in flows))
    until("the first is done", finished.exists)
    first = another_server_than("")
    roost.cli("restart")
    second = another_server_than(first)
    (served.record / "restarted").touch()
    five_more()
    os.kill(roost.server_pid(), signal.SIGKILL)
    another_server_than(second)
    five_more()
    (served.record / "stop").touch()
    finish(client)
