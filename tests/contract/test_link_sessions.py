"""Two link sessions wired back to back: whatever the order of calls, sizes and cuts, both ends agree and nothing is lost."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from roost.wire import frames
from roost.wire.frames import RequestHead, ResponseHead
from roost.wire.session import WINDOW, GatewaySession, RunnerSession, Slots


@dataclass
class Ends:
    """A gateway and a runner and the bytes between them, which arrive in pieces of any size."""

    slots: Slots
    dice: random.Random
    gateway: GatewaySession = field(default_factory=GatewaySession)
    seen_by_runner: dict[int, bytearray] = field(default_factory=dict)
    answers: dict[int, bytearray] = field(default_factory=dict)
    over: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runner = RunnerSession(self.slots)
        self.ended: set[int] = set()

    def pump(self) -> None:
        """Carry bytes both ways until nobody has anything to say."""
        while self.gateway.has_output() or self.runner.has_output():
            for data in self._cut(self.gateway.take()):
                for kind, stream, value in self.runner.receive(data):
                    self._at_runner(kind, stream, value)
            for data in self._cut(self.runner.take()):
                for kind, stream, value in self.gateway.receive(data):
                    self._at_gateway(kind, stream, value)

    def _cut(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        while data:
            size = self.dice.randint(1, max(1, min(len(data), 70_000)))
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    def _at_runner(self, kind: int, stream: int, value: object) -> None:
        if kind == frames.HEAD:
            self.seen_by_runner[stream] = bytearray()
        elif kind in (frames.BODY, frames.BODY_END):
            assert isinstance(value, bytes)
            self.seen_by_runner[stream] += value
            self.runner.consumed(stream, len(value))
            if kind == frames.BODY_END:
                self.ended.add(stream)

    def _at_gateway(self, kind: int, stream: int, value: object) -> None:
        if kind in (frames.BODY, frames.BODY_END):
            assert isinstance(value, bytes)
            self.answers.setdefault(stream, bytearray()).extend(value)
            self.gateway.consumed(stream, len(value))
        if kind in (frames.DONE, frames.BUSY):
            self.over[stream] = kind


@given(
    sizes=st.lists(st.tuples(st.integers(0, 3 * WINDOW), st.integers(0, 3 * WINDOW)), min_size=1, max_size=6),
    limit=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_every_call_is_answered_whole_or_refused_as_busy(sizes: list[tuple[int, int]], limit: int, seed: int) -> None:
    dice = random.Random(seed)
    ends = Ends(Slots(limit), dice)
    sent: dict[int, bytes] = {}
    answered: dict[int, bytes] = {}
    for request_size, response_size in sizes:
        stream = ends.gateway.reserve()
        ends.gateway.send_head(stream, RequestHead("POST", b"/x", b"", [(b"a", b"b")]))
        sent[stream] = dice.randbytes(request_size)
        answered[stream] = dice.randbytes(response_size)
        ends.gateway.send_body(stream, sent[stream], end=True)
        if dice.random() < 0.5:
            ends.pump()
        if stream in ends.ended and dice.random() < 0.5:
            _answer(ends, stream, answered[stream])
    ends.pump()
    for stream in list(ends.ended):
        if stream not in ends.over:
            _answer(ends, stream, answered[stream])
    assert set(ends.over) == set(sent)
    assert ends.slots.in_use == 0
    assert not ends.gateway.open_streams and not ends.runner.open_streams
    for stream, how in ends.over.items():
        if how == frames.DONE:
            assert bytes(ends.seen_by_runner[stream]) == sent[stream]
            assert bytes(ends.answers.get(stream, b"")) == answered[stream]
        else:
            assert stream not in ends.answers


def _answer(ends: Ends, stream: int, body: bytes) -> None:
    ends.runner.respond(stream, ResponseHead(200, [(b"content-length", b"%d" % len(body))]))
    ends.runner.send_body(stream, body, end=True)
    while not ends.runner.writable(stream):
        ends.pump()
    ends.runner.done(stream)
    ends.pump()


def test_a_runner_never_has_more_calls_than_slots_over_all_its_gateways() -> None:
    slots = Slots(2)
    first, second = RunnerSession(slots), RunnerSession(slots)
    gateways = (GatewaySession(), GatewaySession())
    kinds: list[int] = []
    for gateway, runner in zip(gateways, (first, second), strict=True):
        gateway.reserve()
        gateway.reserve()
        runner.receive(gateway.take())
        gateway.receive(runner.take())
        kinds += [len(gateway.open_streams)]
    assert slots.in_use == 2
    assert kinds == [2, 0]


def test_after_going_away_every_reservation_is_answered_busy_and_confirmed() -> None:
    ends = Ends(Slots(4), random.Random(1))
    first = ends.gateway.reserve()
    ends.pump()
    ends.runner.go_away()
    late = ends.gateway.reserve()
    ends.pump()
    assert ends.over == {late: frames.BUSY}
    assert ends.gateway.going_away
    ends.gateway.release(first)
    ends.pump()
    assert ends.slots.in_use == 0


def test_a_cancelled_call_keeps_its_slot_until_its_code_has_ended() -> None:
    ends = Ends(Slots(1), random.Random(1))
    stream = ends.gateway.reserve()
    ends.gateway.send_head(stream, RequestHead("POST", b"/", b"", []))
    ends.gateway.send_body(stream, b"{}", end=True)
    ends.pump()
    ends.gateway.cancel(stream)
    ends.pump()
    assert ends.slots.in_use == 1
    ends.runner.reset(stream, "client_disconnected", "gone")
    ends.runner.done(stream)
    ends.pump()
    assert ends.slots.in_use == 0
    assert ends.over == {stream: frames.DONE}


def test_a_lost_connection_keeps_slots_until_the_code_has_ended() -> None:
    ends = Ends(Slots(1), random.Random(1))
    stream = ends.gateway.reserve()
    ends.gateway.send_head(stream, RequestHead("POST", b"/", b"", []))
    ends.pump()
    assert ends.runner.broken() == [stream]
    assert ends.slots.in_use == 1
    ends.runner.done(stream)
    assert ends.slots.in_use == 0
    assert not ends.runner.has_output()


def test_a_slow_reader_holds_up_only_its_own_stream() -> None:
    ends = Ends(Slots(2), random.Random(1))
    slow, quick = ends.gateway.reserve(), ends.gateway.reserve()
    for stream in (slow, quick):
        ends.gateway.send_head(stream, RequestHead("POST", b"/", b"", []))
        ends.gateway.send_body(stream, b"", end=True)
    ends.pump()
    ends.runner.respond(slow, ResponseHead(200, []))
    assert not ends.runner.send_body(slow, bytes(WINDOW * 2))
    ends.runner.respond(quick, ResponseHead(200, []))
    assert ends.runner.send_body(quick, b"here", end=True)
    ends.runner.done(quick)
    data = ends.runner.take()
    kinds = [(kind, stream) for kind, stream, _ in ends.gateway.receive(data)]
    assert (frames.BODY_END, quick) in kinds and (frames.DONE, quick) in kinds
    assert not ends.runner.writable(slow)
