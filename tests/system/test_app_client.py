"""`AppClient.connect` on a real server: an author's own test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

import roost as package
from roost.control.load import load
from tests.system.conftest import APPS
from tests.system.roosts import Roost, until


@pytest.fixture
def profile(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> Roost:
    monkeypatch.setenv("ROOST_HOST", roost.url)
    monkeypatch.setenv("ROOST_KEY", roost.key)
    monkeypatch.delenv("ROOST_PROFILE", raising=False)
    return roost


@pytest.fixture
def live() -> Iterator[Any]:
    yield load(APPS / "live.py").cls
    sys.modules.pop("live", None)


def test_an_author_tests_an_app_on_a_server(profile: Roost, live: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with package.AppClient.connect(live, startup_timeout=120) as client:
        first = client.go({"name": "ada"})
        assert first["mark"] == "one" and first["pid"] != 0
        assert client.health() == {"version": "unknown"}
        with pytest.raises(package.AppClientError, match="500"):
            client.go({"name": "boom"})
        running = [runner["application"] for runner in profile.runners() if runner["pid"] == first["pid"]]
        told = profile.cli("why", running[0]).stdout
        assert "points to revision" in told and "It has 1 runner: 1 IDLE." in told
    until("the run is gone", lambda: running[0] not in {app["application"] for app in profile.api("GET", "/v1/apps")["apps"]}, 10)
    assert "setting up one" in capsys.readouterr().out


def test_listed_runners_show_what_their_start_took(profile: Roost, live: Any) -> None:
    with package.AppClient.connect(live, startup_timeout=120) as client:
        pid = client.go({})["pid"]
        (runner,) = [runner for runner in profile.runners() if runner["pid"] == pid]
        start = runner["cold_start"]
        assert list(start["stages"])[1:] == ["connect", "setup"] and 0 < start["ms"] < 60_000
        told = profile.cli("why", runner["runner_id"]).stdout
        assert "It was started " in told and "Its cold start took " in told
