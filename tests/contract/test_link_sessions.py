"""Two link sessions wired back to back: whatever the order of calls, sizes and cuts, both ends agree and nothing is lost."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.wire import frames
from roost.wire.frames import ProtocolError, RequestHead, ResponseHead
from roost.wire.session import MOVED, WINDOW, GatewaySession, RunnerSession, Slots


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


# kept calls


@dataclass
class Relay:
    """A runner whose kept call is played to one gateway after another, over connections that break at any byte."""

    dice: random.Random
    slots: Slots
    head: ResponseHead
    body: bytes
    code_ended: bool = False

    def begin(self) -> None:
        """The call, up to its request; then the connection breaks."""
        gateway, runner = GatewaySession(), RunnerSession(self.slots)
        stream = gateway.reserve()
        _across(gateway, runner)
        gateway.keep(stream, ("q", 1))
        gateway.send_head(stream, RequestHead("POST", b"/x", b"", []))
        gateway.send_body(stream, b"{}", end=True)
        _across(gateway, runner)
        assert runner.keeps == {stream: ("q", 1)}
        assert runner.broken() == [stream] and runner.let_go(stream)
        assert not runner.has_output()

    def play(self, limit: int | None) -> bytes | None:
        """Resume on a new connection, which carries `limit` bytes of the answer. What came, if all of it came."""
        gateway, runner = GatewaySession(), RunnerSession(self.slots)
        asked = gateway.resume(("q", 1))
        ((kind, stream, attempt),) = runner.receive(gateway.take())
        assert (kind, stream, attempt) == (frames.RESUME, asked, ("q", 1))
        runner.resumed(stream, takes_slot=not self.code_ended)
        runner.respond(stream, self.head)
        runner.send_body(stream, self.body, end=True)
        found, carried, over = b"", 0, False
        while not over:
            data = runner.take()
            carried += len(data)
            if limit is not None and carried > limit:
                # After DONE there is nothing to let go of: the call is over, and its answer can still be asked for.
                assert runner.broken() == ([] if self.code_ended and stream not in runner.open_streams else [stream])
                for open_stream in runner.open_streams:
                    assert runner.let_go(open_stream) is not self.code_ended
                return None
            for kind, _, value in gateway.receive(data):
                if kind in (frames.BODY, frames.BODY_END):
                    found += value
                    gateway.consumed(stream, len(value))
                over = over or kind == frames.DONE
            runner.receive(gateway.take())
            if runner.writable(stream) and not over:
                runner.done(stream)
                self.code_ended = True
        assert not gateway.open_streams and not runner.open_streams
        return found


def _across(gateway: GatewaySession, runner: RunnerSession) -> None:
    while gateway.has_output() or runner.has_output():
        runner.receive(gateway.take())
        gateway.receive(runner.take())


_SIZES = st.integers(0, 100) | st.integers(0, 3 * WINDOW)
"""Small ones too: with these, connections break at every frame's edge."""


@given(size=_SIZES, breaks=st.lists(_SIZES, max_size=4), seed=st.integers(0, 2**32))
def test_a_kept_call_is_played_whole_however_often_its_connection_breaks(size: int, breaks: list[int], seed: int) -> None:
    dice = random.Random(seed)
    slots = Slots(2)
    relay = Relay(dice, slots, ResponseHead(200, [(b"a", b"b")]), dice.randbytes(size))
    relay.begin()
    for limit in breaks:
        relay.play(limit)
        assert slots.in_use == (0 if relay.code_ended else 1)
    assert relay.play(None) == relay.body
    assert slots.in_use == 0
    assert relay.play(None) == relay.body
    assert slots.in_use == 0


def test_an_attempt_that_is_not_known_is_answered_busy_and_what_follows_it_is_ignored() -> None:
    gateway, runner = GatewaySession(), RunnerSession(Slots(1))
    stream = gateway.resume(("q", 1))
    gateway.cancel(stream)
    assert [kind for kind, _, _ in runner.receive(gateway.take())] == [frames.RESUME, frames.CANCEL]
    runner.not_known(stream)
    assert [(kind, at) for kind, at, _ in gateway.receive(runner.take())] == [(frames.BUSY, stream)]
    assert not gateway.open_streams and not runner.open_streams


def test_a_call_that_moves_leaves_its_old_stream_with_a_reset_that_says_so_and_keeps_its_slot() -> None:
    slots = Slots(1)
    gateway, runner = GatewaySession(), RunnerSession(slots)
    stream = gateway.reserve()
    gateway.send_head(stream, RequestHead("POST", b"/x", b"", []))
    gateway.send_body(stream, b"", end=True)
    _across(gateway, runner)
    runner.respond(stream, ResponseHead(200, []))
    runner.send_body(stream, bytes(2 * WINDOW))
    assert runner.let_go(stream) and slots.in_use == 1
    events = gateway.receive(runner.take())
    assert [kind for kind, _, _ in events if kind != frames.BODY] == [frames.RESPONSE, frames.RESET, frames.DONE]
    assert next(value for kind, _, value in events if kind == frames.RESET)["code"] == MOVED
    assert not gateway.open_streams


@pytest.mark.parametrize("kind", [frames.KEEP, frames.RESUME, frames.RESERVE])
def test_after_its_head_a_call_can_be_neither_kept_nor_opened_again(kind: int) -> None:
    gateway, runner = GatewaySession(), RunnerSession(Slots(2))
    stream = gateway.reserve()
    gateway.send_head(stream, RequestHead("POST", b"/", b"", []))
    runner.receive(gateway.take())
    with pytest.raises(ProtocolError):
        runner.receive(frames.frame(kind, stream, frames.encode_attempt(("q", 1))))


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"request_id": "q"}', b'{"request_id": "q", "attempt": "x"}', b"\xff"])
def test_a_payload_that_names_no_attempt_breaks_the_connection(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="attempt"):
        RunnerSession(Slots(1)).receive(frames.frame(frames.RESUME, 1, payload))


def test_a_kept_reservation_that_is_released_leaves_nothing_behind() -> None:
    slots = Slots(1)
    gateway, runner = GatewaySession(), RunnerSession(slots)
    stream = gateway.reserve()
    gateway.keep(stream, ("q", 1))
    gateway.release(stream)
    assert runner.receive(gateway.take()) == [(frames.RELEASE, stream, None)]
    assert slots.in_use == 0 and runner.keeps == {}
    gateway.receive(runner.take())
    assert not gateway.open_streams
