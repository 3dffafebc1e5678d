"""The link's rules as two sans-IO state machines: `GatewaySession` and `RunnerSession`.

Bytes go in through `receive`, events come out; methods queue frames, `take` hands over all queued bytes (frames of one loop turn leave
in one write). Nothing here waits, reads a clock or owns a socket.

One call is one stream. RESERVE and the call leave together, a queued one once its claim is durable; of a runner that was BUSY lately the answer
is awaited before anything is claimed or sent (docs/decisions/0006-claim-before-reserve.md). BUSY before ACCEPT may be routed elsewhere; after ACCEPT a call is never repeated.
A slot is free again at DONE, when the code has really ended, which may be later than the end of the response.

    gateway                      runner
    RESERVE [HEAD BODY* ..END]  ->
                                <-  BUSY                                    (end of the stream)
                                <-  ACCEPT, RESPONSE, BODY*, BODY_END, DONE
    CANCEL (caller gone)        ->                                          the handler is told; DONE follows when it ended
    RELEASE (claim failed)      ->                                          only before HEAD
    KEEP (queued, before HEAD)  ->                                          the call outlives its connection (link version 2)
                                <-  RESET (failed without a proper end), DONE
    CREDIT                      <>  so many bytes of body were consumed

A call that was kept is taken up on another stream, of any connection of its runner; an older stream of it ends with RESET `MOVED` and DONE.

    RESUME                      ->
                                <-  BUSY                                    no such attempt is known
                                <-  ACCEPT, RESPONSE, BODY*, BODY_END, DONE the response from its first byte
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, cast

from roost.wire import frames
from roost.wire.frames import Attempt, ProtocolError, Reader, RequestHead, ResponseHead

WINDOW: Final = 256 * 1024
"""Bytes of body that may be under way on one stream before its reader returns credit."""
_CREDIT_STEP: Final = WINDOW // 4
ATTEMPTS_A_FRAME: Final = 1_000
"""That one order or report names: many more would not fit."""
MOVED: Final = "moved"
"""Code of the RESET on a stream whose call was resumed elsewhere: no outcome, another stream has it."""
_CONNECTION_KINDS: Final = (frames.PONG, frames.GOAWAY, frames.GOAWAY_OK, frames.WELCOME, frames.REFUSED)

Event = tuple[int, int, Any]
"""(frame kind, stream, value): bytes for BODY and BODY_END, heads for HEAD and RESPONSE, dict for CONTROL, `Attempt` for RESUME, None otherwise."""

# What may arrive on a stream in which state. A pair that is missing is a broken peer.
GATEWAY_STREAM: Final[dict[tuple[str, int], str]] = {
    ("reserved", frames.ACCEPT): "accepted",
    ("reserved", frames.BUSY): "closed",
    ("accepted", frames.RESPONSE): "answering",
    ("accepted", frames.RESET): "answered",
    ("accepted", frames.DONE): "closed",
    ("answering", frames.BODY): "answering",
    ("answering", frames.BODY_END): "answered",
    ("answering", frames.RESET): "answered",
    ("answered", frames.DONE): "closed",
}
RUNNER_STREAM: Final[dict[tuple[str, int], str]] = {
    ("accepted", frames.HEAD): "receiving",
    ("accepted", frames.KEEP): "accepted",
    ("accepted", frames.RELEASE): "closed",
    ("accepted", frames.CANCEL): "closed",
    ("receiving", frames.BODY): "receiving",
    ("receiving", frames.BODY_END): "running",
    ("receiving", frames.CANCEL): "cancelled",
    ("running", frames.CANCEL): "cancelled",
    ("cancelled", frames.BODY): "cancelled",
    ("cancelled", frames.BODY_END): "cancelled",
    ("cancelled", frames.CANCEL): "cancelled",
}


class Slots:
    """How many calls a runner takes at once, over all its gateways. The runner itself is the judge, so no central lock is needed."""

    __slots__ = ("draining", "in_use", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self.draining = False

    def take(self) -> bool:
        if self.draining or self.in_use >= self.limit:
            return False
        self.in_use += 1
        return True

    def give(self) -> None:
        self.in_use -= 1


class _Stream:
    __slots__ = ("ended", "pending", "pending_end", "returned", "state", "takes_slot", "window")

    def __init__(self, state: str, takes_slot: bool = True) -> None:
        self.state = state
        self.takes_slot = takes_slot
        self.window = WINDOW
        self.pending: list[bytes | memoryview] = []
        self.pending_end = False
        self.ended = False
        self.returned = 0


class _Session:
    """What both ends share: the queue of frames to send, bodies with credit, and the connection's own frames."""

    def __init__(self) -> None:
        self._reader = Reader()
        self._out: list[bytes] = []
        self._streams: dict[int, _Stream] = {}
        self.going_away = False

    def take(self) -> bytes:
        """Everything queued since the last call, to be written at once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def has_output(self) -> bool:
        return bool(self._out)

    @property
    def open_streams(self) -> list[int]:
        return list(self._streams)

    def control(self, body: dict[str, Any]) -> None:
        self._out.append(frames.frame(frames.CONTROL, 0, json.dumps(body).encode()))

    def name_attempts(self, op: str, attempts: Sequence[Attempt]) -> None:
        """An order, or a report, about these. In as many frames as that takes."""
        for start in range(0, len(attempts), ATTEMPTS_A_FRAME):
            self.control({"op": op, "attempts": attempts[start : start + ATTEMPTS_A_FRAME]})

    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        """Queue body bytes; what exceeds the peer's window is kept until credit arrives. False: pause until `writable`.

        Unknown streams are ignored: the peer may have ended the call while these bytes were on their way here.
        """
        entry = self._streams.get(stream)
        if entry is None or entry.ended:
            return True
        if entry.pending or len(data) > entry.window:
            if data:
                entry.pending.append(data)
            entry.pending_end = entry.pending_end or end
            self._push(stream, entry)
            return not entry.pending
        self._body_frames(stream, entry, data, end)
        return True

    def writable(self, stream: int) -> bool:
        """Whether all body bytes given so far are on their way."""
        entry = self._streams.get(stream)
        return entry is None or not entry.pending

    def consumed(self, stream: int, size: int) -> None:
        """The reader has used `size` bytes of body; the peer may send as many again."""
        entry = self._streams.get(stream)
        if entry is None:
            return
        entry.returned += size
        if entry.returned >= _CREDIT_STEP:
            self._out.append(frames.frame(frames.CREDIT, stream, entry.returned.to_bytes(4, "big")))
            entry.returned = 0

    def _push(self, stream: int, entry: _Stream) -> None:
        while entry.pending and entry.window > 0:
            data = entry.pending[0]
            if len(data) <= entry.window:
                entry.pending.pop(0)
                self._body_frames(stream, entry, data, entry.pending_end and not entry.pending)
            else:
                # A view: copying what is left of 50 MB at each credit would take seconds.
                view = memoryview(data)
                now, entry.pending[0] = view[: entry.window], view[entry.window :]
                self._body_frames(stream, entry, now, False)

    def _body_frames(self, stream: int, entry: _Stream, data: bytes | memoryview, end: bool) -> None:
        entry.window -= len(data)
        entry.ended = end
        if len(data) <= frames.CHUNK:
            if data or end:
                self._out.append(frames.frame(frames.BODY_END if end else frames.BODY, stream, data))
            return
        for start in range(0, len(data), frames.CHUNK):
            piece = data[start : start + frames.CHUNK]
            last = end and start + frames.CHUNK >= len(data)
            self._out.append(frames.frame(frames.BODY_END if last else frames.BODY, stream, piece))

    def _credit(self, stream: int, payload: bytes) -> Event | None:
        entry = self._streams.get(stream)
        if entry is None:
            return None
        entry.window += int.from_bytes(payload, "big")
        if not entry.pending:
            return None
        self._push(stream, entry)
        return None if entry.pending else (frames.CREDIT, stream, None)

    def _connection_frame(self, kind: int, payload: bytes) -> Event:
        if kind == frames.CONTROL:
            return (kind, 0, _json_object(payload))
        if kind == frames.PING:
            self._out.append(frames.frame(frames.PONG, 0, payload))
        elif kind not in _CONNECTION_KINDS:
            raise ProtocolError(f"a frame of kind {frames.NAMES.get(kind, kind)} where none may be")
        return (kind, 0, payload)


class GatewaySession(_Session):
    """The gateway's end of one call connection."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 1

    def reserve(self, *, bypass: bool = False) -> int:
        """Ask for a slot; the answer is ACCEPT or BUSY on the stream returned."""
        stream = self._next
        self._next = stream + 1 if stream < 0xFFFF_FFFF else 1
        self._streams[stream] = _Stream("reserved")
        self._out.append(frames.frame(frames.RESERVE, stream, frames.BYPASS if bypass else b""))
        return stream

    def call(self, head: bytes, body: bytes) -> int:
        """A whole call at once: the reservation, the encoded head, and all of its body, which must fit into one frame."""
        stream = self._next
        self._next = stream + 1 if stream < 0xFFFF_FFFF else 1
        entry = self._streams[stream] = _Stream("reserved")
        entry.ended = True
        self._out.append(frames.whole_call(stream, b"", head, body))
        return stream

    def send_head(self, stream: int, head: RequestHead) -> None:
        self.send_encoded_head(stream, head.encode())

    def send_encoded_head(self, stream: int, payload: bytes) -> None:
        """As `send_head`, for callers that must know beforehand whether the head can be carried."""
        self._out.append(frames.frame(frames.HEAD, stream, payload))

    def cancel(self, stream: int) -> None:
        """The caller is gone. The stream lives on until the runner says DONE."""
        entry = self._streams.get(stream)
        if entry is not None:
            entry.pending.clear()
            entry.ended = True
            self._out.append(frames.frame(frames.CANCEL, stream))

    def keep(self, stream: int, attempt: Attempt) -> None:
        """The call of this reservation outlives the connection. Before its head."""
        self._out.append(frames.frame(frames.KEEP, stream, frames.encode_attempt(attempt)))

    def resume(self, attempt: Attempt) -> int:
        """Ask for a kept call; the answer is ACCEPT and its response, or BUSY, on the stream returned."""
        stream = self._next
        self._next = stream + 1 if stream < 0xFFFF_FFFF else 1
        entry = self._streams[stream] = _Stream("reserved")
        entry.ended = True
        self._out.append(frames.frame(frames.RESUME, stream, frames.encode_attempt(attempt)))
        return stream

    def release(self, stream: int) -> None:
        """Give back a reservation that will not be used."""
        if stream in self._streams:
            self._out.append(frames.frame(frames.RELEASE, stream))

    def receive(self, data: bytes) -> list[Event]:
        """Events in order. Raises ProtocolError when the runner broke the rules."""
        return [decoded(event) for event in self.arrived(data)]

    def arrived(self, data: bytes) -> list[Event]:
        """As `receive`, with the payloads of RESPONSE and RESET as they came: see `decoded`."""
        events: list[Event] = []
        for kind, stream, payload in self._reader.feed(data):
            if kind < frames.RESERVE:
                if kind == frames.GOAWAY:
                    self.going_away = True
                    # Whatever was reserved before this answer is answered BUSY or served; nothing comes after it.
                    self._out.append(frames.frame(frames.GOAWAY_OK, 0))
                events.append(self._connection_frame(kind, payload))
                continue
            if kind == frames.CREDIT:
                event = self._credit(stream, payload)
                if event is not None:
                    events.append(event)
                continue
            entry = self._streams.get(stream)
            if entry is None:
                raise ProtocolError(f"{frames.NAMES.get(kind, kind)} on stream {stream}, which is not open")
            state = GATEWAY_STREAM.get((entry.state, kind))
            if state is None:
                raise ProtocolError(f"{frames.NAMES.get(kind, kind)} on a stream that is {entry.state}")
            entry.state = state
            if state == "closed":
                del self._streams[stream]
            events.append((kind, stream, payload))
        return events


