"""The control connection: a blocking daemon thread of its own, so that a handler that holds the event loop is *busy*, not dead."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from roost.runner import dial
from roost.wire import frames
from roost.wire.launch import LINK_VERSIONS, Hello, Ticket

_FIRST_RETRY_S = 0.02
_LAST_RETRY_S = 1.0


class Control:
    """Keeps one control connection to the server, through its restarts, and hands its orders to `on_order` (on this thread)."""

    def __init__(self, ticket: Ticket, pid: int, runtime: str, on_order: Callable[[dict[str, Any]], None]) -> None:
        self._ticket = ticket
        self._pid = pid
        self._runtime = runtime
        self._on_order = on_order
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._closed = False
        self._kept: dict[str, Any] | None = None
        self.state = "SETUP"

    def start(self) -> None:
        threading.Thread(target=self._run, name="roost-control", daemon=True).start()

    def report(self, body: dict[str, Any]) -> None:
        """Tell the server. What cannot be sent now is sent after the next connection is made; only the newest is kept."""
        if body.get("op") == "state":
            self.state = body["state"]
        with self._lock:
            if not self._send(body):
                self._kept = body

    def answer(self, body: dict[str, Any]) -> None:
        """Tell the server what it asked, now or never: who asked is gone with the connection."""
        with self._lock:
            self._send(body)

    def finish(self, body: dict[str, Any] | None, wait_s: float = 2.0) -> None:
        """Send a last word, waiting for a connection for a moment, and hang up."""
        deadline = time.monotonic() + wait_s
        while body is not None:
            with self._lock:
                if self._send(body):
                    break
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        with self._lock:
            self._closed = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)

    def _send(self, body: dict[str, Any]) -> bool:
        if self._sock is None:
            return False
        try:
            self._sock.sendall(frames.frame(frames.CONTROL, 0, json.dumps(body).encode()))
        except OSError:
            return False
        return True

    def _run(self) -> None:
        pause = _FIRST_RETRY_S
        while not self._closed:
            try:
                sock, reader = self._open()
            except (OSError, frames.ProtocolError):
                time.sleep(pause)
                pause = min(pause * 2, _LAST_RETRY_S)
                continue
            pause = _FIRST_RETRY_S
            self._serve(sock, reader)

    def _open(self) -> tuple[socket.socket, frames.Reader]:
        sock = dial.connect_any(self._ticket.addresses)
        try:
            ticket = self._ticket
            health = "usual" if ticket.spec.health_check is None else "declared"
            hello = Hello("control", ticket.runner_id, ticket.token, LINK_VERSIONS, self._pid, self._runtime, self.state, health=health)
            sock.sendall(frames.frame(frames.HELLO, 0, json.dumps(hello.to_json()).encode()))
            reader = frames.Reader()
            sock.settimeout(30)
            while True:
                data = sock.recv(65536)
                if not data:
                    raise OSError("the server hung up")
                found = reader.feed(data)
                if found:
                    break
            kind, _, payload = found[0]
            if kind == frames.REFUSED:
                # The server does not know this runner (any more): there is nobody to work for.
                self._on_order({"op": "refused", "reason": payload.decode("utf-8", "replace")})
                raise OSError("refused")
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        with self._lock:
            self._sock = sock
            kept, self._kept = self._kept, None
            if kept is not None and not self._send(kept):
                self._kept = kept
        for kind, _, payload in found[1:]:
            self._frame(kind, payload)
        return sock, reader

    def _serve(self, sock: socket.socket, reader: frames.Reader) -> None:
        try:
            while True:
                data = sock.recv(65536)
                if not data:
                    break
                # All of them first: what came together with the order to go is still this server's word.
                if any([self._frame(kind, payload) for kind, _, payload in reader.feed(data)]):  # noqa: C419
                    break
        except (OSError, frames.ProtocolError):
            pass
        finally:
            with self._lock:
                self._sock = None
            sock.close()

    def _frame(self, kind: int, payload: bytes) -> bool:
        """Whether this connection has done its work: its server hands over, and whoever comes next gives the orders."""
        if kind == frames.CONTROL:
            order = json.loads(payload)
            leaving = order.get("op") == "redial"
            if leaving:
                # From here on, what the host reports is for the next server.
                with self._lock:
                    self._sock = None
            self._on_order(order)
            return leaving
        if kind == frames.PING:
            with self._lock:
                if self._sock is not None:
                    with contextlib.suppress(OSError):
                        self._sock.sendall(frames.frame(frames.PONG, 0, payload))
        return False


def stacks() -> str:
    """What every thread is doing right now."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts: list[str] = []
    for ident, top in sys._current_frames().items():  # noqa: SLF001  (the only way to another thread's stack)
        parts.append(f"--- {names.get(ident, ident)}\n" + "".join(traceback.format_stack(top)))
    return "\n".join(parts)
