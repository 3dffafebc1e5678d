"""Frames and heads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.wire import frames
from roost.wire.frames import ProtocolError, Reader, RequestHead, ResponseHead

FIELD = st.binary(max_size=20).filter(lambda value: b"\n" not in value)
HEADERS = st.lists(st.tuples(FIELD, FIELD), max_size=5)


@given(FIELD, FIELD, HEADERS)
def test_a_request_head_comes_back_as_it_went(path: bytes, query: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    head = RequestHead("PATCH", path, query, headers)
    assert RequestHead.decode(head.encode()) == head


# What an app may answer with is narrower: it is written to the caller as it is.
SENDABLE = st.lists(
    st.tuples(st.from_regex(rb"[a-z0-9-]{1,20}", fullmatch=True), st.from_regex(rb"[\t\x20-\x7e\x80-\xff]{0,20}", fullmatch=True)),
    max_size=5,
)


@given(st.integers(200, 599), SENDABLE)
def test_a_response_head_comes_back_as_it_went(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    head = ResponseHead(status, headers)
    assert ResponseHead.decode(head.encode()) == head


def test_a_line_feed_in_a_field_is_refused_where_it_is_sent() -> None:
    with pytest.raises(ValueError, match="line feed"):
        ResponseHead(200, [(b"x", b"a\nset-cookie: evil")]).encode()


@pytest.mark.parametrize("field", [(b"x", b"a\rset-cookie: evil"), (b"x", b"a\x00"), (b"x y", b"a"), (b"x:", b"a"), (b"", b"a")])
def test_an_apps_header_that_http_cannot_carry_is_refused_where_it_is_sent(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="header field"):
        ResponseHead(200, [field]).encode()


UNSENDABLE = [
    ResponseHead(100, []),
    ResponseHead(101, [(b"upgrade", b"x")]),
    ResponseHead(199, []),
    ResponseHead(600, []),
    ResponseHead(0, []),
    ResponseHead(200, [(b"content-length", b"1"), (b"content-length", b"1")]),
    *(ResponseHead(200, [(b"content-length", value)]) for value in (b"", b"+1", b"-1", b" 1", b"1_0", b"0x1", b"1, 1", b"9" * 19)),
]


@pytest.mark.parametrize("head", UNSENDABLE, ids=str)
def test_an_answer_that_its_reader_could_take_for_two_is_refused_at_both_ends(head: ResponseHead) -> None:
    with pytest.raises(ValueError):
        head.encode()
    with pytest.raises(ProtocolError):
        ResponseHead.decode(b"\n".join((b"%d" % head.status, *(part for field in head.headers for part in field))))


@pytest.mark.parametrize(
    "payload", [b"", b"200\nname", b"twohundred", b"2" * 5000, b"200\nSet-Cookie\nx", b"200\nx\na\rset-cookie: b", b"200\nx: y\r\nz\na"]
)
def test_an_impossible_response_head_is_a_broken_peer(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        ResponseHead.decode(payload)


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_frames_are_found_however_the_bytes_are_cut(payloads: list[bytes], size: int) -> None:
    data = b"".join(frames.frame(frames.BODY, number, payload) for number, payload in enumerate(payloads))
    reader = Reader()
    found = [each for start in range(0, len(data), size) for each in reader.feed(data[start : start + size])]
    assert found == [(frames.BODY, number, payload) for number, payload in enumerate(payloads)]


def test_a_frame_longer_than_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="larger"):
        Reader().feed((frames.MAX_PAYLOAD + 1).to_bytes(4, "big") + b"\x30\x00\x00\x00\x01")


@pytest.mark.parametrize("named", [[1], [["a"]], [["a", "x"]], None, 7])
def test_attempts_that_are_none_are_a_broken_peer(named: object) -> None:
    assert frames.attempts_of({"op": "kept", "attempts": [["a", 1], ["b", 2]]}) == [("a", 1), ("b", 2)]
    with pytest.raises(ProtocolError):
        frames.attempts_of({"op": "kept", "attempts": named})
