"""The receiver of the guide, as a process, and deliveries of a real server: it believes those and nothing else (faults.md S-13)."""

from __future__ import annotations

import base64
import hashlib
import json
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from roost.data.signing import Signer
from tests.docs.guides import ADDRESS, steps
from tests.system.roosts import Roost, running, until
from tests.unit.data import rfc8032

HELLO = Path(__file__).parent.parent / "apps" / "system" / "hello.py"
GUIDE = Path(__file__).parent.parent.parent / "docs" / "guides" / "webhooks.md"
FILES = {step.file: step.text for step in steps(GUIDE) if step.action == "file"}


@dataclass(frozen=True)
class Delivery:
    headers: dict[str, str]
    body: bytes

    def changed(self, **headers: str) -> dict[str, str]:
        return {**self.headers, **{f"X-Fal-Webhook-{name}": value for name, value in headers.items()}}


@dataclass
class Post:
    """A receiver that takes everything and remembers it."""

    url: str
    came: list[Delivery] = field(default_factory=list[Delivery])

    def of(self, request_id: str) -> list[Delivery]:
        return [delivery for delivery in self.came if delivery.headers.get("X-Fal-Webhook-Request-Id") == request_id]


@dataclass(frozen=True)
class Scene:
    roost: Roost
    post: Post
    sample: str
    """URL of the guide's receiver."""
    folder: Path

    def submitted(self, url: str) -> str:
        return str(self.roost.api("POST", f"/_queue/{self.roost.owner}/hello", json={}, params={"fal_webhook": url})["request_id"])

    def delivered(self) -> Delivery:
        """A real delivery, as it came."""
        request_id = self.submitted(self.post.url)
        return until("the webhook came", lambda: self.post.of(request_id))[0]

    def told(self, headers: dict[str, str], body: bytes) -> httpx.Response:
        """What the guide's receiver answers to this."""
        return httpx.post(self.sample, headers={"content-type": "application/json", **headers}, content=body)

    def results(self, request_id: str) -> list[str]:
        path = self.folder / "results.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(request_id)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("receiver")
    home = tmp_path_factory.mktemp("webhooks") / "home"
    with running(home, cache, ROOST_WEBHOOK_ALLOW="127.0.0.1") as roost, taking() as post, sample(folder, roost) as url:
        roost.deploy(HELLO)
        yield Scene(roost, post, url, folder)


@pytest.fixture(scope="module")
def delivery(scene: Scene) -> Delivery:
    """One that the guide's receiver has not seen."""
    return scene.delivered()


