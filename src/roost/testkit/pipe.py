"""Two protocols connected in memory, as a socket would connect them: bytes in order, the end after the bytes, nothing at once."""

from __future__ import annotations

import asyncio


class PipeEnd(asyncio.Transport):
    """One end. What was written before a close still arrives, as with a socket whose process ended."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._peer: PipeEnd | None = None
        self._closing = False
        self._ended = False
        self._arrived: list[bytes] = []

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and self._peer is not None and data:
            self._peer.take(bytes(data))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self.end)
            if self._peer is not None:
                self._loop.call_soon(self._peer.end)

    def abort(self) -> None:
        self.close()

    # for the other end

    def join(self, peer: PipeEnd) -> None:
        self._peer = peer

    def take(self, data: bytes) -> None:
        if not self._arrived:
            self._loop.call_soon(self._deliver)
        self._arrived.append(data)

    def end(self) -> None:
        """The connection is over, seen from here."""
        self._closing = True
        if not self._ended:
            self._ended = True
            self._protocol.connection_lost(None)

    def _deliver(self) -> None:
        data, self._arrived = b"".join(self._arrived), []
        if not self._ended:
            assert isinstance(self._protocol, asyncio.Protocol)
            self._protocol.data_received(data)


def connect(caller: asyncio.Protocol, listener: asyncio.Protocol) -> PipeEnd:
    """Connect two protocols; answers the caller's transport."""
    near, far = PipeEnd(caller), PipeEnd(listener)
    near.join(far)
    far.join(near)
    listener.connection_made(far)
    caller.connection_made(near)
    return near
