"""Apps call apps of their own server with nothing configured; and `roost env` leads programs outside to the same place."""

from __future__ import annotations

import ast
import json
import os
import shlex
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import roost as api
from tests.compat.js.modules import modules
from tests.system.conftest import APPS
from tests.system.roosts import Roost, until

VERBS = ("run", "subscribe", "submit")
WAYS = [f"{client}.{verb}" for client in ("roost", "fal") for verb in VERBS]
TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "vendor=1", "baggage": "who=ada"}


@pytest.fixture(scope="module")
def calling(roost: Roost) -> Roost:
    """The shared server with apps on it: one that tells what it heard, and the same caller under two names."""
    roost.deploy(f"{APPS / 'calling.py'}::Heard")
    for name in ("calling", "between"):
        roost.deploy(f"{APPS / 'calling.py'}::Calling", "--app-name", name)
    return roost


def ask(roost: Roost, endpoint: str, how: str, app: str, body: dict[str, Any] | None = None, /, **headers: str) -> dict[str, Any]:
    answer = roost.call(endpoint, {"how": how, "app": f"{roost.owner}/{app}", "body": body or {}}, headers=headers)
    assert answer.status_code == 200, (answer.text, roost.cli("apps", "logs", "calling").stdout)
    return answer.json()


@pytest.mark.parametrize("endpoint", ["calling", "calling/awaiting"], ids=["sync", "async"])
@pytest.mark.parametrize("how", WAYS)
def test_a_handler_calls_a_private_app_with_nothing_configured(calling: Roost, endpoint: str, how: str) -> None:
    heard = ask(calling, endpoint, how, "heard", **TRACE)["headers"]
    assert heard["x-fal-caller-user-id"] == calling.owner
    assert "authorization" not in heard
    assert {name: heard[name] for name in TRACE} == TRACE
    # What is submitted for later is not bound to the time that its maker has left.
    assert ("x-roost-deadline" in heard) is (not how.endswith("submit"))


@pytest.mark.parametrize("how", ["roost.run", "fal.subscribe"])
def test_an_app_calls_itself(calling: Roost, how: str) -> None:
    heard = ask(calling, "calling", how, "calling", {"how": how, "app": f"{calling.owner}/heard"})
    assert heard["headers"]["x-fal-caller-user-id"] == calling.owner


def test_a_chain_of_three_has_one_trace_and_the_deadline_of_its_first_call(calling: Roost) -> None:
    ends_ms = round(time.time() * 1000) + 45_000
    first = {"x-roost-deadline": str(ends_ms)}
    last = ask(calling, "calling", "roost.run", "between", {"how": "roost.subscribe", "app": f"{calling.owner}/heard"}, **TRACE, **first)
    assert last["headers"]["traceparent"] == TRACE["traceparent"]
    assert last["headers"]["x-roost-deadline"] == str(ends_ms)
    assert 0 < float(last["onward"]["x-fal-request-timeout"]) <= 45


def test_without_a_deadline_of_its_caller_a_call_has_its_apps_request_timeout(calling: Roost) -> None:
    before_ms = time.time() * 1000
    ends_ms = int(ask(calling, "calling", "roost.run", "heard")["headers"]["x-roost-deadline"])
    assert before_ms + 100_000 < ends_ms < time.time() * 1000 + 120_000


def test_tasks_and_threads_of_a_handler_call_in_its_name(calling: Roost) -> None:
    found = ask(calling, "calling/background", "", "heard", **TRACE)
    assert found["thread"]["traceparent"] == found["task"]["headers"]["traceparent"] == TRACE["traceparent"]


def test_a_runner_trusts_the_machines_certificates_and_the_local_authority(calling: Roost) -> None:
    found = calling.call("calling/surroundings").json()
    assert found["SSL_CERT_FILE"] == str(calling.home / "state" / "tls" / "bundle.pem")
    assert found["authorities"] == len(ssl.create_default_context().get_ca_certs()) + 1


