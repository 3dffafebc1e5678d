"""`roost requests` and `roost queue` as they are typed: what they ask, what they print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.typed import Typed, typist

ID = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"
WAITING = {
    "request_id": OTHER,
    "application": "me/hello",
    "endpoint": "/",
    "status": "IN_QUEUE",
    "priority": "low",
    "caller": "me",
    "attempt": 0,
    "queue_position": 4,
    "created_at": "2030-01-01T12:00:00+00:00",
    "metrics": {},
}
FAILED = {
    "request_id": ID,
    "application": "me/hello",
    "endpoint": "/greet",
    "status": "COMPLETED",
    "priority": "normal",
    "caller": "me",
    "attempt": 2,
    "error": "The runner went away.",
    "error_type": "runner_disconnected",
    "status_code": 503,
    "created_at": "2030-01-01T12:00:00+00:00",
    "metrics": {"inference_time": 1.2345},
    "attempts": [
        {
            "number": 1,
            "state": "LOST",
            "runner_id": "r1",
            "started_at": "2030-01-01T12:00:01+00:00",
            "ended_at": "2030-01-01T12:00:03.500+00:00",
            "outcome": "runner_disconnected: it was killed",
        }
    ],
    "events": [{"at": "2030-01-01T12:00:00.007+00:00", "kind": "IN_QUEUE", "reason": "submitted", "actor": "me"}],
}
ANSWERS: dict[tuple[str, str], tuple[int, Any]] = {
    ("GET", "/v1/whoami"): (200, {"owner": "me"}),
    ("GET", "/v1/requests"): (200, {"requests": [WAITING, FAILED]}),
    ("GET", f"/v1/requests/{ID}"): (200, FAILED),
    ("PUT", f"/v1/requests/{OTHER}/cancel"): (202, {"status": "CANCELLATION_REQUESTED"}),
    ("PUT", f"/v1/requests/{ID}/cancel"): (400, {"status": "ALREADY_COMPLETED"}),
    ("POST", f"/v1/requests/{ID}/retry"): (201, {"request_id": OTHER, "status": "IN_QUEUE"}),
    ("GET", "/_rest/applications/me/hello/queue"): (200, {"size": 3, "queue_size": 3, "by_user": {"ada": 1, "bob": 2}}),
    ("DELETE", "/_rest/applications/me/hello/queue"): (200, {"flushed": 3}),
}


@pytest.fixture
def roost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Typed]:
    return typist(ANSWERS, capsys, monkeypatch, tmp_path)


def test_list_is_a_table_of_the_newest(roost: Callable[..., Typed]) -> None:
    done = roost("requests", "list", "--app", "hello", "--state", "completed", "--limit", "5", "--before", ID)
    assert dict(done.asked[-1].url.params) == {"app": "me/hello", "state": "COMPLETED", "limit": "5", "before": ID}
    first, second = done.out.splitlines()[1:]
    assert first.split("  ")[0] == OTHER and "IN_QUEUE (4 ahead)" in first and " low " in first
    assert "COMPLETED (runner_disconnected)" in second and "1.234 s" in second and "/greet" in second


def test_show_tells_attempts_and_events(roost: Callable[..., Typed]) -> None:
    lines = roost("requests", "show", "1111").out.splitlines()
    assert "Error type       runner_disconnected" in lines
    attempt = lines[lines.index("Attempts") + 2]
    assert attempt.split()[:3] == ["1", "LOST", "r1"] and "2.5 s" in attempt and attempt.endswith("runner_disconnected: it was killed")
    assert lines[-1].endswith(":00.007  IN_QUEUE  submitted  me")


def test_cancel_and_retry_take_the_ids_first_characters(roost: Callable[..., Typed]) -> None:
    assert roost("requests", "cancel", "2222").out == f"{OTHER} CANCELLATION_REQUESTED\n"
    assert roost("requests", "retry", "1111").out == f"{OTHER}\n"


def test_what_is_completed_cannot_be_cancelled_and_says_where_to_look(roost: Callable[..., Typed]) -> None:
    done = roost("requests", "cancel", ID)
    assert (done.code, done.err) == (1, f"✗ Request {ID} is completed already.\n  `roost requests show {ID}` tells how.\n")


def test_an_id_that_is_nobodys_is_the_servers_answer(roost: Callable[..., Typed]) -> None:
    done = roost("requests", "show", "9999")
    assert (done.code, done.err, done.asked[-1].url.path) == (1, "✗ not found\n", "/v1/requests/9999")


def test_size_is_a_number_or_a_line_a_caller(roost: Callable[..., Typed]) -> None:
    assert roost("queue", "size", "hello").out == "3\n"
    done = roost("queue", "size", "me/hello", "--by-user")
    assert dict(done.asked[-1].url.params) == {"by_user": "true"}
    assert [line.split() for line in done.out.splitlines()] == [["Caller", "Waiting"], ["bob", "2"], ["ada", "1"]]


def test_flush_says_how_many(roost: Callable[..., Typed]) -> None:
    done = roost("queue", "flush", "hello", "--caller", "ada")
    assert (done.out, dict(done.asked[-1].url.params)) == ("Cancelled 3 requests\n", {"caller_user_id": "ada"})


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("requests", "list"), {"requests": [WAITING, FAILED]}),
        (("requests", "show", ID), FAILED),
        (("requests", "cancel", OTHER), {"request_id": OTHER, "status": "CANCELLATION_REQUESTED"}),
        (("requests", "retry", ID), {"request_id": OTHER, "status": "IN_QUEUE"}),
        (("queue", "size", "hello"), {"size": 3}),
        (("queue", "size", "hello", "--by-user"), {"size": 3, "by_user": {"ada": 1, "bob": 2}}),
        (("queue", "flush", "hello"), {"flushed": 3}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_everything_is_json_too(roost: Callable[..., Typed], words: tuple[str, ...], value: Any) -> None:
    done = roost(*words, "--json")
    assert (done.code, done.json, done.err) == (0, value, "")


def test_a_state_that_is_none_is_wrong_usage(roost: Callable[..., Typed]) -> None:
    done = roost("requests", "list", "--state", "FAILED")
    assert done.code == 2 and "IN_QUEUE, IN_PROGRESS, COMPLETED" in done.err
