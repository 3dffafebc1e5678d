"""Every command of the CLI against a real server: what it prints, as JSON too, its exit code, and what it changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.system.conftest import APPS, MakeRoost
from tests.system.roosts import Roost, until

HELLO = APPS / "hello.py"

READING = (
    ("apps list", "apps"),
    ("apps show hello", "endpoints"),
    ("apps logs hello", "logs"),
    ("runners list --since 1h", "runners"),
    ("keys list", "keys"),
    ("keys current", "key"),
    ("builds list", "builds"),
    ("doctor", "checks"),
    ("call hello name=Ada", "text"),
    ("call --queue hello name=Ada", "text"),
    ("requests list --app hello", "requests"),
    ("queue size hello", "size"),
)


@pytest.fixture(scope="module")
def deployed(roost: Roost) -> Roost:
    """The shared server with `hello` on it, which was called once directly and once through the queue."""
    roost.deploy(HELLO)
    roost.call("hello").raise_for_status()
    roost.cli("call", "--queue", "hello")
    return roost


@pytest.mark.parametrize(("command", "key"), READING, ids=[command for command, _ in READING])
def test_a_command_that_prints_data_prints_it_as_json_too(deployed: Roost, command: str, key: str) -> None:
    value = json.loads(deployed.cli(*command.split(), "--json").stdout)
    assert key in value
    said = deployed.cli(*command.split())
    assert said.stdout and "Traceback" not in said.stderr


def test_every_printed_address_answers_and_every_curl_line_works_when_pasted(roost: Roost, tmp_path: Path) -> None:
    app = tmp_path / "pasted.py"
    app.write_text(
        "import roost\nfrom pydantic import BaseModel, Field\n"
        'class In(BaseModel):\n    name: str = Field(examples=["it\'s $HOME"])\n    size: int = Field(ge=3)\n'
        "class Pasted(roost.App):\n"
        "    @roost.endpoint('/')\n    def go(self, input: In) -> dict:\n        return {'name': input.name, 'size': input.size}\n"
        "    @roost.endpoint('/plain')\n    def plain(self, input) -> dict:\n        return {'got': input}\n"
    )
    lines = roost.cli("deploy", str(app)).stdout.splitlines()
    urls = [word for line in lines if not line.startswith("  curl") for word in line.split() if word.startswith("http://")]
    assert len(urls) == 2
    for url in urls:
        assert httpx.post(url, json={"name": "x", "size": 5}, headers=roost.auth, timeout=60).status_code == 200
        # A deploy is private.
        assert httpx.post(url, json={"name": "x", "size": 5}, timeout=60).status_code == 401
    curls = [line.strip() for line in lines if line.startswith("  curl")]
    answers = [paste(roost, line) for line in curls]
    assert answers == [{"name": "it's $HOME", "size": 3}, {"got": {}}]


def paste(roost: Roost, line: str) -> object:
    done = subprocess.run(
        ["sh", "-c", f"{line} -sS --fail-with-body"], env=roost.environ(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", ["apps list", "deploy hello.py", "run hello.py", "call hello"])
def test_without_a_server_it_says_how_to_start_one_within_a_second(roost: Roost, command: str) -> None:
    took: list[float] = []
    # The best of three: what others do on this machine is not what is measured.
    for _ in range(3):
        began = time.monotonic()
        done = roost.cli(*command.split(), cwd=APPS, code=1, ROOST_HOST="127.0.0.1:1")
        took.append(time.monotonic() - began)
        assert done.stderr == "✗ Nothing answers at http://127.0.0.1:1. Start it with `roost up`\n"
    assert min(took) < 1, took


def test_what_scale_changed_outlives_a_deploy_except_what_belongs_to_the_code(roost: Roost) -> None:
    roost.deploy(HELLO, "--app-name", "scaled")
    done = roost.cli("apps", "scale", "scaled", "--keep-alive", "7", "--max-concurrency", "3", "--max-multiplexing", "4")
    assert "the next deploy sets max_multiplexing to what the class says" in done.stderr
    now = json.loads(roost.cli("apps", "show", "scaled", "--json").stdout)
    assert (now["keep_alive"], now["max_concurrency"], now["max_multiplexing"]) == (7, 3, 4)
    roost.deploy(HELLO, "--app-name", "scaled")
    now = json.loads(roost.cli("apps", "show", "scaled", "--json").stdout)
    assert (now["keep_alive"], now["max_concurrency"], now["max_multiplexing"]) == (7, 3, 1)
    roost.cli("apps", "scale", "scaled", "--min-concurrency", "1")
    (runner,) = until("a runner that is always there", lambda: [r for r in roost.runners("scaled") if r["state"] == "IDLE"])
    roost.cli("apps", "delete", "scaled")
    # Deleted while a runner lives: the address is gone at once, and the runner soon.
    assert roost.call("scaled").status_code == 404
    until("the runner is gone", lambda: not Path(f"/proc/{runner['pid']}").exists(), 15)
    assert roost.cli("apps", "delete", "scaled", code=1).stderr.startswith(f'✗ Application "{roost.owner}/scaled" not found')


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_a_runner_can_be_ended_and_its_log_stays(roost: Roost, verb: str) -> None:
    name = f"ended-{verb}"
    roost.deploy(HELLO, "--app-name", name)
    assert roost.call(name, {"name": "last words"}).status_code == 200
    (runner,) = until("its runner", lambda: roost.runners(name))
    done = roost.cli("runners", verb, runner["runner_id"][:8])
    assert done.stdout.split()[0] == runner["runner_id"]
    until("the process is gone", lambda: not Path(f"/proc/{runner['pid']}").exists(), 15)
    assert "greeting last words" in roost.cli("runners", "logs", runner["runner_id"]).stdout
    ended = json.loads(roost.cli("runners", "list", "--app", name, "--since", "1h", "--json").stdout)["runners"]
    assert {r["runner_id"]: r["state"] for r in ended}[runner["runner_id"]] == "TERMINATED"
    # The address stays: the next call starts another one.
    assert roost.call(name).status_code == 200


def test_a_key_opens_what_its_scope_says_until_it_is_revoked(deployed: Roost) -> None:
    made = json.loads(deployed.cli("keys", "create", "--alias", "for a test", "--json").stdout)
    assert json.loads(deployed.cli("call", "hello", "--json", ROOST_KEY=made["key"]).stdout) == {"text": "Hello, world!"}
    refused = deployed.cli("deploy", str(HELLO), ROOST_KEY=made["key"], code=1)
    assert "ADMIN" in refused.stderr
    listed = deployed.cli("keys", "list").stdout
    assert made["key_id"] in listed and "for a test" in listed and made["key_secret"] not in listed
    deployed.cli("keys", "revoke", made["key_id"])
    assert deployed.call("hello", headers={"Authorization": f"Key {made['key']}"}).status_code == 401
    assert "does not accept the key" in deployed.cli("call", "hello", ROOST_KEY=made["key"], code=1).stderr


def test_prune_removes_what_nobody_needs_and_nothing_else(own_roost: MakeRoost, tmp_path: Path) -> None:
    roost = own_roost()
    # What servers of other tests have built is lent to this one, and nobody's here.
    roost.cli("builds", "prune")
    app = tmp_path / "needs.py"
    app.write_text(
        "import roost\nclass Needs(roost.App):\n    requirements = ['six']\n"
        "    @roost.endpoint('/')\n    def go(self) -> dict:\n        import six\n        return {'six': six.__version__}\n"
    )
    roost.deploy(HELLO)
    roost.deploy(app)
    assert roost.call("needs").status_code == 200
    assert json.loads(roost.cli("builds", "prune", "--json").stdout)["removed"] == []
    envs = {build["requirements"][0] if build["requirements"] else "": build for build in roost.api("GET", "/v1/builds")["builds"]}
    assert "+ six==" in roost.cli("builds", "log", envs["six"]["key"][:10]).stdout
    roost.cli("apps", "delete", "needs")
    until("its runner is gone", lambda: not roost.runners("needs"), 15)
    assert json.loads(roost.cli("builds", "prune", "--json").stdout)["removed"] == [envs["six"]["key"]]
    assert not (roost.home / "state" / "envs" / envs["six"]["key"]).exists()
    assert roost.call("hello").status_code == 200


def test_a_second_deploy_needs_neither_a_network_nor_an_install(own_roost: MakeRoost, tmp_path: Path) -> None:
    roost = own_roost()
    app = Path(shutil.copy(HELLO, tmp_path))
    first = roost.deploy(app)
    (built,) = roost.api("GET", "/v1/builds")["builds"]
    roost.stop()
    nowhere: dict[str, str] = dict.fromkeys(
        ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:1"
    )
    roost.env.update(nowhere, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    roost.start()
    app.write_text(app.read_text().replace('"Hello"', '"Hi"'))
    began = time.monotonic()
    second = roost.deploy(app)
    took_s = time.monotonic() - began
    assert second["revision"] != first["revision"]
    assert roost.call("hello").json() == {"text": "Hi, world!"}
    (again,) = roost.api("GET", "/v1/builds")["builds"]
    assert {**again, "used_at": ""} == {**built, "used_at": ""}
    print(f"second deploy: {took_s:.2f} s")


def test_the_systemd_unit_is_one_that_systemd_accepts(roost: Roost, tmp_path: Path) -> None:
    unit = tmp_path / "roost.service"
    unit.write_text(roost.cli("up", "--systemd", "--port", "0").stdout)
    assert str(roost.home) in unit.read_text()
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False)
        assert "roost.service" not in done.stderr, done.stderr


def test_restart_and_doctor_say_how_it_is(own_roost: MakeRoost) -> None:
    roost = own_roost()
    before = roost.health()
    answer = json.loads(roost.cli("restart", "--json").stdout)
    after = roost.health()
    assert before is not None and after is not None and before["instance"] != after["instance"]
    assert answer["seconds"] < 60 and answer["version"] == after["version"]
    checks = {check["name"]: check for check in json.loads(roost.cli("doctor", "--json").stdout)["checks"]}
    assert all(check["ok"] for check in checks.values())
    missing = roost.cli("doctor", code=1, ROOST_HOST="127.0.0.1:1")
    assert "✗ server" in missing.stdout and "Start it with `roost up`" in missing.stdout


def test_help_and_import_are_quick(roost: Roost) -> None:
    """The limits of the product, measured as the best of five starts."""

    def best(*command: str) -> float:
        took: list[float] = []
        for _ in range(5):
            began = time.monotonic()
            subprocess.run(command, env=roost.environ(), capture_output=True, check=True)
            took.append(time.monotonic() - began)
        return min(took)

    bare = best(sys.executable, "-c", "")
    imported, help_s = best(sys.executable, "-c", "import roost"), best(sys.executable, "-m", "roost.cli", "--help")
    print(f"bare {bare * 1000:.0f} ms, import roost {(imported - bare) * 1000:.1f} ms more, roost --help {help_s * 1000:.0f} ms")
    assert imported - bare <= 0.020
    assert help_s <= 0.250
