"""The CONNECT door: a caller asks for HOST:PORT, and bytes pass both ways, untouched and unread.

    door = Door(server)
    await door.listen(sockets)

What is promised: 200 only once the far side is connected. A slow reader slows its sender down and fills no memory. Who has said its last
word (half-close) may still listen. Where a tunnel goes is decided in `destination`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast

from roost.front.destination import HEAD_END, MAX_HEAD, Address, Refuse, Splice, Tunnel, decide
from roost.kit import log

BACKLOG: Final = 4096
CHUNK: Final = 64 * 1024
"""Read at once, and so the most that one direction of a tunnel holds."""
_RESOLVERS: Final = 32
"""Threads that look names up: one whose name server is silent must not hold up the others."""
_LAST_WORD_S: Final = 1.0
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    tunnels: int = 1_000
    head_s: float = 20.0
    dial_s: float = 20.0
    idle_s: float = 3_600.0
    """A tunnel through which no byte came for so long ends."""
    half_closed_s: float = 600.0
    """The same when one end says nothing more: mostly it is gone, and only the other end's program does not see it."""


class Door:
    """Takes CONNECT on sockets that listen already."""

    def __init__(self, server: Address, limits: Limits | None = None) -> None:
        """`server` is where the names go that our own server answers for."""
        self.server = server
        self.limits = limits or Limits()
        self.passages: set[Passage] = set()
        self.scratch = memoryview(bytearray(CHUNK))
        """Every read goes here first; it is passed on before the next one begins."""
        self._listening: list[asyncio.Server] = []

    @property
    def tunnels(self) -> int:
        """Passages that have said where to, and were not refused."""
        return sum(passage.dialling is not None for passage in self.passages)

    async def listen(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_RESOLVERS, "resolve"))
        for one in sockets:
            self._listening.append(await loop.create_server(lambda: Passage(self).near, sock=one, backlog=BACKLOG))

    def close(self) -> None:
        """Stop listening and end every tunnel."""
        for one in self._listening:
            one.close()
        for passage in list(self.passages):
            passage.abort()


