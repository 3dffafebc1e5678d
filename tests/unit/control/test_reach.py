"""Finding an address with TLS from here, and keeping the authority that speaks for it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

import roost
from roost.client.config import Target
from roost.client.trust import authority_file
from roost.control import reach
from roost.control.errors import ControlError, Unreachable
from roost.control.recipes import Addresses, Way
from roost.front import issuing

NOW_MS = round(time.time() * 1000)


@dataclass
class Standing:
    """A server on this machine that speaks TLS with a certificate of an authority of its own."""

    ca: str
    base: str
    keys_seen: list[str | None] = field(default_factory=list[str | None])

    def told(self, **other: str) -> Addresses:
        said = {"http": self.base.replace("https:", "http:"), "https": self.base, "public": self.base, "ca": self.ca, **other}
        return Addresses.from_json(said)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    authority = issuing.authority("test", NOW_MS)
    leaf = issuing.leaf(authority, ["127.0.0.1"], NOW_MS)
    file = tmp_path_factory.mktemp("tls") / "leaf.pem"
    file.write_bytes(leaf.certificate + leaf.key)
    made = Standing(authority.certificate.decode(), "")

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class asks for this name
            made.keys_seen.append(self.headers["Authorization"])
            said: dict[str, Any] = {"instance": "i", "status": "ok"} if self.path == "/health" else {"https": made.base, "ca": made.ca}
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a caller who does not trust us hangs up

    with Server(("127.0.0.1", 0), Answers) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        made.base = f"https://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"ROOST_HOME": str(tmp_path)}


def test_a_server_is_asked_before_it_is_trusted_and_without_the_key(standing: Standing):
    standing.keys_seen.clear()
    told = reach.ask(Target(standing.base, "id:secret"))
    assert told.https == standing.base and told.ca.startswith("-----BEGIN CERTIFICATE-----")
    assert standing.keys_seen == [None]


def test_an_address_of_a_local_authority_needs_it(standing: Standing, env: dict[str, str]):
    assert reach.find_way(standing.told(), standing.base, env) == Way(standing.base, needs_ca=True)


def test_an_address_that_the_machine_trusts_needs_nothing(standing: Standing, env: dict[str, str], tmp_path: Path):
    corporate = tmp_path / "corporate.pem"
    corporate.write_text(standing.ca)
    assert reach.find_way(standing.told(), standing.base, {**env, "SSL_CERT_FILE": str(corporate)}) == Way(standing.base, needs_ca=False)


def test_what_does_not_answer_is_passed_over(standing: Standing, env: dict[str, str]):
    told = standing.told(public="https://127.0.0.1:1")
    assert reach.find_way(told, standing.base.replace("https:", "http:"), env) == Way(standing.base, needs_ca=True)


def test_when_nothing_answers_the_reason_names_the_address(env: dict[str, str]):
    why = reach.find_way(Addresses.from_json({"public": "https://127.0.0.1:1"}), "http://127.0.0.1:1", env)
    assert isinstance(why, str) and why.startswith("https://127.0.0.1:1: ")
    assert reach.find_way(Addresses.from_json({}), "http://127.0.0.1:1", env) == "it has no address with TLS"


def test_the_authority_is_kept_alone_and_with_the_public_ones(standing: Standing, env: dict[str, str], tmp_path: Path):
    public = tmp_path / "public.pem"
    public.write_text("# public\n")
    kept = reach.keep(standing.told().ca, standing.base, {**env, "SSL_CERT_FILE": str(public)})
    ca, bundle = Path(kept.files.ca), Path(kept.files.bundle)
    assert ca == authority_file(standing.base, env) and ca.read_text() == standing.ca
    assert bundle.read_text() == f"# public\n{standing.ca}"
    assert [path.stat().st_mode & 0o777 for path in (ca, bundle)] == [0o644, 0o644]
    assert sorted(path.name for path in ca.parent.iterdir()) == sorted([ca.name, bundle.name])
    assert kept.is_new and len(kept.fingerprint) == 95


def test_keeping_it_again_changes_nothing_also_where_the_bundle_is_in_use(standing: Standing, env: dict[str, str]):
    first = reach.keep(standing.told().ca, standing.base, env)
    before = Path(first.files.bundle).read_text()
    again = reach.keep(standing.told().ca, standing.base, {**env, "SSL_CERT_FILE": first.files.bundle})
    assert Path(again.files.bundle).read_text() == before and not again.is_new


def test_another_authority_is_refused_elsewhere_and_taken_on_this_machine(standing: Standing, env: dict[str, str]):
    other = issuing.authority("other", NOW_MS).certificate.decode()
    reach.keep(standing.ca, "https://far.example:8700", env)
    with pytest.raises(ControlError, match="another one than before") as refused:
        reach.keep(other, "https://far.example:8700", env)
    assert str(authority_file("https://far.example:8700", env)) in refused.value.hint
    reach.keep(standing.ca, standing.base, env)
    assert Path(reach.keep(other, standing.base, env).files.ca).read_text().strip() == other.strip()


def test_roosts_own_client_trusts_what_was_kept(standing: Standing, env: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("ROOST_HOME", env["ROOST_HOME"])
    monkeypatch.delenv("ROOST_CONFIG", raising=False)
    with roost.Client("id:secret", host=standing.base) as before, pytest.raises(roost.ClientConnectionError, match=r"(?i)certificate"):
        before.run("me/hello", timeout=5, method="GET")
    reach.keep(standing.ca, standing.base)
    with roost.Client("id:secret", host=standing.base) as client:
        client.run("me/hello", timeout=5, method="GET")


def test_what_is_no_roost_server_says_so():
    transport = httpx.MockTransport(lambda request: httpx.Response(404, text="nothing"))
    with pytest.raises(ControlError, match="does not say where else"):
        reach.ask(Target("http://127.0.0.1:8700", ""), transport=transport)


def test_nobody_there_is_told_as_by_every_command():
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(Unreachable, match="roost up"):
        reach.ask(Target("http://127.0.0.1:8700", ""), transport=httpx.MockTransport(refuse))


@pytest.mark.parametrize("ca", ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_a_certificate_that_is_none_is_refused_with_a_sentence(standing: Standing, env: dict[str, str], ca: str):
    with pytest.raises(ControlError, match="is none"):
        reach.find_way(standing.told(ca=ca), standing.base, env)
