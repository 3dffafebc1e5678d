from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from roost.supervisor.channel import Channel, ChannelBroken


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_messages_arrive_whole_however_they_were_cut(ends: tuple[Channel, socket.socket]) -> None:
    channel, server = ends
    text = b'{"op":"loaded"}\n{"op":"stop","name":"caf\xc3\xa9"}\n'
    seen = []
    for byte in text:
        server.send(bytes([byte]))
        seen += channel.receive()
    server.send(text)
    assert channel.receive() == seen == [{"op": "loaded"}, {"op": "stop", "name": "café"}]
    assert channel.receive() == []


def test_what_does_not_fit_is_sent_when_the_server_reads_again(ends: tuple[Channel, socket.socket]) -> None:
    channel, server = ends
    message = {"text": "x" * 3_000_000}
    channel.send(message)
    assert channel.has_unsent
    received = bytearray()
    while not received.endswith(b"\n"):
        received += server.recv(1 << 16)
        channel.flush()
    assert json.loads(received) == message
    assert not channel.has_unsent


@pytest.mark.parametrize("text", [b"not json\n", b"[1]\n", b"\xff\n"])
def test_what_nobody_can_read_breaks_the_channel(ends: tuple[Channel, socket.socket], text: bytes) -> None:
    channel, server = ends
    server.send(text)
    with pytest.raises(ChannelBroken):
        channel.receive()


def test_last_words_are_read_even_if_somebody_keeps_the_other_end_open(ends: tuple[Channel, socket.socket]) -> None:
    channel, server = ends
    server.send(b'{"op":"serving"}\n{"op":"handed_over"}\n')
    assert channel.last_words() == [{"op": "serving"}, {"op": "handed_over"}]
    assert channel.last_words() == []
    server.close()
    assert channel.last_words() == []


def test_a_closed_end_breaks_the_channel_after_its_last_words(ends: tuple[Channel, socket.socket]) -> None:
    channel, server = ends
    server.send(b'{"op":"handed_over"}\n')
    server.close()
    assert channel.receive() == [{"op": "handed_over"}]
    with pytest.raises(ChannelBroken):
        channel.receive()
    with pytest.raises(ChannelBroken):
        channel.send({"event": "go"})
