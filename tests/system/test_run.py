"""`roost run` on a real server: its output, its address, and every way in which it ends or goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.system.conftest import APPS, MakeRoost
from tests.system.roosts import Roost, until
from tests.system.talk import Talk

LONG = os.environ.get("ROOST_LONG") == "1"
AT_ONCE = 50 if LONG else 20
READY = "Ctrl-C ends it"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A file of the test's own: another file is another session, with another address."""
    return Path(shutil.copy(APPS / "live.py", tmp_path))


def post(url: str, **body: object) -> httpx.Response:
    return httpx.post(url, json=body, timeout=30)


def pids(roost: Roost, url: str) -> list[int]:
    return [runner["pid"] for runner in roost.runners(url.rpartition("/")[2])]


def test_output_appears_within_a_second_and_names_its_request_with_many_calls_in_flight(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app))) as talk:
        talk.says(READY)
        url = talk.url()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda n: post(url, name=f"n{n:02}", wait_s=0.5), range(AT_ONCE)))
        for number, answer in enumerate(answers):
            tag = answer.headers["x-fal-request-id"][:8]
            assert talk.says(f"end n{number:02}", patience_s=5).startswith(f"{tag} out |")
        failed = post(url, name="boom")
        answered = time.monotonic()
        assert failed.status_code == 500
        tag = failed.headers["x-fal-request-id"][:8]
        assert talk.says("RuntimeError: boom of mine").startswith(f"{tag} err |")
        moment = next(at for at, line in talk.heard if "RuntimeError: boom of mine" in line)
        assert moment - answered < 1
        # From the author's own frame on, in reading order.
        trace = [line.partition("| ")[2] for line in talk.lines(f"{tag} err |")]
        assert trace[0] == "Traceback (most recent call last):"
        assert re.match(rf'  File "{app}", line \d+, in go', trace[1])
        talk.interrupt()


def test_ctrl_c_ends_it_at_once(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app))) as talk:
        talk.says(READY)
        url = talk.url()
        (pid,) = pids(roost, url)
        assert post(url).json()["pid"] == pid
        talk.interrupt()
        assert post(url).status_code == 404
        assert talk.process.returncode == 0
        assert talk.lines("Stopped.")
    until("the runner is gone", lambda: not Path(f"/proc/{pid}").exists(), 10)
    assert url.rpartition("/")[2] not in str(roost.api("GET", "/v1/apps"))


def test_a_killed_command_line_loses_its_address_within_ten_seconds(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app))) as talk:
        talk.says(READY)
        url = talk.url()
        talk.process.kill()
        until("the address is gone", lambda: post(url).status_code == 404, 10)
    until("the runner is gone", lambda: not pids(roost, url), 10)


def test_editing_and_running_again_keeps_the_address_and_tells_the_first(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app))) as first:
        first.says(READY)
        url = first.url()
        app.write_text(app.read_text().replace('"one"', '"two"'))
        with Talk(roost.begin("run", str(app))) as second:
            second.says(READY)
            assert second.url() == url
            assert post(url).json()["mark"] == "two"
            assert first.ends() == 1
            assert first.lines("✗ The run was ended: another `roost run` of the same class took its place")
            # The one that was told to go must not have taken the address with it.
            assert post(url).json()["mark"] == "two"
            second.interrupt()


def test_a_run_goes_on_through_a_planned_restart_and_a_crash_of_the_server(own_roost: MakeRoost, app: Path) -> None:
    roost = own_roost()
    with Talk(roost.begin("run", str(app))) as talk:
        talk.says(READY)
        url = talk.url()
        before = post(url, name="before").json()
        for number, end_server in enumerate((lambda: roost.cli("restart"), lambda: os.kill(roost.server_pid(), signal.SIGKILL)), 1):
            end_server()
            talk.says("Attached again.", times=number)
            assert post(url, name=f"after-{number}").json() == before
            talk.says(f"end after-{number}", patience_s=10)
        # Nothing twice, nothing lost, and the same process all the time.
        assert [len(talk.lines(f"end {name}")) for name in ("before", "after-1", "after-2")] == [1, 1, 1]
        assert len(talk.lines("setting up")) == 1
        # The old server of the planned restart has nobody to wait for.
        until("one server is left", lambda: sum("roost.server" in command for command in roost.tree().values()) == 1, 30)
        talk.interrupt()
        assert talk.process.returncode == 0
        assert post(url).status_code == 404


def test_a_slow_setup_shows_that_it_goes_on(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app), LIVE_SETUP_S="5.5")) as talk:
        talk.says("| setting up one", patience_s=20)
        said = talk.says("setup() running, ")
        assert re.search(r"setup\(\) running, \d s", said)
        assert READY not in talk.text
        talk.says(READY)
        talk.interrupt()


def test_flags_change_name_and_who_may_call_and_the_machine(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app), "--app-name", "other", "--auth", "private", "--machine-type", "XS")) as talk:
        talk.says(READY)
        url = talk.url()
        assert re.fullmatch(rf"{roost.url}/{roost.owner}/other-[0-9a-f]{{6}}", url)
        assert post(url).status_code == 401
        name = url.rpartition("/")[2]
        assert roost.call(name).status_code == 200
        assert [runner["machine_type"] for runner in roost.runners(name)] == ["XS"]
        talk.interrupt()


def test_local_serves_in_this_process_without_a_server(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app), "--local", "--port", "0", ROOST_HOST="127.0.0.1:1")) as talk:
        assert post(talk.url()).json() == {"mark": "one", "pid": talk.process.pid}
        assert talk.interrupt() < 10


def test_ctrl_c_while_it_is_prepared_leaves_nothing(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app), "--app-name", "early", LIVE_SETUP_S="60")) as talk:
        talk.says("| setting up")
        talk.interrupt()
        assert talk.process.returncode == 130
        assert talk.lines("Aborted.")
    until("the runner is gone", lambda: not [r for r in roost.runners() if "/early" in r["application"]], 10)
    assert "/early" not in str(roost.api("GET", "/v1/apps"))


def test_every_printed_curl_line_of_a_run_works_when_pasted(roost: Roost, app: Path) -> None:
    with Talk(roost.begin("run", str(app))) as talk:
        talk.says(READY)
        lines = [line.strip() for line in talk.lines("  curl ")]
        assert lines
        for line in lines:
            # A shell without a key: a run is public.
            done = subprocess.run(["sh", "-c", f"{line} -sS --fail-with-body"], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            assert '"mark"' in done.stdout
        talk.interrupt()