def decoded(event: Event) -> Event:
    """An event of `GatewaySession.arrived` with the value that its kind has. Raises ProtocolError when there is no sense in it."""
    kind, stream, payload = event
    if kind == frames.RESPONSE:
        return (kind, stream, ResponseHead.decode(payload))
    if kind == frames.RESET:
        return (kind, stream, _json_object(payload))
    return event


class RunnerSession(_Session):
    """The runner's end of one call connection. Reservations are judged here, against slots shared by all its sessions."""

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self._slots = slots
        self._broken = False
        self.keeps: dict[int, Attempt] = {}
        """Streams that are to be kept and whose HEAD has not come yet. Whoever handles the HEAD takes the entry out."""

    def go_away(self) -> None:
        """Announce that no new call will be taken."""
        if not self.going_away:
            self.going_away = True
            self._out.append(frames.frame(frames.GOAWAY, 0))

    def takes_slot(self, stream: int) -> bool:
        """Whether this call counts against the slots; a cancel call does not."""
        entry = self._streams.get(stream)
        return entry is not None and entry.takes_slot

    @property
    def slots_taken(self) -> int:
        """How many slots this session's calls take."""
        return sum(1 for entry in self._streams.values() if entry.takes_slot)

    def respond(self, stream: int, head: ResponseHead) -> None:
        self.respond_encoded(stream, head.encode())

    def respond_encoded(self, stream: int, payload: bytes) -> None:
        if stream in self._streams:
            self._out.append(frames.frame(frames.RESPONSE, stream, payload))

    def reset(self, stream: int, code: str, detail: str) -> None:
        """The call failed in a way that no HTTP answer can tell any more."""
        entry = self._streams.get(stream)
        if entry is not None and not entry.ended:
            entry.ended = True
            entry.pending.clear()
            self._out.append(frames.frame(frames.RESET, stream, json.dumps({"code": code, "detail": detail}).encode()))

    def done(self, stream: int) -> None:
        """The code of this call has really ended; its slot is free. Must come after the end of the response or a reset."""
        entry = self._streams.pop(stream, None)
        if entry is None:
            return
        if entry.takes_slot:
            self._slots.give()
        if not self._broken:
            self._out.append(frames.frame(frames.DONE, stream))

    def resumed(self, stream: int, *, takes_slot: bool) -> None:
        """The attempt that RESUME asked for goes on here, with the slot that it holds already, if its code has not ended."""
        entry = self._streams[stream]
        entry.takes_slot = takes_slot
        self._out.append(frames.frame(frames.ACCEPT, stream, b"" if takes_slot else frames.BYPASS))

    def not_known(self, stream: int) -> None:
        """RESUME asked for an attempt that is not here."""
        del self._streams[stream]
        self._out.append(frames.frame(frames.BUSY, stream))

    def let_go(self, stream: int) -> bool:
        """The call of this stream goes on without it, or elsewhere. Whether it holds a slot, which stays taken."""
        entry = self._streams[stream]
        takes_slot, entry.takes_slot = entry.takes_slot, False
        if not self._broken:
            self.reset(stream, MOVED, "the call goes on elsewhere")
        self.done(stream)
        return takes_slot

    def broken(self) -> list[int]:
        """The connection is lost: the streams whose callers are gone. Their slots stay taken until `done`."""
        self._broken = True
        return self.open_streams

    def receive(self, data: bytes) -> list[Event]:
        """Events in order. Raises ProtocolError when the gateway broke the rules."""
        return [
            (kind, stream, RequestHead.decode(value)) if kind == frames.HEAD else (kind, stream, value)
            for kind, stream, value in self.arrived(data)
        ]

    def arrived(self, data: bytes) -> list[Event]:
        """As `receive`, with the payload of HEAD as it came, for who reads it in a way of its own."""
        events: list[Event] = []
        for kind, stream, payload in self._reader.feed(data):
            if kind == frames.RESERVE:
                self._reserve(stream, payload)
                continue
            if kind < frames.RESERVE:
                events.append(self._connection_frame(kind, payload))
                continue
            if kind == frames.CREDIT:
                event = self._credit(stream, payload)
                if event is not None:
                    events.append(event)
                continue
            entry = self._streams.get(stream)
            if entry is None and kind == frames.RESUME:
                # Open at once: what follows it in these bytes is meant for it. Its body was sent long ago.
                self._streams[stream] = _Stream("running", takes_slot=False)
                events.append((kind, stream, frames.decode_attempt(payload)))
                continue
            if entry is None:
                # The rest of a call that was refused as BUSY or has ended meanwhile: it was on its way before the gateway knew.
                continue
            state = RUNNER_STREAM.get((entry.state, kind))
            if state is None:
                if kind in (frames.BODY, frames.BODY_END, frames.CANCEL):
                    continue
                raise ProtocolError(f"{frames.NAMES.get(kind, kind)} on a stream that is {entry.state}")
            entry.state = state
            if state == "closed":
                self.done_unused(stream)
                if kind == frames.RELEASE:
                    events.append((kind, stream, None))
                continue
            if kind == frames.KEEP:
                self.keeps[stream] = frames.decode_attempt(payload)
                continue
            events.append((kind, stream, payload))
        return events

    def done_unused(self, stream: int) -> None:
        """A reservation ended before its call came."""
        self.keeps.pop(stream, None)
        self.done(stream)

    def _reserve(self, stream: int, payload: bytes) -> None:
        if stream in self._streams:
            raise ProtocolError(f"stream {stream} is reserved twice")
        bypass = payload == frames.BYPASS
        if not bypass and (self.going_away or not self._slots.take()):
            self._out.append(frames.frame(frames.BUSY, stream))
            return
        self._streams[stream] = _Stream("accepted", takes_slot=not bypass)
        self._out.append(frames.frame(frames.ACCEPT, stream))


def _json_object(payload: bytes) -> dict[str, Any]:
    try:
        value: Any = json.loads(payload)
    except ValueError as error:
        raise ProtocolError("a control body that is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("a control body that is not a JSON object")
    return cast("dict[str, Any]", value)
