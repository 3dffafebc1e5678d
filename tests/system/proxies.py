"""nginx and Caddy before a server, with the very configurations of the guide (docs/guides/reverse-proxy.md).

    with nginx(folder, roost) as proxy:
        httpx.get(f"{proxy.url}/health", verify=...)

Of the files only names, ports and paths are replaced, as an operator replaces them.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.roosts import Roost, until

GUIDES = Path(__file__).parent.parent.parent / "docs" / "guides"
DEFAULT_UPSTREAM = "127.0.0.1:8700"


@dataclass(frozen=True)
class Proxy:
    """A proxy that listens on this machine, as localhost, with a certificate."""

    name: str
    port: int
    """A host of its own: bare paths, path prefixes, and queue.roost.example.com as Host."""
    path_port: int
    """A site below whose path /roost the server is."""
    bundle: Path
    """Certificates that a caller must trust."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def path_url(self) -> str:
        return f"https://localhost:{self.path_port}/roost"


def needs(program: str, package: str) -> str:
    """Where the program is. Without it the test fails where CI=true, and is skipped elsewhere, with the line that installs it."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        message = f"{program} is not installed. Install it: sudo apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextlib.contextmanager
def nginx(folder: Path, roost: Roost, upstream: str = "") -> Iterator[Proxy]:
    """It shows the certificate of the server's own authority, which is for localhost too. `upstream`: in place of the server's address."""
    program = needs("nginx", "nginx-light")
    folder.mkdir(parents=True)
    port, path_port = _free_ports(2)
    certificate = roost.home / "state" / "tls" / "leaf.pem"
    guide = _written(
        "nginx.conf",
        ("listen 443 ssl;\n    server_name roost", f"listen 127.0.0.1:{port} ssl;\n    server_name roost"),
        ("listen 443 ssl;\n    server_name example", f"listen 127.0.0.1:{path_port} ssl;\n    server_name example"),
        ("/etc/letsencrypt/live/roost.example.com/fullchain.pem", str(certificate)),
        ("/etc/letsencrypt/live/roost.example.com/privkey.pem", str(certificate)),
        ("/etc/letsencrypt/live/example.com/fullchain.pem", str(certificate)),
        ("/etc/letsencrypt/live/example.com/privkey.pem", str(certificate)),
        (DEFAULT_UPSTREAM, upstream or roost.address),
    )
    (folder / "roost.conf").write_text(guide)
    # What a distribution's nginx.conf has around it.
    around = f"""
        user {getpass.getuser()}; daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            include {folder}/roost.conf;
        }}
    """
    (folder / "nginx.conf").write_text(around)
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with _running(command, folder / "error.log", (port, path_port)):
        yield Proxy("nginx", port, path_port, roost.home / "state" / "tls" / "bundle.pem")


@contextlib.contextmanager
def caddy(folder: Path, roost: Roost, upstream: str = "") -> Iterator[Proxy]:
    """Its certificates are of an authority that it makes itself. `upstream`: as in `nginx`."""
    program = needs("caddy", "caddy")
    folder.mkdir(parents=True)
    port, path_port, http_port = _free_ports(3)
    names = [f"{label}roost.example.com" for label in ("", "queue.", "rest.", "api.", "ws.")]
    guide = _written(
        "Caddyfile",
        (", ".join(names) + " {", ", ".join(f"{name}:{port}" for name in ("localhost", *names)) + " {"),
        ("\nexample.com {", f"\nlocalhost:{path_port} {{"),
        (DEFAULT_UPSTREAM, upstream or roost.address),
    )
    # In place of certificates from a public authority: those of one in this folder.
    around = f"{{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\thttp_port {http_port}\n\tstorage file_system {folder}/state\n}}\n"
    (folder / "Caddyfile").write_text(around + guide)
    command = [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    authority = folder / "state" / "pki" / "authorities" / "local" / "root.crt"
    with _running(command, folder / "caddy.log", (port, path_port)):
        until("Caddy has made its certificates", lambda: authority.exists() and all(_shows_a_certificate(one) for one in (port, path_port)))
        yield Proxy("caddy", port, path_port, authority)


def _written(guide: str, *replaced: tuple[str, str]) -> str:
    text = (GUIDES / guide).read_text()
    for before, after in replaced:
        assert before in text, f"{guide} has no {before!r} any more"
        text = text.replace(before, after)
    return text


def _free_ports(count: int) -> Sequence[int]:
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def _shows_a_certificate(port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError):
        with socket.create_connection(("127.0.0.1", port), 1) as raw, context.wrap_socket(raw, server_hostname="localhost"):
            return True
    return False


@contextlib.contextmanager
def _running(command: list[str], log: Path, ports: Sequence[int]) -> Iterator[None]:
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ, "HOME": str(log.parent)})

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            for port in ports:
                socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    try:
        until(f"{command[0]} listens", listens)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
