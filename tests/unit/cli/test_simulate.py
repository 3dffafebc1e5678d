"""`roost simulate` as it is typed: what it asks, what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from roost.cli.main import main
from tests.unit.cli.served import served


def figures(p95: int, runner_s: float, **more: int) -> dict[str, Any]:
    usual = {"calls": 9, "unserved": 0, "wait_p50_ms": 0, "wait_p95_ms": p95, "wait_p99_ms": 2_000, "waited": 4, "starts": 3, "peak": 2}
    return {**usual, "runner_s": runner_s, **more}


FOUND = {
    "application": "me/hello",
    "calls": 9,
    "recorded": figures(900, 61.23),
    "simulated": figures(910, 60),
    "variants": [{"settings": {"keep_alive": 10, "max_concurrency": 4}, **figures(1_800, 20, unserved=1)}],
    "notes": ["Something is not as it seems."],
}


@dataclass(frozen=True)
class Typed:
    code: int
    out: str
    err: str
    asked: dict[str, Any]


@pytest.fixture
def roost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Typed]:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))
    monkeypatch.setenv("ROOST_KEY", "id:secret")
    for name in ("ROOST_HOST", "ROOST_PROFILE", "ROOST_CONFIG", "ROOST_DEBUG", "ROOST_RUNNER"):
        monkeypatch.delenv(name, raising=False)

    def type_it(*words: str, found: dict[str, Any] = FOUND) -> Typed:
        asked: list[dict[str, Any]] = []

        def answer(request: httpx.Request) -> httpx.Response:
            assert (request.method, request.url.path) == ("POST", "/v1/apps/me/hello/simulate")
            asked.append(json.loads(request.content))
            return httpx.Response(200, json=found)

        with served(answer) as host:
            code = main(["simulate", "me/hello", *words, "--host", host])
        printed = capsys.readouterr()
        return Typed(code, printed.out, printed.err, asked[-1] if asked else {})

    return type_it


def test_waits_stand_beside_what_they_cost(roost: Callable[..., Typed]) -> None:
    done = roost("--last", "30m", "--keep-alive", "10", "--max-concurrency", "4")
    assert done.code == 0 and done.asked == {"last_s": 1_800, "keep_alive": [10], "max_concurrency": [4]}
    head, *rows = [" ".join(line.split()) for line in done.out.splitlines()]
    assert head == "Settings Wait p50 p95 p99 Waited Starts Most Runner time"
    assert rows == [
        "as it was 0 900 2000 4 3 2 1 m 1 s",
        "replayed 0 910 2000 4 3 2 1 m",
        "keep_alive 10, max_concurrency 4 0 1800 2000 4 (1 never served) 3 2 20 s",
    ]
    assert "9 calls" in done.err and "Note: Something is not as it seems." in done.err


def test_a_repeated_option_is_several_values(roost: Callable[..., Typed]) -> None:
    done = roost("--keep-alive", "0", "--keep-alive", "2.5", "--json")
    assert done.asked == {"last_s": 86_400, "keep_alive": [0, 2.5]} and json.loads(done.out) == FOUND


def test_an_app_without_calls_is_said_to_have_none(roost: Callable[..., Typed]) -> None:
    done = roost(found={**FOUND, "calls": 0})
    assert (done.out, done.err) == ("", "me/hello had no calls in that time.\n")


@pytest.mark.parametrize("last", ["yesterday", "0s", "now", "-3h", "2020-01-01"])
def test_a_time_that_is_none_is_wrong_usage(roost: Callable[..., Typed], last: str) -> None:
    done = roost("--last", last)
    assert done.code == 2 and "is no time such as 30m, 24h or 7d" in done.err
