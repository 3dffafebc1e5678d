from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from roost.control import deploy
from roost.control.errors import ControlError, Unreachable
from roost.control.events import Accepted, Attached, Beat, Done, Ended, Endpoint, Event, LogLine, Lost, Ready
from roost.wire.manifest import Manifest
from roost.wire.spec import AppSpec
from tests.unit.control.server import Clock, Lines, Script, api

MANIFEST = Manifest(AppSpec("hello", "Hello", "3.11"), "aa", "0.1.0", {}, message="why")
ACCEPTED = {"event": "accepted", "application": "me/hello", "revision_id": "r1"}
BEAT = {"event": "beat"}
READY: dict[str, Any] = {
    "event": "ready",
    "application": "me/hello",
    "revision_id": "r1",
    "auth": "public",
    "url": "http://h/me/hello",
    "queue_url": "http://h/_queue/me/hello",
    "endpoints": [{"path": "/", "url": "http://h/me/hello"}],
    "ms": 5,
}
DONE = {"event": "done", "application": "me/hello", "revision_id": "r1", "status": "deployed"}
FAILED = {"event": "error", "detail": "setup() raised.", "error_type": "setup_failed", "hint": "Look."}
REFUSED = httpx.ConnectError("refused")


def _run(script: Script) -> list[Event]:
    clock = Clock()
    return list(deploy.run(api(script), MANIFEST, auth="public", session="s", clock=clock, pause=clock.pause))


def test_only_what_the_server_lacks_is_uploaded_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"w" * (deploy.CHUNK + 1))
    script = Script(httpx.Response(200, json={"missing": ["aa", "bb"]}), httpx.Response(204), httpx.Response(204))
    progress: list[tuple[int, int]] = []
    sent = deploy.upload(api(script), MANIFEST, {"aa": b"pickle", "bb": file, "cc": b"there"}, lambda *state: progress.append(state))
    total = deploy.CHUNK + 7
    assert sent == deploy.Uploaded(2, total)
    assert [request.url.path for request in script.requests] == ["/v1/blobs/missing", "/v1/blobs/aa", "/v1/blobs/bb"]
    assert progress == [(6, total), (deploy.CHUNK + 6, total), (total, total)]


def test_a_deploy_ends_with_done() -> None:
    script = Script(Lines(ACCEPTED, {"event": "from a newer server"}, READY, DONE, BEAT))
    assert list(deploy.deploy(api(script), MANIFEST, auth=None)) == [
        Accepted("me/hello", "r1"),
        Ready("me/hello", "r1", "public", "http://h/me/hello", (Endpoint("/", "http://h/me/hello"),), 5),
        Done("me/hello", "r1", "deployed"),
    ]
    (body,) = script.bodies()
    assert (body["auth"], body["strategy"], body["message"]) == (None, "rolling", "why")
    assert Manifest.from_json(body["manifest"]) == MANIFEST


def test_a_deploy_that_fails_raises_the_servers_reason() -> None:
    with pytest.raises(ControlError) as failed:
        list(deploy.deploy(api(Script(Lines(ACCEPTED, FAILED))), MANIFEST, auth=None))
    assert (failed.value.detail, failed.value.hint, failed.value.code) == ("setup() raised.", "Look.", "setup_failed")


@pytest.mark.parametrize("breaks", [True, False])
def test_a_deploy_goes_on_with_the_server_that_follows(breaks: bool) -> None:
    script, clock = Script(Lines(ACCEPTED, breaks=breaks), REFUSED, Lines(ACCEPTED, DONE)), Clock()
    events = list(deploy.deploy(api(script), MANIFEST, auth=None, clock=clock, pause=clock.pause))
    assert [type(event) for event in events] == [Accepted, Lost, Attached, Accepted, Done]
    first, *again = script.bodies()
    assert [{**body, "since": 1} for body in (first, first)] == again


def test_who_comes_back_asks_for_the_output_that_they_have_not_seen() -> None:
    line = {"event": "log", "timestamp": "2030-01-02T03:04:05.678+00:00", "level": "STDOUT", "source": "user", "message": "m"}
    later = {**line, "timestamp": "2031-01-02T03:04:05.678+00:00", "source": "builder"}
    script = Script(Lines(ACCEPTED, line, later, breaks=True), Lines(ACCEPTED, {"event": "ended", "reason": ""}))
    _run(script)
    first, again = script.bodies()
    assert "since" not in first
    assert again["since"] == 1_893_553_445_679


@pytest.mark.parametrize("breaks", [True, False])
def test_a_run_attaches_again_under_the_same_session_when_the_server_is_restarted(breaks: bool) -> None:
    script = Script(Lines(ACCEPTED, BEAT, breaks=breaks), REFUSED, REFUSED, Lines(ACCEPTED, {"event": "ended", "reason": "deleted"}))
    events = _run(script)
    assert [type(event) for event in events] == [Accepted, Beat, Lost, Attached, Accepted, Ended]
    assert [body["session"] for body in script.bodies()] == ["s"] * 4


def test_a_stream_has_a_connection_of_its_own_so_that_the_next_one_meets_the_new_server() -> None:
    script = Script(Lines(ACCEPTED, DONE))
    list(deploy.deploy(api(script), MANIFEST, auth=None))
    assert script.requests[0].headers["connection"] == "close"


def test_a_run_gives_up_when_nobody_answers_for_twenty_seconds() -> None:
    script = Script(Lines(ACCEPTED, breaks=True), *[REFUSED] * 100)
    with pytest.raises(Unreachable):
        _run(script)
    assert 80 <= len(script.requests) <= 82


def test_a_run_that_cannot_begin_says_so_at_once() -> None:
    script = Script(REFUSED)
    with pytest.raises(Unreachable):
        _run(script)


def test_a_run_whose_setup_fails_raises_and_is_not_repeated() -> None:
    script = Script(Lines(ACCEPTED, FAILED))
    with pytest.raises(ControlError) as failed:
        _run(script)
    assert failed.value.code == "setup_failed"
    assert len(script.requests) == 1


def test_a_server_that_refuses_to_attach_again_is_believed() -> None:
    script = Script(Lines(ACCEPTED, breaks=True), httpx.Response(409, json={"detail": "Taken.", "error_type": "conflict"}))
    with pytest.raises(ControlError) as refused:
        _run(script)
    assert refused.value.detail == "Taken."


def test_a_server_that_breaks_every_stream_at_once_is_given_up_too() -> None:
    script = Script(Lines(ACCEPTED, breaks=True), *[Lines(breaks=True) for _ in range(200)])
    with pytest.raises(ControlError):
        _run(script)
    assert len(script.requests) < 100


def test_closing_a_run_closes_its_stream_which_ends_it() -> None:
    lines = Lines(ACCEPTED, BEAT, BEAT)
    events = deploy.run(api(Script(lines)), MANIFEST, auth="public", session="s")
    next(events)
    events.close()
    assert lines.closed


def test_log_lines_keep_what_the_server_said_and_drop_what_it_did_not() -> None:
    line = {"event": "log", "timestamp": "t", "level": "STDERR", "source": "user", "message": "m", "request_id": None, "new": 1}
    script = Script(Lines(ACCEPTED, line, {"event": "ended", "reason": ""}))
    assert _run(script)[1] == LogLine("t", "STDERR", "user", "m")
