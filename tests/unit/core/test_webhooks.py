from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core import webhooks
from roost.core.requests import Content, Output, RequestState
from roost.core.webhooks import (
    Answered,
    Delivered,
    Forbidden,
    GiveUp,
    Outcome,
    RetryAt,
    Unanswered,
    Webhook,
    WebhookState,
    is_trouble,
    next_try,
    pause_ms,
    payload,
    receiver_of,
)
from roost.testkit import blank

PENDING = Webhook(7, "r1", "r1-1", "me", "app", "main", "me", "https://x.test/", WebhookState.PENDING, 0, 1_000, 3_601_000, 1_000)
ENDED = blank.REQUEST._replace(id="r1", gateway_request_id="r1-2", state=RequestState.COMPLETED, status=200)


def tried(times: int) -> Webhook:
    return replace(PENDING, tries=times)


# --- what follows a try


@pytest.mark.parametrize(
    ("outcome", "step"),
    [
        (Answered(200), Delivered("answered 200")),
        (Answered(204), Delivered("answered 204")),
        (Answered(302), GiveUp("answered 302: redirects are not followed")),
        (Answered(410), GiveUp("answered 410: the receiver wants no more of it")),
        (Forbidden("x is a private address"), GiveUp("x is a private address")),
        (Answered(404), RetryAt(4_000, "answered 404")),
        (Answered(500), RetryAt(4_000, "answered 500")),
        (Unanswered("no answer within 15 s"), RetryAt(4_000, "no answer within 15 s")),
    ],
    ids=str,
)
def test_what_follows_the_first_try(outcome: Outcome, step: object) -> None:
    assert next_try(PENDING, outcome, 2_000, 0.5) == step


def test_pauses_grow_by_half_to_five_minutes_a_quarter_more_or_less() -> None:
    assert [pause_ms(n, 0.5) for n in range(5)] == [2_000, 3_000, 4_500, 6_750, 10_125]
    assert [pause_ms(0, jitter) for jitter in (0.0, 1.0)] == [1_500, 2_500]
    assert pause_ms(13, 0.5) == pause_ms(31, 0.5) == 300_000


def test_there_are_31_retries_and_no_more() -> None:
    assert isinstance(next_try(tried(30), Answered(500), 2_000, 0.5), RetryAt)
    assert next_try(tried(31), Answered(500), 2_000, 0.5) == GiveUp("answered 500; that was the last of 32 tries")


def test_none_is_planned_for_after_its_time() -> None:
    assert next_try(PENDING, Answered(500), PENDING.until_ms - 2_000, 0.5) == RetryAt(PENDING.until_ms, "answered 500")
    assert next_try(PENDING, Answered(500), PENDING.until_ms - 1_999, 0.5) == GiveUp("answered 500; its time is over, after 1 try")


def test_a_success_counts_whenever_it_comes() -> None:
    assert next_try(tried(31), Answered(200), PENDING.until_ms + 10**9, 0.5) == Delivered("answered 200")


def test_the_first_try_has_15_seconds_and_the_others_two_minutes() -> None:
    assert [webhooks.limit_ms(tried(n)) for n in (0, 1, 30)] == [15_000, 120_000, 120_000]


@pytest.mark.parametrize(
    ("outcome", "trouble"),
    [(Answered(200), False), (Answered(500), False), (Answered(404), False), (Answered(301), False), (Forbidden("x"), False)]
    + [(Answered(status), True) for status in (429, 502, 503, 504)]
    + [(Unanswered("x"), True)],
    ids=str,
)
def test_whether_a_receiver_as_a_whole_is_in_trouble(outcome: Outcome, trouble: bool) -> None:
    assert is_trouble(outcome) is trouble


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("https://x.test/a", "x.test:443"),
        ("http://x.test", "x.test:80"),
        ("http://x.test:8080/a:1", "x.test:8080"),
        ("https://[2001:db8::1]/", "2001:db8::1:443"),
        ("https://x.test:99999/", "https://x.test:99999/"),
        ("", ""),
    ],
)
def test_a_receiver_is_a_host_and_a_port(url: str, receiver: str) -> None:
    assert receiver_of(url) == receiver


# --- what is sent


def answer(status: int, body: bytes = b"{}", *headers: tuple[bytes, bytes]) -> Output:
    return Output(status, headers, Content(len(body), body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(value=JSON, status=st.sampled_from([200, 201, 400, 422, 500]), space=st.sampled_from(["", " ", "\n"]))
def test_the_payload_is_what_the_app_wrote(value: Any, status: int, space: str) -> None:
    body = (space + json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass").decode("utf-8", "replace") + space).encode()
    sent = payload(ENDED, answer(status), body)
    assert body in sent
    said = json.loads(sent)
    assert said["payload"] == json.loads(body)
    assert (said["request_id"], said["gateway_request_id"]) == ("r1", "r1-2")
    if status == 200:
        assert list(said) == ["request_id", "gateway_request_id", "status", "payload"] and said["status"] == "OK"
    else:
        assert said["status"] == "ERROR" and said["error"] == f"Invalid status code: {status}"


def test_without_a_usable_body_it_says_why() -> None:
    said = json.loads(payload(ENDED, answer(200), None, 'a "reason"'))
    assert (said["status"], said["payload"], said["payload_error"]) == ("OK", None, 'a "reason"')


def test_an_error_of_ours_is_told_in_its_own_words() -> None:
    failed = ENDED._replace(status=503, error='the runner "left"', error_type="runner_disconnected")
    assert json.loads(payload(failed, None, None)) == {
        "request_id": "r1",
        "gateway_request_id": "r1-2",
        "status": "ERROR",
        "error": 'the runner "left"',
        "payload": {"detail": 'the runner "left"', "error_type": "runner_disconnected"},
    }


@pytest.mark.parametrize(
    ("headers", "says"),
    [((), "not given"), (((b"Content-Type", b"image/png"),), "image/png"), (((b"content-encoding", b"gzip"),), "encoded as gzip")],
)
def test_what_is_no_json_is_named(headers: tuple[tuple[bytes, bytes], ...], says: str) -> None:
    problem = webhooks.no_json(answer(200, b"x", *headers))
    assert problem.startswith("Response payload is not JSON serializable.") and says in problem


def test_ten_megabytes_are_sent_and_a_byte_more_is_not() -> None:
    assert not webhooks.too_large(10 * 1024 * 1024)
    assert "10485761 bytes" in webhooks.too_large(10 * 1024 * 1024 + 1)
