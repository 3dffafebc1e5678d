"""Heads in a runner: what was seen before reads as what is seen for the first time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.runner import heads
from roost.runner.heads import Requests, request_of
from roost.wire.frames import ProtocolError, RequestHead, ResponseHead

ONE, OTHER = b"0f8fad5b-d9cb-469f-a165-70867728950e", b"7c9e6679-7425-40de-944b-e07fc1f90ae7"
# Besides usual fields, what could be mistaken for the id's.
_value = st.sampled_from([b"", b"a", b"x-fal-request-id", b"x-fal-request-id: b", ONE, OTHER, b"0" * 36, "é".encode("latin-1")])
_name = st.sampled_from([b"accept", b"x-fal-request-id", b"x-forwarded-for", b"0" * 36, ONE])


def head(request_id: bytes = ONE, *more: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead("POST", b"/a%20b", b"q=1", [*more, (b"x-fal-request-id", request_id), (b"x-forwarded-for", b"192.0.2.1")])


def test_a_second_request_has_its_own_id_and_nothing_else_changed() -> None:
    requests = Requests()
    first, second = requests.read(head(ONE).encode()), requests.read(head(OTHER).encode())
    assert (first.id, second.id) == (ONE.decode(), OTHER.decode())
    assert second.scope == request_of(head(OTHER)).scope
    assert list(second.scope) == list(request_of(head(OTHER)).scope)


def test_what_an_app_does_to_its_scope_is_not_seen_by_the_next() -> None:
    requests = Requests()
    for _ in range(3):
        scope = requests.read(head().encode()).scope
        assert scope == request_of(head()).scope
        scope["path"] = "/changed"
        scope["headers"].append((b"x", b"y"))
        scope["state"]["a"] = scope["asgi"]["a"] = 1
        scope["more"] = 1


def test_more_requests_than_are_remembered_are_read_all_the_same() -> None:
    requests = Requests()
    for number in range(600):
        one = head(ONE, (b"content-length", b"%d" % number))
        assert requests.read(one.encode()) == request_of(one)


@given(st.lists(st.lists(st.tuples(_name, _value), max_size=5), min_size=2, max_size=6))
def test_every_head_reads_as_if_none_had_been_before(many: list[list[tuple[bytes, bytes]]]) -> None:
    requests = Requests()
    for fields in [*many, *many]:
        one = RequestHead("GET", b"/", b"", fields)
        assert requests.read(one.encode()) == request_of(one)


@pytest.mark.parametrize("payload", [b"", b"GET\n/", b"GET\n/\n\nname"])
def test_what_is_no_head_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        Requests().read(payload)


def test_an_answers_head_is_the_same_each_time_and_names_are_lower_case() -> None:
    fields = [(b"Content-Type", b"text/plain"), [b"X-A", bytearray(b"1")]]
    assert (
        heads.answer(200, fields)
        == heads.answer(200, fields)
        == ResponseHead(200, [(b"content-type", b"text/plain"), (b"x-a", b"1")]).encode()
    )


def test_a_field_that_cannot_be_sent_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="line feed"):
            heads.answer(200, [(b"x-a", b"1\n2")])
