"""The names that clients have built in, led to a server by a hosts file of one process (spec: clients.md §1.2 H): nothing else on this machine notices.

The names need port 443. So that tests do not meet there, each takes a loopback address of its own and passes bytes on to the server.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.wire.hosts import PUBLIC_HOSTS


@contextlib.contextmanager
def names_leading_to(port: int, folder: Path) -> Iterator[list[str]]:
    """The words before a command that make it find all the names at this port of 127.0.0.1."""
    _need_root()
    number = os.getpid()
    address = f"127.90.{number >> 8 & 255}.{number & 255}"
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{address} {' '.join(PUBLIC_HOSTS)}\n")

    class Onward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                there = threading.Thread(target=_pass, args=(self.request, server), daemon=True)
                there.start()
                _pass(server, self.request)
                there.join()

    with socketserver.ThreadingTCPServer((address, 443), Onward) as relay:
        relay.daemon_threads = True
        threading.Thread(target=relay.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield ["unshare", "--mount", "sh", "-c", f'mount --bind {shlex.quote(str(hosts))} /etc/hosts && exec "$@"', "sh"]
        finally:
            relay.shutdown()


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _need_root() -> None:
    if shutil.which("unshare") and os.geteuid() == 0:
        return
    message = "needs root and `unshare`, for a hosts file and port 443 of its own: run the tests with sudo"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