@contextmanager
def taking() -> Iterator[Post]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            ours = {name.title(): value for name, value in self.headers.items() if name.lower().startswith("x-fal-")}
            post.came.append(Delivery(ours, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    post = Post(f"http://127.0.0.1:{server.server_port}/done")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield post
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def sample(folder: Path, roost: Roost) -> Iterator[str]:
    """The receiver of the guide, with this server's address and a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (folder / "receiver.py").write_text(FILES["receiver.py"].replace(ADDRESS, roost.address).replace("9099", str(port)))
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([sys.executable, "receiver.py"], cwd=folder, stdout=output, stderr=output, env=roost.environ())
    try:
        until("the sample receives", lambda: "receiving at" in (folder / "output").read_text())
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


def test_a_real_delivery_is_believed_and_its_work_is_done(scene: Scene) -> None:
    request_id = scene.roost.cli("call", "--queue", "--detach", "--webhook", scene.sample, "hello").stdout.strip()
    (line,) = until("the work is done", lambda: scene.results(request_id))
    assert line.startswith(f"{request_id} OK ")


def test_the_same_delivery_again_is_taken_and_changes_nothing(scene: Scene) -> None:
    delivery = scene.delivered()
    request_id = delivery.headers["X-Fal-Webhook-Request-Id"]
    assert [scene.told(delivery.headers, delivery.body).status_code for _ in range(3)] == [200, 200, 200]
    assert len(scene.results(request_id)) == 1


@pytest.mark.parametrize(
    "kind", ["another body", "a space more", "another request", "another moment", "no signature", "old", "another key"]
)
def test_what_the_server_did_not_send_like_this_is_refused(scene: Scene, delivery: Delivery, kind: str, tmp_path: Path) -> None:
    request_id, now_s = delivery.headers["X-Fal-Webhook-Request-Id"], int(time.time())
    own = Signer(scene.roost.home / "state" / "webhook-keys", time.time)
    foreign = Signer(tmp_path / "keys", time.time)
    headers, body, complaint = {
        "another body": (delivery.headers, delivery.body.replace(b"OK", b"KO"), "fits none of the server's keys"),
        "a space more": (delivery.headers, delivery.body + b" ", "fits none of the server's keys"),
        "another request": (delivery.changed(**{"Request-Id": "somebody-elses"}), delivery.body, "fits none of the server's keys"),
        "another moment": (delivery.changed(Timestamp=str(now_s + 1)), delivery.body, "fits none of the server's keys"),
        "no signature": (delivery.changed(Signature=""), delivery.body, "Signature"),
        "old": (dict(own.sign(request_id, scene.roost.owner, now_s - 310, delivery.body)), delivery.body, "300 s is the most"),
        "another key": (dict(foreign.sign(request_id, scene.roost.owner, now_s, delivery.body)), delivery.body, "fits none"),
    }[kind]
    answer = scene.told(headers, body)
    assert (answer.status_code, complaint in answer.text) == (401, True), answer.text
    assert scene.results(request_id) == []


def test_a_delivery_is_as_the_public_protocol_says_to_a_verifier_that_shares_no_code(
    scene: Scene, delivery: Delivery, tmp_path: Path
) -> None:
    jwks: dict[str, Any] = httpx.get(f"{scene.roost.url}/.well-known/jwks.json").json()
    names = ("Request-Id", "User-Id", "Timestamp", "Signature")
    request_id, user_id, timestamp, signature = (delivery.headers[f"X-Fal-Webhook-{name}"] for name in names)
    message = f"{request_id}\n{user_id}\n{timestamp}\n{hashlib.sha256(delivery.body).hexdigest()}".encode()
    keys = [base64.urlsafe_b64decode(key["x"] + "==") for key in jwks["keys"]]
    assert [rfc8032.verify(key, message, bytes.fromhex(signature)) for key in keys] == [True]
    assert (user_id, json.loads(delivery.body)["request_id"]) == (scene.roost.owner, request_id)
    # And by the recipe that the guide gives to receivers without Roost.
    (tmp_path / "verify.py").write_text(FILES["verify.py"])
    is_genuine = runpy.run_path(str(tmp_path / "verify.py"))["is_genuine"]
    assert is_genuine(delivery.headers, delivery.body, jwks)
    assert not is_genuine(delivery.headers, delivery.body + b" ", jwks)


@pytest.mark.parametrize(
    ("path", "host"), [("/.well-known/jwks.json", ""), ("/_rest/.well-known/jwks.json", ""), ("/.well-known/jwks.json", "rest.fal.ai")]
)
def test_the_keys_are_there_without_a_key_at_every_door(scene: Scene, path: str, host: str) -> None:
    answer = httpx.get(scene.roost.url + path, headers={"host": host} if host else {})
    assert (answer.status_code, answer.headers["cache-control"], len(answer.json()["keys"])) == (200, "max-age=3600", 1)


def test_what_is_sent_again_after_a_restart_is_signed_anew_with_the_same_key(scene: Scene) -> None:
    first = scene.delivered()
    request_id = first.headers["X-Fal-Webhook-Request-Id"]
    keys = httpx.get(f"{scene.roost.url}/.well-known/jwks.json").json()
    scene.roost.cli("restart")
    assert scene.roost.cli("webhooks", "resend", request_id[:8]).stdout == f"{request_id} PENDING\n"
    second = until("it came again", lambda: scene.post.of(request_id)[1:])[0]
    assert (second.body, scene.told(second.headers, second.body).status_code) == (first.body, 200)
    assert httpx.get(f"{scene.roost.url}/.well-known/jwks.json").json() == keys
    shown = until(
        "both tries are written down",
        lambda: next((it for it in [scene.roost.api("GET", f"/v1/webhooks/{request_id}")] if it["state"] == "DELIVERED"), None),
    )
    assert [(one["number"], one["status"]) for one in shown["log"]] == [(1, 204), (2, 204)]


def test_a_url_that_will_never_be_sent_to_is_refused_at_once(scene: Scene) -> None:
    refused = scene.roost.cli("call", "--queue", "--detach", "--webhook", "http://169.254.169.254/latest", "hello", code=1)
    assert "fal_webhook cannot be called: 169.254.169.254" in refused.stderr
