"""The supervisor's end of the channel to one server: JSON objects, one a line, over a socket pair. Never blocks."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any, Final

LINE_LIMIT: Final = 16 * 1024 * 1024
BACKLOG_LIMIT: Final = 64 * 1024 * 1024


class ChannelBroken(Exception):
    """The other end is gone, or it says what nobody can read."""


class Channel:
    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._incoming = bytearray()
        self._outgoing = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_unsent(self) -> bool:
        return bool(self._outgoing)

    def send(self, message: dict[str, Any]) -> None:
        """Send now what fits; `flush` sends the rest when the socket is writable. Raises ChannelBroken."""
        self._outgoing += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        # A server that reads nothing for that long is stopped or broken; keeping everything would take us down with it.
        if len(self._outgoing) > BACKLOG_LIMIT:
            raise ChannelBroken("the server does not read")
        self.flush()

    def flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelBroken(str(error)) from error

    def receive(self) -> list[dict[str, Any]]:
        """The complete messages that have arrived. Raises ChannelBroken when there will be no more."""
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ChannelBroken(str(error)) from error
        if not data:
            raise ChannelBroken("the server closed it")
        self._incoming += data
        *lines, rest = self._incoming.split(b"\n") if b"\n" in data else [self._incoming]
        if len(rest) > LINE_LIMIT:
            raise ChannelBroken(f"a line longer than {LINE_LIMIT} bytes")
        self._incoming = bytearray(rest)
        return [_parse(line) for line in lines]

    def last_words(self) -> list[dict[str, Any]]:
        """What still lies in the channel of a server that has ended. Never raises: nobody is there to be told."""
        messages: list[dict[str, Any]] = []
        with contextlib.suppress(ChannelBroken):
            # Nothing more also ends it: whoever inherited the other end by mistake keeps it open.
            while more := self.receive():
                messages += more
        return messages

    def close(self) -> None:
        self._socket.close()


def _parse(line: bytes | bytearray) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise ChannelBroken(f"not JSON: {bytes(line[:80])!r}") from error
    if not isinstance(message, dict):
        raise ChannelBroken(f"not a JSON object: {bytes(line[:80])!r}")
    return message