class End(asyncio.BufferedProtocol):
    """One of the two connections of a passage."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None
        """Where its bytes go; None until both are connected."""
        self.ended = False
        """It has said its last word."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # Nothing may wait here beside what was read last: as soon as some does, the other side's reading stops.
        self.transport.set_write_buffer_limits(high=0)
        self.passage.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.passage.door.scratch

    def buffer_updated(self, nbytes: int) -> None:
        # A copy: what cannot be sent at once is kept by the other transport, and the buffer is everybody's.
        data = bytes(self.passage.door.scratch[:nbytes])
        if self.other is not None:
            self.passage.seen()
            self.other.send(data)
        else:
            self.passage.before_tunnel(data)

    def eof_received(self) -> bool:
        self.ended = True
        self.passage.on_last_word(self)
        return True

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.read(False)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.read(True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.passage.lost()

    # what the passage and the other end do with it

    def send(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def send_last_word(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            # A connection that broke meanwhile says so itself.
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def read(self, go_on: bool) -> None:
        if self.transport is not None:
            (self.transport.resume_reading if go_on else self.transport.pause_reading)()

    def close(self) -> None:
        """End it after what is still to be sent."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Passage:
    """One caller's connection and what becomes of it: a head, then a dial, then a tunnel; or a refusal."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.near = End(self)
        self.far: End | None = None
        self.dialling: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._seen = self._loop.time()
        self._before = bytearray()
        """The head, or what came behind it before there was a tunnel."""
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False

    def abort(self) -> None:
        for end in (self.near, self.far):
            if end is not None:
                end.abort()

    # what the ends say

    def connected(self, end: End) -> None:
        if end is self.near:
            self.door.passages.add(self)
            self._timer = self._loop.call_later(self.door.limits.head_s, self._refuse, 408, "no CONNECT came in time")
        else:
            # At once: what the far side says first, and be it its last word, must find the caller.
            self._join(end)

    def seen(self) -> None:
        """Bytes passed."""
        self._seen = self._loop.time()

    def before_tunnel(self, data: bytes) -> None:
        """The caller speaks and there is no tunnel: it is the head, or an impatient caller's first words."""
        if self._refused:
            return
        self._before += data
        if self.dialling is not None:
            if len(self._before) > CHUNK:
                self.near.read(False)
        elif 0 <= (end := self._before.find(HEAD_END)) <= MAX_HEAD - len(HEAD_END):
            head = bytes(self._before[: end + len(HEAD_END)])
            del self._before[: len(head)]
            self._on_head(head)
        elif len(self._before) > MAX_HEAD:
            self._refuse(431, f"the head of a CONNECT may be {MAX_HEAD // 1024} KB, this one is longer")

    def on_last_word(self, end: End) -> None:
        """An end says nothing more: the other is told, and when both have said all, the passage is over."""
        self.seen()
        if end.other is not None:
            end.other.send_last_word()
            if end.other.ended:
                end.close()
                end.other.close()
            else:
                self._stop_timer()
                self._end_when_idle()
        elif end is self.near and self.dialling is None:
            end.close()

    def lost(self) -> None:
        """A connection is gone: what the other still has to be sent is sent, then it ends too."""
        alive = [one for one in (self.near, self.far) if one is not None and one.transport is not None]
        for one in alive:
            one.close()
        if not alive:
            if self._timer is not None:
                self._timer.cancel()
            self.door.passages.discard(self)
        if self.far is None and self.dialling is not None:
            self.dialling.cancel()

    # its life

    def _on_head(self, head: bytes) -> None:
        match decide(head):
            case Refuse(status, detail):
                self._refuse(status, detail)
            case _ if self.door.tunnels >= self.door.limits.tunnels:
                self._refuse(503, f"{self.door.limits.tunnels} tunnels are open, which is all that this door keeps")
            case Tunnel(to):
                self._dial(to)
            case Splice():
                self._dial(self.door.server)

    def _dial(self, to: Address) -> None:
        self._stop_timer()
        self.dialling = self._loop.create_task(self._connect(to), name=f"dial {to}")

    async def _connect(self, to: Address) -> None:
        # All addresses of the name, each a quarter of a second after the one before: a dead one costs no more than that.
        dial = self._loop.create_connection(lambda: End(self), to.host, to.port, happy_eyeballs_delay=0.25)
        try:
            await asyncio.wait_for(dial, self.door.limits.dial_s)
        except (asyncio.TimeoutError, TimeoutError):
            if self.far is None:
                self._refuse(504, f"{to} did not answer within {self.door.limits.dial_s:g} s")
        except OSError as error:
            self._refuse(502, f"{to} cannot be reached: {reason(error)}")

    def _join(self, far: End) -> None:
        self.far, near = far, self.near
        near.other, far.other = far, near
        near.send(_ESTABLISHED)
        far.send(bytes(self._before))
        self._before.clear()
        near.read(True)
        if near.ended:
            far.send_last_word()
        if near.transport is None:
            far.close()
        self._end_when_idle()

    def _end_when_idle(self) -> None:
        half_closed = self.near.ended or (self.far is not None and self.far.ended)
        limit_s = self.door.limits.half_closed_s if half_closed else self.door.limits.idle_s
        quiet_s = self._loop.time() - self._seen
        if quiet_s >= limit_s:
            self.abort()
        else:
            self._timer = self._loop.call_later(limit_s - quiet_s, self._end_when_idle)

    def _refuse(self, status: int, detail: str) -> None:
        self._stop_timer()
        self._refused = True
        self.dialling = None
        self._before.clear()
        log.debug("connect.refused", status=status, detail=detail)
        self.near.read(True)
        self.near.send(refusal(status, detail))
        self.near.send_last_word()
        # Closing while the caller still sends would destroy the answer on its way.
        self._timer = self._loop.call_later(_LAST_WORD_S, self.near.abort)
        if self.near.ended:
            self.near.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def refusal(status: int, detail: str) -> bytes:
    """An answer instead of a tunnel. The sentence is also in its first line: of a failed CONNECT most programs show nothing else."""
    body = f"{detail}\n".encode()
    allow = "allow: CONNECT\r\n" if status == 405 else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}: {detail}\r\n"
        f"content-type: text/plain; charset=utf-8\r\n{allow}connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii", "replace") + body


def reason(error: OSError) -> str:
    """Why a far side could not be connected, for the one who asked for it."""
    if isinstance(error, socket.gaierror):
        return "no address is known for this name"
    # Not asyncio's own text: it lists every address that was tried, as Python writes them.
    return os.strerror(error.errno).lower() if error.errno else "none of its addresses takes connections"
