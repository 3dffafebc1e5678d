from __future__ import annotations

import pytest

from roost.core import submits
from roost.core.admission import Refuse
from roost.core.requests import Priority, RequestState
from roost.core.submits import Wishes
from roost.testkit import blank

USUAL = Wishes(Priority.NORMAL, None, "", True, None, "")


def read(headers: dict[str, str], query: dict[str, str] | None = None, default_deadline_ms: int | None = None) -> Wishes | Refuse:
    return submits.read(lambda name: headers.get(name.decode()), query or {}, default_deadline_ms=default_deadline_ms, now_ms=1000)


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, {}, USUAL),
        ({"x-fal-queue-priority": "normal"}, {}, USUAL),
        ({"x-fal-queue-priority": "LOW"}, {}, Wishes(Priority.LOW, None, "", True, None, "")),
        ({"x-fal-request-timeout": "1.5"}, {}, Wishes(Priority.NORMAL, 2500, "", True, None, "")),
        ({"x-fal-runner-hint": "cats"}, {}, Wishes(Priority.NORMAL, None, "cats", True, None, "")),
        ({"x-fal-store-io": "0"}, {}, Wishes(Priority.NORMAL, None, "", False, None, "")),
        ({"x-fal-store-io": "1"}, {}, USUAL),
        ({"idempotency-key": " k1 "}, {}, Wishes(Priority.NORMAL, None, "", True, None, "k1")),
        ({}, {"fal_max_queue_length": "0"}, Wishes(Priority.NORMAL, None, "", True, 0, "")),
        ({}, {"fal_webhook": " https://x.test/a "}, Wishes(Priority.NORMAL, None, "", True, None, "", "https://x.test/a")),
        ({}, {"fal_webhook": ""}, USUAL),
    ],
)
def test_what_a_caller_may_wish(headers: dict[str, str], query: dict[str, str], expected: Wishes) -> None:
    assert read(headers, query) == expected


@pytest.mark.parametrize(
    ("headers", "query", "says"),
    [
        ({"x-fal-queue-priority": "urgent"}, {}, "'urgent'"),
        ({"x-fal-request-timeout": "soon"}, {}, "'soon'"),
        ({"x-fal-request-timeout": "0.1"}, {}, "greater than 0.1"),
        ({"idempotency-key": "k" * 256}, {}, "255"),
        ({}, {"fal_max_queue_length": "-1"}, "'-1'"),
        ({}, {"fal_max_queue_length": "٣"}, "whole number"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(headers: dict[str, str], query: dict[str, str], says: str) -> None:
    refused = read(headers, query)
    assert isinstance(refused, Refuse) and refused.code == "bad_request" and says in refused.detail


@pytest.mark.parametrize(("headers", "deadline_ms"), [({}, 6000), ({"x-fal-request-timeout": "1"}, 2000)])
def test_an_apps_own_start_deadline_holds_where_the_caller_says_nothing(headers: dict[str, str], deadline_ms: int) -> None:
    wishes = read(headers, default_deadline_ms=5000)
    assert isinstance(wishes, Wishes) and wishes.deadline_ms == deadline_ms


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        (b"", b""),
        (b"a=1&b=%20&a=2", b"a=1&b=%20&a=2"),
        (b"fal_max_queue_length=1", b""),
        (b"a=1&fal_jwt_token=x&b", b"a=1&b"),
        (b"fal_other=1", b"fal_other=1"),
    ],
)
def test_an_app_gets_the_query_without_what_the_queue_consumed(query: bytes, passed: bytes) -> None:
    assert submits.without_consumed(query) == passed


def test_a_request_that_is_tried_again_by_hand_keeps_its_webhook() -> None:
    ended = blank.REQUEST._replace(id="r1", state=RequestState.COMPLETED, webhook="https://x.test/a")
    assert submits.again(ended, "r2", 5).webhook == "https://x.test/a"
