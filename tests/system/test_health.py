"""Health checks with a real server and real runners; the rules and their times are in tests/sim/test_health.py."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import APPS
from tests.system.roosts import Roost, until

ASKED = "the app asked for a check with x-fal-runner-health-check, and"


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """While this file is there, the app is not well."""
    return tmp_path / "sick"


def deploy(roost: Roost, name: str, sick: Path, *words: str) -> None:
    roost.cli("deploy", f"{APPS / 'checked.py'}::{name}", "--json", *words, FOLDER=str(sick.parent))


def ended(roost: Roost, app: str) -> list[str]:
    """Why runners of this app ended."""
    found = roost.api("GET", "/v1/runners", params={"since": "0", "app": f"{roost.owner}/{app}"})["runners"]
    return [runner["reason"] for runner in found if runner["state"] == "TERMINATED"]


def test_callers_wait_for_a_check_that_is_slow_and_a_sick_runner_is_replaced(roost: Roost, sick: Path) -> None:
    sick.touch()
    deploy(roost, "Checked", sick, "--strategy", "recreate")
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(roost.call, "checked") for _ in range(3)]

        def unwell() -> Any:
            return [r for r in roost.runners("checked") if r["health"] is not None]

        (runner,) = until("its health was asked", unwell)
        assert (runner["state"], runner["health"]["ok"], runner["health"]["said"]) == ("SETUP", False, "POST /ready answered 500")
        time.sleep(1)
        assert not any(call.done() for call in calls)
        sick.unlink()
        answers = [call.result() for call in calls]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert {answer.json()["pid"] for answer in answers} == {runner["pid"]}
    # It serves, asked every 15 s, until it fails.
    sick.touch()
    (reason,) = until("it was ended", lambda: ended(roost, "checked"), 60)
    assert reason == "its health check failed once, the last time because POST /ready answered 500"
    sick.unlink()
    assert roost.call("checked").json()["pid"] != runner["pid"]
    # A response asks for a check: well, and then not.
    pid = roost.call("checked/asks").json()["pid"]
    until("it was asked", lambda: any(r["health"]["ok"] for r in roost.runners("checked")))
    assert roost.call("checked").json()["pid"] == pid
    sick.touch()
    assert roost.call("checked/asks").status_code == 200
    until("it was ended at once", lambda: f"{ASKED} POST /ready answered 500" in ended(roost, "checked"), 5)
    roost.cli("apps", "delete", "checked")


def test_an_app_without_a_declared_check_is_asked_at_health_when_it_wishes(roost: Roost, sick: Path) -> None:
    deploy(roost, "Asking", sick)
    pid = roost.call("asking/asks").json()["pid"]
    until("it was asked", lambda: any(r["health"] for r in roost.runners("asking")))
    assert roost.call("asking/asks").json()["pid"] == pid
    sick.touch()
    roost.call("asking/asks")
    until("it was ended at once", lambda: f"{ASKED} GET /health answered 503" in ended(roost, "asking"), 5)
    roost.cli("apps", "delete", "asking")
