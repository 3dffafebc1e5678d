"""`roost webhooks` as it is typed: what it asks, what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.typed import Typed, typist

ID = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"
PENDING = {
    "request_id": OTHER,
    "gateway_request_id": OTHER,
    "application": "me/hello",
    "state": "PENDING",
    "url": "https://hooks.example/done",
    "caller": "me",
    "tries": 2,
    "created_at": "2030-01-01T12:00:00+00:00",
    "reason": "no answer within 15 s",
    "next_try_at": "2030-01-01T12:00:20+00:00",
    "tried_until": "2030-01-01T13:00:00+00:00",
}
FAILED = {
    "request_id": ID,
    "gateway_request_id": ID,
    "application": "me/hello",
    "state": "FAILED",
    "url": "https://hooks.example/gone",
    "caller": "me",
    "tries": 1,
    "created_at": "2030-01-01T12:00:00+00:00",
    "reason": "answered 410: the receiver wants no more of it",
    "ended_at": "2030-01-01T12:00:01+00:00",
}
LOG = [
    {"number": 1, "at": "2030-01-01T12:00:01+00:00", "took": 15, "outcome": "no answer within 15 s"},
    {"number": 2, "at": "2030-01-01T12:00:18+00:00", "took": 0.25, "status": 410, "outcome": "answered 410"},
]
ROTATED = {"kid": "k2", "signs_from": "2030-01-02T13:00:00.000+00:00", "keys": ["k1", "k2"]}
ANSWERS: dict[tuple[str, str], tuple[int, Any]] = {
    ("GET", "/v1/whoami"): (200, {"owner": "me"}),
    ("GET", "/v1/webhooks"): (200, {"webhooks": [PENDING, FAILED]}),
    ("GET", f"/v1/webhooks/{ID}"): (200, {**FAILED, "log": LOG}),
    ("GET", f"/v1/webhooks/{OTHER}"): (200, {**PENDING, "log": []}),
    ("POST", f"/v1/webhooks/{ID}/resend"): (202, {**FAILED, "state": "PENDING"}),
    ("POST", f"/v1/webhooks/{OTHER}/resend"): (
        409,
        {"detail": f"the webhook of request {OTHER} is still being tried", "error_type": "conflict", "hint": "Wait."},
    ),
    ("POST", "/v1/webhooks/resend"): (202, {"application": "me/hello", "resent": 7}),
    ("POST", "/v1/webhooks/rotate-key"): (201, ROTATED),
}


@pytest.fixture
def roost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Typed]:
    return typist(ANSWERS, capsys, monkeypatch, tmp_path)


def test_list_is_a_table_of_the_newest(roost: Callable[..., Typed]) -> None:
    done = roost("webhooks", "list", "--app", "hello", "--state", "failed", "--limit", "5", "--before", ID, "--caller", "ada")
    asked = {"app": "me/hello", "state": "FAILED", "limit": "5", "before": ID, "caller": "ada"}
    assert dict(done.asked[-1].url.params) == asked
    first, second = done.out.splitlines()[1:]
    assert first.split("  ")[:4] == [OTHER, "me/hello", "PENDING", "2"] and "no answer within 15 s" in first
    assert "https://hooks.example/gone" in second and "answered 410: the receiver wants no more of it" in second


def test_get_tells_every_try(roost: Callable[..., Typed]) -> None:
    lines = roost("webhooks", "get", "1111").out.splitlines()
    assert "Reason   answered 410: the receiver wants no more of it" in lines
    first, second = lines[lines.index("Tries") + 2 :]
    assert first.startswith("1 ") and first.endswith("-       15 s    no answer within 15 s")
    assert second.startswith("2 ") and second.endswith("410     0.25 s  answered 410")


def test_get_says_when_the_next_try_is_and_that_there_was_none(roost: Callable[..., Typed]) -> None:
    done = roost("webhooks", "get", OTHER)
    assert "Next try" in done.out and "Tried until" in done.out
    assert done.err == "None yet.\n"


def test_one_is_sent_again_by_its_ids_first_characters(roost: Callable[..., Typed]) -> None:
    assert roost("webhooks", "resend", "1111").out == f"{ID} PENDING\n"


def test_one_that_is_being_tried_is_the_servers_answer(roost: Callable[..., Typed]) -> None:
    done = roost("webhooks", "resend", OTHER)
    assert (done.code, done.err) == (1, f"✗ the webhook of request {OTHER} is still being tried\n  Wait.\n")


def test_all_that_an_app_s_receivers_missed_are_sent_again(roost: Callable[..., Typed]) -> None:
    done = roost("webhook", "resend", "--app", "hello", "--failed")
    assert (done.out, dict(done.asked[-1].url.params)) == ("Sending 7 again\n", {"app": "me/hello"})


@pytest.mark.parametrize(
    "words", [(), (ID, "--failed"), ("--failed",), ("--app", "hello"), (ID, "--app", "hello"), (ID, "--app", "a", "--failed")]
)
def test_what_to_send_again_must_be_clear(roost: Callable[..., Typed], words: tuple[str, ...]) -> None:
    done = roost("webhooks", "resend", *words)
    assert (done.code, done.asked) == (2, [])
    assert "name one request by its ID, or all that an app's receivers missed with --app APP --failed." in done.err


@pytest.mark.parametrize(("flags", "body", "talk"), [((), False, "It signs from 2030-"), (("--at-once",), True, "It signs now.")])
def test_a_new_key_is_told_by_its_id(roost: Callable[..., Typed], flags: tuple[str, ...], body: bool, talk: str) -> None:
    done = roost("webhooks", "rotate-key", *flags)
    assert (done.out, json.loads(done.asked[-1].content)) == ("k2\n", {"at_once": body})
    assert done.err.startswith(talk)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("webhooks", "list"), {"webhooks": [PENDING, FAILED]}),
        (("webhooks", "get", ID), {**FAILED, "log": LOG}),
        (("webhooks", "resend", ID), {**FAILED, "state": "PENDING"}),
        (("webhooks", "resend", "--app", "hello", "--failed"), {"application": "me/hello", "resent": 7}),
        (("webhooks", "rotate-key"), ROTATED),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_everything_is_json_too(roost: Callable[..., Typed], words: tuple[str, ...], value: Any) -> None:
    done = roost(*words, "--json")
    assert (done.code, done.json, done.err) == (0, value, "")


def test_a_state_that_is_none_is_wrong_usage(roost: Callable[..., Typed]) -> None:
    done = roost("webhooks", "list", "--state", "LOST")
    assert done.code == 2 and "PENDING, DELIVERED, FAILED" in done.err


def test_a_webhook_goes_with_the_queue(roost: Callable[..., Typed]) -> None:
    done = roost("call", "hello", "--webhook", "https://hooks.example/done")
    assert done.code == 2 and "--webhook goes with --queue: a direct call does not wait in line." in done.err
