"""`roost call --queue` as it is typed, against a fake queue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from roost.cli.main import main
from tests.unit.cli.served import served
from tests.unit.client.fake import DONE, ID, QUEUED, RUNNING, FakeServer, Stream, line

FIRST, SECOND = line("loading"), {**line("oh"), "level": "STDERR"}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ROOST_HOST", "ROOST_PROFILE", "ROOST_CONFIG", "ROOST_DEBUG", "ROOST_RUNNER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))
    monkeypatch.setenv("ROOST_KEY", "id:secret")


class Called:
    def __init__(self, code: int, out: str, err: str, server: FakeServer) -> None:
        self.code, self.out, self.err, self.server = code, out, err.splitlines(), server


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    def type_it(server: FakeServer, *words: str) -> Called:
        with served(server) as host:
            code = main(["call", "--host", host, *words])
        printed = capsys.readouterr()
        return Called(code, printed.out, printed.err, server)

    return type_it


def test_it_tells_how_it_goes_and_prints_the_result(call: Callable[..., Called]) -> None:
    stream = Stream(QUEUED, {**QUEUED, "queue_position": 0}, {**RUNNING, "logs": [FIRST]}, {**DONE, "logs": [SECOND]})
    done = call(FakeServer(stream=[stream]), "--queue", "me/hello", "name=Ada", "--priority", "low", "--start-timeout", "30")
    assert (done.code, done.out) == (0, '{"text":"Hello"}')
    assert done.err == [
        f"  Submitted {ID}",
        "  Queued, 2 ahead",
        "  Queued, next in line",
        "  In progress",
        "11111111 out | loading",
        "11111111 err | oh",
        "  Completed after 0.5 s",
    ]
    submit = done.server.seen[0]
    assert (submit.url.path, json.loads(submit.content)) == ("/_queue/me/hello", {"name": "Ada"})
    sent = {name: submit.headers[name] for name in ("authorization", "x-fal-queue-priority", "x-fal-request-timeout")}
    assert sent == {"authorization": "Key id:secret", "x-fal-queue-priority": "low", "x-fal-request-timeout": "30"}


def test_detach_prints_the_id_and_leaves(call: Callable[..., Called]) -> None:
    done = call(FakeServer(), "-q", "--detach", "me/hello")
    assert (done.code, done.out, done.err, done.server.kinds) == (0, f"{ID}\n", [], ["submit"])
    told = json.loads(call(FakeServer(), "-q", "--detach", "--json", "me/hello").out)
    assert told["request_id"] == ID and told["status_url"].endswith(f"/_queue/me/hello/requests/{ID}/status")


def test_a_webhook_is_asked_for_with_the_submit(call: Callable[..., Called]) -> None:
    done = call(FakeServer(), "-q", "--detach", "me/hello", "--webhook", "https://hooks.example/done?order=7&a=b")
    assert dict(done.server.seen[0].url.params) == {"fal_webhook": "https://hooks.example/done?order=7&a=b"}


def test_json_is_one_line_on_stdout(call: Callable[..., Called]) -> None:
    assert call(FakeServer(), "-q", "--json", "me/hello").out == '{"text": "Hello"}\n'


def test_a_failure_is_the_answer_on_stderr_and_code_1(call: Callable[..., Called]) -> None:
    failed = {**DONE, "error": "Invalid status code: 422"}
    done = call(FakeServer(stream=[Stream(failed)], result=[httpx.Response(422, json={"detail": "no"})]), "-q", "me/hello")
    assert (done.code, done.out) == (1, "")
    assert "  Failed: Invalid status code: 422 after 0.5 s" in done.err
    assert done.err[-2].startswith("✗ 422 Unprocessable") and done.err[-1] == '{"detail":"no"}'


def test_without_logs_a_failure_still_shows_the_last_lines(call: Callable[..., Called]) -> None:
    lines: list[Any] = [line(f"line {number}") for number in range(50)]
    server = FakeServer(status=[{**DONE, "logs": lines}], result=[httpx.Response(500, text="")])
    done = call(server, "-q", "--no-logs", "me/hello")
    assert [text for text in done.err if " out | " in text] == [f"11111111 out | line {number}" for number in range(10, 50)]
    assert dict(done.server.seen[1].url.params) == {"logs": "0"}


def test_a_binary_result_goes_into_a_file(call: Callable[..., Called], tmp_path: Path) -> None:
    picture = httpx.Response(200, content=b"\x89PNG", headers={"content-type": "image/png"})
    assert call(FakeServer(result=[picture]), "-q", "-o", str(tmp_path / "x.png"), "me/hello").code == 0
    assert (tmp_path / "x.png").read_bytes() == b"\x89PNG"


def test_a_time_limit_cancels(call: Callable[..., Called]) -> None:
    done = call(FakeServer(stream=[Stream(QUEUED)], status=[QUEUED]), "-q", "--timeout", "0.2", "me/hello")
    assert (done.code, done.server.kinds[-1]) == (1, "cancel")
    assert done.err[-1] == f"✗ Request {ID} timed out after 0.2 seconds"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--detach", "me/hello"), "--detach goes with --queue"),
        (("--priority", "low", "me/hello"), "--priority goes with --queue"),
        (("-q", "--priority", "high", "me/hello"), "normal or low"),
        (("-q", "https://elsewhere/me/hello"), "is not at 'https://elsewhere/me/hello'"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(call: Callable[..., Called], words: tuple[str, ...], complaint: str) -> None:
    done = call(FakeServer(), *words)
    assert done.code == 2
    assert complaint in done.err[0]
    assert done.server.seen == []


def test_a_whole_url_of_this_server_is_an_app_too(capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer()
    with served(server) as host:
        assert main(["call", "-q", "--host", host, f"{host}/me/hello/sub"]) == 0
    assert server.seen[0].url.path == "/_queue/me/hello/sub"


def test_ctrl_c_cancels_the_request() -> None:
    cancelled, watched = threading.Event(), threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        match FakeServer.kind(request):
            case "submit":
                return httpx.Response(200, json={"request_id": ID})
            case "cancel":
                cancelled.set()
                return httpx.Response(202, json={"status": "CANCELLATION_REQUESTED"})
            case _:
                watched.set()
                cancelled.wait(20)
                return httpx.Response(404)

    with served(answer) as host:
        code = "import sys, signal; signal.signal(signal.SIGINT, signal.default_int_handler); from roost.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "call", "-q", "me/hello", "--host", host]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
            assert watched.wait(30)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=30)[1].splitlines()
    assert (process.returncode, said) == (130, [f"  Submitted {ID}", f"Cancelled {ID}", "Aborted."])
