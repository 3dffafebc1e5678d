"""The server's end of a template's connection: CONTROL frames both ways (wire/launch.py), after the handshake of `listener.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from roost.wire import frames


class TemplateLine(asyncio.Protocol):
    """Whoever owns the template sets `on_said` and `on_lost`."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reader = frames.Reader()
        self.on_said: Callable[[dict[str, Any]], None] = lambda body: None
        self.on_lost: Callable[[], None] = lambda: None

    def send(self, body: dict[str, Any]) -> None:
        if not self._transport.is_closing():
            self._transport.write(frames.frame(frames.CONTROL, 0, json.dumps(body).encode()))

    def close(self) -> None:
        """The template ends itself when it notices."""
        self._transport.close()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        try:
            for kind, _, payload in self._reader.feed(data):
                if kind == frames.CONTROL:
                    self.on_said(json.loads(payload))
        except (frames.ProtocolError, ValueError):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_lost()
