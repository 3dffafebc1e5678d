"""Something between a client and a server that passes bytes on, and cuts one connection off at a bad moment."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Cutter:
    """Cuts the first connection on which the client has sent `after` bytes: at once, or (`answered`) as the server's answer begins."""

    target: tuple[str, int]
    after: int
    answered: bool
    cuts: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed: the end
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._pass_on, args=[client], daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        sent = 0
        with client, socket.create_connection(self.target) as server, selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    source: socket.socket = key.fileobj  # type: ignore[assignment]
                    data = source.recv(65536)
                    if not data:
                        return
                    sent += len(data) if source is client else 0
                    if not self.cuts and sent >= self.after and (source is server) == self.answered:
                        self.cuts += 1
                        return
                    key.data.sendall(data)


@contextlib.contextmanager
def cutting(port: int, after: int, *, answered: bool) -> Iterator[Cutter]:
    cutter = Cutter(("127.0.0.1", port), after, answered)
    thread = threading.Thread(target=cutter.serve)
    thread.start()
    try:
        yield cutter
    finally:
        # shutdown wakes the accept; close alone would leave it waiting.
        cutter.listener.shutdown(socket.SHUT_RDWR)
        cutter.listener.close()
        thread.join()
