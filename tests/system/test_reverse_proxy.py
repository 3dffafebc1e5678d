"""The guide's nginx and Caddy before a real server: everything that a caller does works, and what the server says fits to how it was dialled."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import roost as api
from roost.wire.errors import CODES
from tests.system import proxies
from tests.system.conftest import APPS
from tests.system.proxies import GUIDES, Proxy
from tests.system.roosts import Roost, running, until

NAME = "roost.example.com"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Roost]:
    with running(tmp_path_factory.mktemp("behind") / "roost", cache) as one:
        one.deploy(APPS / "behind.py")
        yield one


@pytest.fixture(scope="module")
def nginx(behind: Roost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxies.nginx(tmp_path_factory.mktemp("proxy") / "nginx", behind) as one:
        yield one


@pytest.fixture(scope="module")
def caddy(behind: Roost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxies.caddy(tmp_path_factory.mktemp("proxy") / "caddy", behind) as one:
        yield one


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    return request.getfixturevalue(request.param)


def http(proxy: Proxy, roost: Roost, **options: Any) -> httpx.Client:
    """A caller with the server's key, that trusts the proxy's certificate."""
    trusted = ssl.create_default_context(cafile=str(proxy.bundle))
    return httpx.Client(base_url=proxy.url, headers=roost.auth, verify=trusted, timeout=60, trust_env=False, **options)


@pytest.mark.parametrize("below_a_path", [False, True], ids=["a host of its own", "below a path"])
def test_the_client_calls_apps_in_every_way(behind: Roost, proxy: Proxy, below_a_path: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.bundle))
    name = f"{behind.owner}/behind"
    with api.Client(behind.key, host=proxy.path_url if below_a_path else proxy.url) as client:
        assert client.run(name, {"mark": "run"}) == {"mark": "run"}
        told: list[Any] = []
        result = client.subscribe(name, {"mark": "queued", "ms": 300}, with_logs=True, on_queue_update=told.append)
        assert result == {"mark": "queued"}
        assert [line["message"] for line in told[-1].logs or ()] == ["waiting queued"]
        handle = client.submit(name, {"mark": "later"})
        assert handle.get() == {"mark": "later"} and isinstance(handle.status(), api.Completed)
        unwanted = client.submit(f"{name}/patient", {})
        until("it runs", lambda: isinstance(unwanted.status(), api.InProgress))
        unwanted.cancel()
        until("it is over", lambda: isinstance(unwanted.status(), api.Completed))
        arrived: list[float] = []
        for _ in client.stream(name, {"ms": 400}):
            arrived.append(time.monotonic())
        assert len(arrived) == 3
        # Nothing on the way waits for the rest of it.
        assert arrived[1] - arrived[0] > 0.2 and arrived[2] - arrived[1] > 0.2
        with pytest.raises(api.ClientHTTPError) as refused:
            client.run(name, {"ms": "many"})
        assert refused.value.status_code == 422


def test_the_queues_addresses_lead_back_the_way_the_caller_came(behind: Roost, proxy: Proxy) -> None:
    at = f"{behind.owner}/behind"
    dialled = {
        f"{proxy.url}/_queue": {},
        f"{proxy.path_url}/_queue": {},
        f"https://queue.{NAME}:{proxy.port}": {"host": f"queue.{NAME}:{proxy.port}"},
    }
    with http(proxy, behind) as client:
        for base, host in dialled.items():
            url = proxy.url if host else base
            submitted = client.post(f"{url}/{at}", json={}, headers=host).json()
            address = f"{base}/{at}/requests/{submitted['request_id']}"
            assert (submitted["response_url"], submitted["cancel_url"]) == (address, f"{address}/cancel")
            with client.stream("GET", f"{address.replace(base, url)}/status/stream", headers=host) as events:
                last = [line for line in events.iter_lines() if line.startswith("data:")][-1]
            assert json.loads(last[5:])["response_url"] == address
            assert client.get(address.replace(base, url), headers=host).json() == {"mark": ""}


def test_an_app_sees_the_caller_and_not_what_it_claims_to_be(behind: Roost, proxy: Proxy) -> None:
    forged = {"x-forwarded-for": "6.6.6.6", "x-forwarded-host": "evil.test", "x-forwarded-prefix": "/evil", "x-real-ip": "6.6.6.6"}
    with http(proxy, behind) as client:
        for url, port in ((proxy.url, proxy.port), (proxy.path_url, proxy.path_port)):
            seen = client.post(f"{url}/{behind.owner}/behind/seen", json={}, headers=forged).json()
            # This machine is the caller, and the proxy, and trusted: so what it says of others is believed up to there.
            assert seen.pop("x-forwarded-for").endswith("127.0.0.1, 127.0.0.1")
            assert seen == {"host": f"localhost:{port}", "x-forwarded-proto": "https"}
            submitted = client.post(f"{url}/_queue/{behind.owner}/behind", json={}, headers=forged).json()
            assert submitted["status_url"].startswith(f"{url}/_queue/")


def test_the_control_plane_answers_too_and_names_the_address_that_was_dialled(behind: Roost, proxy: Proxy) -> None:
    with http(proxy, behind) as client:
        for url in (proxy.url, proxy.path_url):
            assert client.post(f"{url}/v1/keys", json={"alias": "proxy", "scope": "API"}).status_code == 201
            (app,) = client.get(f"{url}/v1/apps").json()["apps"]
            assert app["url"] == f"{url}/{behind.owner}/behind"


def test_paths_pass_as_they_are_written(behind: Roost, proxy: Proxy) -> None:
    with http(proxy, behind) as client:
        for url in (proxy.url, proxy.path_url):
            for path in ("/any/a%2Fb", "/any//data/x", "/any/a%20b/%C3%A4?q=%2F"):
                # As `target`: the client's own tidying is not what is tested.
                target = f"{url.partition(str(proxy.port))[2] if url == proxy.url else '/roost'}/{behind.owner}/behind{path}".encode()
                request = client.build_request("GET", url, extensions={"target": target})
                assert client.send(request).json() == {"raw_path": path.partition("?")[0]}


def test_a_large_body_passes_and_what_is_too_large_is_refused_by_the_server(behind: Roost, proxy: Proxy) -> None:
    with http(proxy, behind) as client:
        assert client.post(f"/{behind.owner}/behind/size", content=bytes(40 * 1024 * 1024)).json() == {"size": 40 * 1024 * 1024}
    # By hand: a client that is well-behaved sends all of it first.
    context = ssl.create_default_context(cafile=str(proxy.bundle))
    with socket.create_connection(("127.0.0.1", proxy.port), 30) as raw, context.wrap_socket(raw, server_hostname="localhost") as caller:
        head = f"POST /{behind.owner}/behind/size HTTP/1.1\r\nhost: localhost:{proxy.port}\r\ncontent-length: 200000000\r\n"
        caller.sendall(f"{head}authorization: Key {behind.key}\r\n\r\n".encode())
        caller.settimeout(0.05)
        answer = ""
        for _ in range(200):
            # Go's proxies pass an early answer on only when the next bytes of the body have come.
            caller.sendall(bytes(10_000))
            with contextlib.suppress(TimeoutError):
                answer = caller.recv(65536).decode()
                break
    assert answer.startswith("HTTP/1.1 413 ") and "x-fal-request-id: " in answer.lower()


def test_a_caller_that_hangs_up_is_noticed(behind: Roost, proxy: Proxy) -> None:
    with http(proxy, behind) as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"/{behind.owner}/behind/patient", json={}, timeout=0.5)
    until("nothing is in flight", lambda: [one["in_flight_requests"] for one in behind.runners("behind")] == [0])


def test_a_planned_restart_costs_no_call(behind: Roost, nginx: Proxy, caddy: Proxy) -> None:
    answered = {nginx.name: 0, caddy.name: 0}
    failed: list[str] = []
    stop = threading.Event()

    def call(proxy: Proxy) -> None:
        with http(proxy, behind) as client:
            while not stop.is_set():
                for method, path in (("POST", "/behind"), ("GET", "/behind/any")):
                    answer = client.request(method, f"/{behind.owner}{path}", json={} if method == "POST" else None)
                    answered[proxy.name] += 1
                    if answer.status_code != 200:
                        failed.append(f"{proxy.name}: {answer.text}")

    callers = [threading.Thread(target=call, args=(proxy,)) for proxy in (nginx, caddy)]
    for caller in callers:
        caller.start()
    try:
        behind.cli("restart")
        before = dict(answered)
        until("the new server answers too", lambda: all(answered[name] >= before[name] + 10 for name in before))
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert failed == []


@pytest.mark.parametrize("name", ["nginx", "caddy"])
@pytest.mark.parametrize("accepts", [False, True], ids=["nobody listens", "it ends in the middle"])
def test_a_server_that_is_away_is_said_in_its_own_form(behind: Roost, tmp_path: Path, name: str, accepts: bool) -> None:
    with socket.socket() as upstream, contextlib.ExitStack() as stack:
        upstream.bind(("127.0.0.1", 0))
        if accepts:
            upstream.listen()
            stack.callback(upstream.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=hang_up_on_all, args=(upstream,)).start()
        proxy = stack.enter_context(getattr(proxies, name)(tmp_path / name, behind, f"127.0.0.1:{upstream.getsockname()[1]}"))
        client = stack.enter_context(http(proxy, behind))
        for url in (proxy.url, proxy.path_url):
            answer = client.post(f"{url}/me/app", json={})
            assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_connection_error")
            assert answer.headers["x-fal-error-type"] == "runner_connection_error"
            assert answer.headers["access-control-allow-origin"] == "*"
            assert UUID.fullmatch(answer.headers["x-fal-request-id"])
            assert "nginx" not in answer.text


def hang_up_on_all(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.close()


@pytest.mark.parametrize("file", ["nginx.conf", "Caddyfile"])
def test_what_a_proxy_says_itself_is_an_error_that_the_server_could_have_said(file: str) -> None:
    bodies = re.findall(r"""['`](\{"detail.*\})['`]""", (GUIDES / file).read_text())
    assert bodies
    for body in map(json.loads, bodies):
        assert body["error_type"] in CODES and body["detail"]
