"""The CONNECT door of a real server, used by programs that know nothing of it but `https_proxy`. What docs/guides/connect.md says is done here."""

from __future__ import annotations

import contextlib
import functools
import http.server
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from roost.kit import linux
from tests.system.conftest import APPS
from tests.system.roosts import Roost, running

LARGE = 200 * 1024 * 1024


@pytest.fixture(scope="module")
def roost(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Roost]:
    """A server with a door, and one app that anybody may call."""
    with running(tmp_path_factory.mktemp("connect") / "roost", cache, up_words=("--connect", "127.0.0.1:0")) as one:
        one.deploy(APPS / "hello.py", "--auth", "public")
        yield one


def bundle(roost: Roost) -> Path:
    return roost.home / "state" / "tls" / "bundle.pem"


def through(roost: Roost) -> httpx.Client:
    """A client on this machine, as `https_proxy` and `SSL_CERT_FILE` make it."""
    return httpx.Client(proxy=roost.connect, verify=ssl.create_default_context(cafile=str(bundle(roost))), timeout=30)


class Index(http.server.SimpleHTTPRequestHandler):
    """A package index, and a large file."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/large":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("content-length", str(LARGE))
        self.end_headers()
        block = bytes(1024 * 1024)
        for _ in range(LARGE // len(block)):
            self.wfile.write(block)


@pytest.fixture(scope="module")
def elsewhere(roost: Roost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an https server of somebody else's, with the one package `tunnelled` in its index."""
    folder = tmp_path_factory.mktemp("index")
    package = folder / "simple" / "tunnelled"
    package.mkdir(parents=True)
    wheel = package / "tunnelled-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tunnelled.py", "answer = 42\n")
        about = "tunnelled-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tunnelled\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    (package / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(roost.home / "state" / "tls" / "leaf.pem")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Index, directory=str(folder)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_built_in_names_reach_the_server_and_the_urls_in_its_answers_lead_back(roost: Roost):
    with through(roost) as client:
        direct = client.post(f"https://fal.run/{roost.owner}/hello", json={"name": "you"})
        assert (direct.status_code, direct.json()) == (200, {"text": "Hello, you!"})
        submitted = client.post(f"https://queue.fal.run/{roost.owner}/hello", json={"name": "queue"}).json()
        assert submitted["response_url"].startswith(f"https://queue.fal.run/{roost.owner}/hello/requests/")
        with contextlib.ExitStack() as stack:
            events = stack.enter_context(client.stream("GET", submitted["status_url"] + "/stream"))
            assert "COMPLETED" in "".join(events.iter_text())
        assert client.get(submitted["response_url"]).json() == {"text": "Hello, queue!"}


def test_a_package_from_elsewhere_comes_through_the_door(roost: Roost, elsewhere: str, tmp_path: Path):
    uv = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--no-config", "--no-cache", "--target", str(tmp_path / "got")]
    env = {**roost.environ(), "SSL_CERT_FILE": str(bundle(roost)), "UV_INDEX_URL": f"{elsewhere}/simple", "no_proxy": ""}
    for name in ("UV_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_DEFAULT_INDEX"):
        env.pop(name, None)
    env["UV_HTTP_RETRIES"] = "0"
    # First with nobody at the door's address: what comes later has not come past the door.
    refused = subprocess.run([*uv, "tunnelled"], env={**env, "https_proxy": "http://127.0.0.1:1"}, check=False, capture_output=True)
    assert refused.returncode != 0
    subprocess.run([*uv, "tunnelled"], env={**env, "https_proxy": roost.connect}, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "got" / "tunnelled.py").read_text() == "answer = 42\n"


def test_much_through_a_tunnel_costs_the_door_no_memory(roost: Roost, elsewhere: str):
    front = next(pid for pid in roost.tree() if linux.environment_value(pid, "ROOST_CONNECT_FDS"))
    with through(roost) as client:
        client.get(f"{elsewhere}/simple/").raise_for_status()
        before = linux.pss_mb(front) or 0.0
        got = 0
        with client.stream("GET", f"{elsewhere}/large") as large:
            for piece in large.iter_raw(1024 * 1024):
                got += len(piece)
        after = linux.pss_mb(front) or 1e9
    assert got == LARGE
    assert before < 40
    assert after - before < 2


def test_callers_at_the_door_notice_nothing_of_a_planned_restart(roost: Roost):
    before = roost.health()
    with subprocess.Popen([sys.executable, "-m", "roost.cli", "restart"], env=roost.environ(), stdout=subprocess.DEVNULL) as restart:
        answers: list[int] = []
        while restart.poll() is None or len(answers) < 5:
            with through(roost) as client:
                answers.append(client.post(f"https://fal.run/{roost.owner}/hello", json={}).status_code)
    assert restart.returncode == 0
    assert set(answers) == {200}
    after = roost.health()
    assert before and after and before["instance"] != after["instance"]