def test_what_an_app_sets_in_its_environment_stays_also_in_a_fork_of_its_template(calling: Roost) -> None:
    app = f"/v1/apps/{calling.owner}/heard"
    until("the template lives", lambda: (calling.api("GET", app).get("template") or {}).get("state") == "living")
    for runner in calling.runners("heard"):
        calling.api("POST", f"/v1/runners/{runner['runner_id']}/stop")
    until("no runner is left", lambda: not calling.runners("heard"))
    answer = calling.call("heard", headers={"x-roost-trace": "1"})
    assert "fork" in answer.headers["x-roost-stages"], answer.headers["x-roost-stages"]
    assert answer.json()["region"] == "the moon"


# --- roost env ----------------------------------------------------------------------------------------------------------------

SUBSCRIBE = "import fal_client, json; print(json.dumps(fal_client.subscribe({app!r}, {{}})))"


def outside(roost: Roost) -> dict[str, str]:
    """The environment of a person's shell that knows nothing of the server."""
    return {name: value for name, value in roost.environ().items() if not name.startswith(("FAL_", "SSL_"))}


def official_python(roost: Roost) -> str:
    """An interpreter that has fal-client: that of the runners above."""
    found = (roost.home / "state" / "envs").glob("*/lib/python3*/site-packages/fal_client")
    return str(next(found).parents[3] / "bin" / "python")


def test_what_env_prints_for_shells_works_when_evaluated(calling: Roost) -> None:
    script = (
        f'set -eu; eval "$(roost env)"; exec {official_python(calling)} -c {shlex.quote(SUBSCRIBE.format(app=f"{calling.owner}/heard"))}'
    )
    done = subprocess.run(["bash", "-c", script], env=outside(calling), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["headers"]["x-fal-caller-user-id"] == calling.owner


def test_what_env_prints_for_python_works_when_pasted(calling: Roost, tmp_path: Path) -> None:
    lines = calling.cli("env", "--python").stdout
    ast.parse(lines)
    program = tmp_path / "program.py"
    program.write_text(lines + SUBSCRIBE.format(app=f"{calling.owner}/heard"))
    done = subprocess.run(
        [official_python(calling), program], env=outside(calling), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["headers"]["x-fal-caller-user-id"] == calling.owner


def test_what_env_prints_for_javascript_works_when_pasted(calling: Roost, tmp_path: Path) -> None:
    (tmp_path / "node_modules" / "@fal-ai").mkdir(parents=True)
    (tmp_path / "node_modules" / "@fal-ai" / "client").symlink_to(modules() / "fal-newest")
    program = tmp_path / "program.mjs"
    call = f"console.log(JSON.stringify((await fal.subscribe({json.dumps(f'{calling.owner}/heard')}, {{ input: {{}} }})).data));"
    program.write_text(calling.cli("env", "--js").stdout + call)
    done = subprocess.run(["node", program], env=outside(calling), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["headers"]["x-fal-caller-user-id"] == calling.owner


def test_env_keeps_the_authority_where_roosts_own_client_finds_it(calling: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = json.loads(calling.cli("env", "--json").stdout)["env"]["SSL_CERT_FILE"]
    assert Path(kept).is_relative_to(calling.home / "certificates") and os.stat(kept).st_mode & 0o777 == 0o644
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("ROOST_HOME", str(calling.home))
    with api.Client(calling.key, host=calling.url.replace("http:", "https:")) as client:
        assert client.run(f"{calling.owner}/heard", {})["headers"]["x-forwarded-proto"] == "https"


def test_env_again_in_the_same_shell_prints_the_same(calling: Roost) -> None:
    first = calling.cli("env").stdout
    variables = dict(line.removeprefix("export ").split("=", 1) for line in first.splitlines())
    again = calling.cli("env", SSL_CERT_FILE=shlex.split(variables["SSL_CERT_FILE"])[0])
    assert again.stdout == first and again.stderr == ""
    assert len(Path(shlex.split(variables["SSL_CERT_FILE"])[0]).read_text()) > 10_000
