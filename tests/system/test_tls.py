"""TLS on the port of a real server: callers who trust its bundle, a planned restart below TLS, and certificates of no use."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.system.conftest import APPS, MakeRoost
from tests.system.probing import Connection, Prober
from tests.system.roosts import Roost, until

CLIENTS = """
import json, os, sys, urllib.request
import httpx, roost

url, app = sys.argv[1:]
print(json.load(urllib.request.urlopen(url + "/health"))["status"])
print(httpx.get(url + "/health").json()["status"])
with roost.Client(host=url) as client:
    print(client.run(app, {"mark": "direct"})["mark"])
    print(client.subscribe(app, {"mark": "queued"})["mark"])
"""


@pytest.fixture(scope="module")
def timed(roost: Roost) -> Roost:
    roost.cli("deploy", f"{APPS / 'timed.py'}::Timed", "--json")
    return roost


@pytest.fixture
def told(roost: Roost) -> dict[str, str]:
    """What the server says of itself to anybody, over plain HTTP."""
    return httpx.get(f"{roost.url}/v1/addresses").raise_for_status().json()


def test_clients_that_read_ssl_cert_file_reach_it_by_every_name(timed: Roost, told: dict[str, str]) -> None:
    trusted = {"SSL_CERT_FILE": told["bundle"], "ROOST_KEY": timed.key}
    url = f"https://localhost:{timed.port}"
    done = subprocess.run(
        [sys.executable, "-c", CLIENTS, url, f"{timed.owner}/timed"],
        env={**timed.environ(), **trusted},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout.split(), done.returncode) == (["ok", "ok", "direct", "queued"], 0), done.stderr
    listed = timed.cli("apps", "list", ROOST_HOST=told["https"], SSL_CERT_FILE=told["bundle"], ROOST_KEY=timed.key)
    assert "timed" in listed.stdout
    for name in ("localhost", "127.0.0.1"):
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"https://{name}:{timed.port}/health", verify=ssl.create_default_context(), trust_env=False)


def test_what_it_says_of_itself_is_what_it_does(roost: Roost, told: dict[str, str]) -> None:
    assert told["http"] == told["public"] == roost.url
    assert told["https"] == roost.url.replace("http:", "https:")
    assert {"localhost", "127.0.0.1", "::1"} <= set(told["names"])
    context = ssl.create_default_context(cadata=told["ca"])
    assert httpx.get(f"{told['https']}/health", verify=context, trust_env=False).json()["status"] == "ok"
    (check,) = [check for check in roost.api("GET", "/v1/doctor")["checks"] if check["name"] == "certificate"]
    assert check["ok"] and "local authority" in check["detail"]


async def test_a_restart_below_tls_fails_no_call_and_keeps_what_callers_dialled(timed: Roost, told: dict[str, str]) -> None:
    trust = ssl.create_default_context(cadata=told["ca"])
    headers = [("authorization", f"Key {timed.key}")]
    prober = Prober(timed.address, [(f"/{timed.owner}/timed", headers)], durations_ms=(5, 80), tls=trust)
    # From before the restart and silent until after it: its next request is passed on from the old server to the new one.
    idle = await Connection.open(timed.address, trust)
    submit = ("POST", f"/_queue/{timed.owner}/timed", [*headers, ("content-type", "application/json")], b'{"mark": "m"}')
    before = (await idle.ask(*submit)).json()
    await prober.run(50, asyncio.to_thread(timed.cli, "restart"))
    print(f"\n{prober.report()}")
    assert not prober.failed, prober.failed[:10]
    assert prober.worst_s() <= 2.0
    after = (await idle.ask(*submit)).json()
    for said in (before, after):
        assert isinstance(said, dict) and said["status_url"].startswith("https://roost/_queue/"), said
    assert not idle.reusable
    await idle.close()


def test_a_certificate_of_no_use_ends_a_start_with_a_sentence(tmp_path: Path, cache: Path) -> None:
    roost = Roost(tmp_path / "roost", cache, {"ROOST_TLS_CERTIFICATE": "/nowhere/fullchain.pem"})
    done = roost.cli("up", "--port", "0", code=None, cwd=tmp_path)
    assert done.returncode != 0
    assert "tls_certificate /nowhere/fullchain.pem cannot be used" in done.stdout + done.stderr


def test_a_certificate_of_no_use_costs_a_planned_restart_and_not_the_server(own_roost: MakeRoost) -> None:
    roost = own_roost()
    settings = roost.home / "server.toml"
    settings.write_text(f"tls_certificate = {json.dumps(str(settings))}\n")
    done = roost.cli("restart", code=1)
    assert "restart was given up" in done.stdout + done.stderr
    assert roost.health() is not None
    settings.write_text('tls = "off"\n')
    roost.cli("restart")
    until("the new server answers", roost.answers)
    with pytest.raises(httpx.TransportError):
        httpx.get(roost.url.replace("http:", "https:"), verify=False, trust_env=False)
    assert httpx.get(f"{roost.url}/v1/addresses").json()["https"] is None
