"""`roost why` as it is typed: what it asks, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from roost.cli.main import main
from tests.unit.cli.served import served

RUNNER = "11111111-2222-4333-8444-555555555555"
REQUEST = "22222222-2222-4333-8444-555555555555"
TWIN = "22222222-9999-4333-8444-555555555555"


def told(kind: str, id: str) -> dict[str, Any]:
    parts = [
        {"title": "Now", "said": [{"text": f"It is a {kind}."}]},
        {"title": "What happened", "said": [{"text": "IDLE: ready (by server)", "at": "2030-01-01T12:00:00+00:00"}]},
    ]
    return {"kind": kind, "id": id, "parts": parts}


ANSWERS: dict[str, Any] = {
    "/v1/whoami": {"owner": "me"},
    "/v1/requests": {"requests": [{"request_id": REQUEST}, {"request_id": TWIN}]},
    "/v1/runners": {"runners": [{"runner_id": RUNNER}]},
    "/v1/why/app/me/hello": told("app", "me/hello"),
    "/v1/why/app/ada/hello": told("app", "ada/hello"),
    f"/v1/why/request/{REQUEST}": told("request", REQUEST),
    f"/v1/why/runner/{RUNNER}": told("runner", RUNNER),
}


LISTED = {
    "application": "me/hello",
    "runner_id": RUNNER,
    "state": "IDLE",
    "uptime_seconds": 9.2,
    "cold_start": {"ms": 612.3, "stages": {"spawn": 500.0, "connect": 100.0, "setup": 12.3}},
}


def answer(request: httpx.Request) -> httpx.Response:
    found = ANSWERS.get(request.url.path)
    if found is None:
        return httpx.Response(404, json={"detail": f"nothing at {request.url.path}", "error_type": "not_found"})
    return httpx.Response(200, json=found)


@pytest.fixture
def roost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))
    monkeypatch.setenv("ROOST_KEY", "id:secret")
    monkeypatch.setenv("TZ", "UTC")
    for name in ("ROOST_HOST", "ROOST_PROFILE", "ROOST_CONFIG", "ROOST_DEBUG", "ROOST_RUNNER"):
        monkeypatch.delenv(name, raising=False)

    def typed(*args: str) -> tuple[int, str, str]:
        with served(answer) as url:
            code = main([*args, "--host", url])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


def test_the_list_of_runners_shows_what_a_start_took(roost: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "/v1/runners", {"runners": [LISTED, LISTED | {"cold_start": None}]})
    _, out, _ = roost("runners", "list")
    assert "Cold Start" in out and [line.count("0.612 s") for line in out.splitlines()[1:]] == [1, 0]
    assert json.loads(roost("runners", "list", "--json")[1])["runners"][0]["cold_start"]["stages"]["spawn"] == 500.0


def test_the_sentences_are_printed_under_their_titles(roost: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = roost("why", "hello")
    lines = out.splitlines()
    assert (code, lines[:4]) == (0, ["Now", "  It is a app.", "", "What happened"])
    assert lines[4].endswith("  IDLE: ready (by server)") and lines[4].startswith("  20")


@pytest.mark.parametrize(
    ("typed", "kind", "id"),
    [
        ("hello", "app", "me/hello"),
        ("ada/hello", "app", "ada/hello"),
        (REQUEST, "request", REQUEST),
        (RUNNER, "runner", RUNNER),
        ("1111", "runner", RUNNER),
        ("22222222-2", "request", REQUEST),
    ],
)
def test_what_is_typed_is_found_whatever_it_is(roost: Callable[..., tuple[int, str, str]], typed: str, kind: str, id: str) -> None:
    code, out, err = roost("why", typed, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == told(kind, id)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("nothing", "✗ There is no app, request or runner 'nothing' here."),
        ("ffff", "✗ There is no app, request or runner 'ffff' here."),
        ("33333333-2222-4333-8444-555555555555", "✗ There is no app, request or runner"),
        ("2222", "✗ 2 ids begin with '2222'."),
    ],
)
def test_what_is_not_found_says_where_to_look(roost: Callable[..., tuple[int, str, str]], typed: str, said: str) -> None:
    code, _, err = roost("why", typed)
    assert code == 1 and err.startswith(said)
