"""`App.spawn()` and `AppClient.connect` against a scripted server: what is sent, what is waited for, and how a run ends."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest

import roost
from roost.control.errors import ControlError
from roost.control.load import LoadError, load, of_class
from roost.control.spawn import AppSpawnInfo, spawn
from roost.wire.manifest import Manifest
from tests.unit.control.server import TARGET

SOURCE = """
    import roost

    class Greeter(roost.App):
        @roost.endpoint("/")
        def greet(self, input: dict) -> dict:
            return {}

        @roost.endpoint("/other")
        def other(self, input: dict) -> dict:
            return {}
"""
ACCEPTED = {"event": "accepted", "application": "me/greeter-1", "revision_id": "r1"}
URL = "http://apps.test/me/greeter-1"
READY = {"event": "ready", "application": "me/greeter-1", "revision_id": "r1", "auth": "public", "url": URL, "endpoints": [], "ms": 5}
LINE = {"event": "log", "timestamp": "2030-01-02T03:04:05.678+00:00", "level": "STDOUT", "source": "user", "message": "hello from setup"}
FAILED = {"event": "error", "detail": "setup() raised.", "error_type": "setup_failed", "hint": "Look."}
ENDED = {"event": "ended", "reason": "deleted by key:k"}


class Server(httpx.SyncByteStream):
    """Takes one run. Its stream says `events`, then what `say` adds, and ends when the run is ended."""

    def __init__(self, *events: dict[str, Any], health: tuple[int, ...] = (200,)) -> None:
        self._lines: Queue[dict[str, Any] | None] = Queue()
        self.say(*events)
        self.healths = list(health)
        self.requests: list[httpx.Request] = []

    def say(self, *events: dict[str, Any] | None) -> None:
        for event in events:
            self._lines.put(event)

    def __iter__(self) -> Iterator[bytes]:
        while (line := self._lines.get(timeout=10)) is not None:
            yield json.dumps(line).encode() + b"\n"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        match request.method, request.url.path:
            case "POST", "/v1/blobs/missing":
                return httpx.Response(200, json={"missing": json.loads(request.content)["hashes"]})
            case "PUT", _:
                request.read()
                return httpx.Response(204)
            case "POST", "/v1/run":
                return httpx.Response(200, stream=self)
            case "DELETE", _:
                self.say({"event": "ended", "reason": "ended by its author"})
                return httpx.Response(204)
            case "GET", _:
                return httpx.Response(self.healths.pop(0) if len(self.healths) > 1 else self.healths[0])
            case _:
                return httpx.Response(200, json={"path": request.url.path, "sent": json.loads(request.content)})

    def asked(self, method: str) -> list[str]:
        return [str(request.url) for request in self.requests if request.method == method]

    def spawned(self, cls: type, **given: Any) -> AppSpawnInfo:
        return spawn(cls, target=TARGET, transport=httpx.MockTransport(self), **given)


@pytest.fixture
def greeter(tmp_path: Path) -> type:
    file = tmp_path / "greeter.py"
    file.write_text(textwrap.dedent(SOURCE))
    return load(file).cls


def test_a_spawned_class_is_sent_as_roost_run_sends_it_and_ended_by_name(greeter: type) -> None:
    server = Server(ACCEPTED, LINE, READY)
    with server.spawned(greeter) as info:
        assert (info.application, info.future.done()) == ("me/greeter-1", False)
        info.wait()
        assert info.url == URL
        assert info.logs.get(timeout=5).message == "hello from setup"
    assert info.future.done() and info.future.exception() is None
    (body,) = [json.loads(request.content) for request in server.requests if request.url.path == "/v1/run"]
    assert Manifest.from_json(body["manifest"]).spec.name == "greeter" and body["auth"] == "public"
    assert server.asked("DELETE") == ["http://127.0.0.1:8700/v1/run/greeter-1"]


def test_two_spawns_of_one_class_are_two_runs(greeter: type) -> None:
    sessions = []
    for _ in range(2):
        server = Server(ACCEPTED)
        server.spawned(greeter).stream.cancel()
        sessions += [json.loads(request.content)["session"] for request in server.requests if request.url.path == "/v1/run"]
    assert len(set(sessions)) == 2


def test_calls_go_to_the_endpoints_with_the_profiles_key(greeter: type) -> None:
    server = Server(ACCEPTED, READY)
    with server.spawned(greeter) as info:
        info.wait()
        client: Any = roost.AppClient(greeter, info.send)
        assert client.greet({"a": 1}) == {"path": "/me/greeter-1", "sent": {"a": 1}}
        assert client.other({"b": 2}) == {"path": "/me/greeter-1/other", "sent": {"b": 2}}
        assert server.requests[-1].headers["authorization"] == "Key id:secret"


def test_not_found_and_500_are_a_health_that_is_not_there_yet(greeter: type) -> None:
    server = Server(ACCEPTED, READY, health=(404, 500, 200))
    with server.spawned(greeter) as info:
        info.wait(health_check_interval=0.001)
        assert server.asked("GET") == [f"{URL}/health"] * 3


def test_any_other_health_is_an_error(greeter: type) -> None:
    with Server(ACCEPTED, READY, health=(403,)).spawned(greeter) as info, pytest.raises(roost.AppClientError, match="403"):
        info.wait()


def test_who_waits_too_long_hears_of_the_time_that_they_gave(greeter: type) -> None:
    with Server(ACCEPTED).spawned(greeter) as info, pytest.raises(roost.AppClientError, match=r"startup_timeout=0\.01 s"):
        info.wait(startup_timeout=0.01, health_check_interval=0.001)


def test_a_run_that_does_not_come_up_says_the_servers_reason(greeter: type) -> None:
    with Server(ACCEPTED, FAILED).spawned(greeter) as info, pytest.raises(ControlError) as failed:
        info.wait()
    assert (failed.value.detail, failed.value.hint) == ("setup() raised.", "Look.")


def test_a_run_that_is_refused_raises_at_once(greeter: type) -> None:
    with pytest.raises(ControlError, match=r"setup\(\) raised"):
        Server(FAILED).spawned(greeter)


def test_a_run_that_somebody_else_ended_says_so(greeter: type) -> None:
    server = Server(ACCEPTED, READY, ENDED)
    info = server.spawned(greeter)
    assert "deleted by key:k" in str(info.future.exception(timeout=5))
    info.cancel()
    assert server.asked("DELETE") == []


def test_a_class_without_a_file_cannot_be_sent() -> None:
    made: dict[str, Any] = {"__name__": "__main__.nowhere", "roost": roost}
    exec(textwrap.dedent(SOURCE).replace("import roost", ""), made)
    with pytest.raises(LoadError, match="No file has the class Greeter"):
        of_class(made["Greeter"])
