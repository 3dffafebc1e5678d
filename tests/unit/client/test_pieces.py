"""The pure parts: addresses, server-sent events, and when to send again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.client.addresses import AppId, Place
from roost.client.repeating import MOST_ATTEMPTS, Kind, pause_s
from roost.client.sse import Events
from roost.client.steps import Answer, Broken, How, Send


@pytest.mark.parametrize(
    ("text", "app", "path"),
    [
        ("me/hello", "me/hello", ""),
        ("/me/hello/", "me/hello", ""),
        ("me/hello/a/b", "me/hello", "a/b"),
        ("workflows/me/flow/x", "workflows/me/flow", "x"),
        ("hello", "owner/hello", ""),
        ("123-my-app", "123/my-app", ""),
        ("me/hello--staging", "me/hello--staging", ""),
        ("me/hello?fal_max_queue_length=3", "me/hello", "?fal_max_queue_length=3"),
    ],
)
def test_an_apps_id_is_owner_name_and_path(text: str, app: str, path: str) -> None:
    assert AppId.parse(text, "owner") == AppId(app, path)


@pytest.mark.parametrize("text", ["", "/", "me//x", "workflows/me"])
def test_what_names_no_app_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no app"):
        AppId.parse(text)


@pytest.mark.parametrize(("own", "more", "both"), [("", "/a", "a"), ("a", "", "a"), ("a/", "/b", "a/b"), ("", "", "")])
def test_a_path_may_be_part_of_the_id_or_separate(own: str, more: str, both: str) -> None:
    assert AppId("me/x", own).under(more).path == both


def test_a_place_may_have_a_path_and_addresses_are_escaped_once() -> None:
    place, app = Place("https://h/base"), AppId("me/hello", "a b%20c?q=1%2F")
    assert place.direct(app) == "https://h/base/me/hello/a%20b%20c?q=1%2F"
    assert place.submit(app) == "https://h/base/_queue/me/hello/a%20b%20c?q=1%2F"
    assert place.request(app, "x/../y") == "https://h/base/_queue/me/hello/requests/x%2F..%2Fy"


@given(st.lists(st.text("ab \u2028é", max_size=4), max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 7))
def test_events_come_out_whole_however_their_bytes_arrive(texts: list[str], end: str, size: int) -> None:
    wire = "".join(f": ping{end}{end}id: 7{end}" + "".join(f"data: {part}{end}" for part in (text, "x")) + end for text in texts)
    content = wire.encode() + b": "
    events, found = Events(), list[str]()
    for start in range(0, len(content), size):
        found += events.feed(content[start : start + size])
    assert found == [f"{text}\nx" for text in texts]


SEND = Send("POST", "http://h/x")
DEADLINE = Send("POST", "http://h/x", (("x-fal-request-timeout", "5.0"),))
CHOOSY = Send("POST", "http://h/x?fal_max_queue_length=3")
OURS = {"x-fal-request-id": "r"}
BUSY_DISK = Answer(503, {**OURS, "x-fal-error-type": "internal_error", "retry-after": "2"})
STOPPING = Answer(503, {**OURS, "x-fal-error-type": "server_stopping"})


@pytest.mark.parametrize(
    ("kind", "send", "reply", "again"),
    [
        (Kind.DIRECT, SEND, Broken(How.REFUSED, ""), True),
        (Kind.DIRECT, SEND, Broken(How.CUT, ""), False),
        (Kind.DIRECT, SEND, Broken(How.SILENT, ""), False),
        (Kind.DIRECT, SEND, Answer(429, OURS), False),
        (Kind.DIRECT, SEND, Answer(429, {**OURS, "x-fal-needs-retry": "1"}), True),
        (Kind.DIRECT, SEND, Answer(409, OURS), False),
        (Kind.DIRECT, SEND, Answer(502, {}), False),
        (Kind.DIRECT, SEND, Answer(503, OURS), False),
        (Kind.DIRECT, SEND, STOPPING, True),
        (Kind.SUBMIT, SEND, Broken(How.CUT, ""), True),
        (Kind.SUBMIT, SEND, Broken(How.SILENT, ""), True),
        (Kind.SUBMIT, DEADLINE, Broken(How.SILENT, ""), False),
        (Kind.SUBMIT, SEND, Broken(How.WRONG, ""), False),
        (Kind.SUBMIT, SEND, Answer(429, OURS), True),
        (Kind.SUBMIT, CHOOSY, Answer(429, OURS), False),
        (Kind.SUBMIT, SEND, BUSY_DISK, True),
        (Kind.DIRECT, SEND, BUSY_DISK, False),
        (Kind.SUBMIT, SEND, Answer(503, {**OURS, "retry-after": "2"}), False),
        (Kind.SUBMIT, SEND, Answer(422, OURS), False),
        (Kind.SUBMIT, SEND, Answer(502, {}), True),
        (Kind.SUBMIT, SEND, Answer(504, {"x-fal-request-timeout-type": "user"}), False),
        (Kind.ASK, Send("GET", "http://h"), Answer(500, OURS), True),
        (Kind.ASK, Send("PUT", "http://h"), Answer(500, OURS), False),
        (Kind.ASK, Send("GET", "http://h"), Answer(404, OURS), False),
        (Kind.RESULT, Send("GET", "http://h"), Answer(429, OURS), False),
        (Kind.RESULT, Send("GET", "http://h"), Answer(503, OURS), False),
        (Kind.RESULT, Send("GET", "http://h"), Answer(503, {}), True),
        (Kind.RESULT, Send("GET", "http://h"), STOPPING, True),
    ],
)
def test_a_call_is_sent_again_only_if_that_can_do_no_harm(kind: Kind, send: Send, reply: Answer | Broken, again: bool) -> None:
    assert (pause_s(kind, send, reply, 1, 0.5) is not None) is again


def test_pauses_grow_are_spread_and_end() -> None:
    pauses = [pause_s(Kind.ASK, SEND, Broken(How.REFUSED, ""), attempt, 0.5) for attempt in range(1, MOST_ATTEMPTS + 1)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, None]
    assert pause_s(Kind.ASK, SEND, Broken(How.REFUSED, ""), 1, 0.0) == 0.05
    assert pause_s(Kind.ASK, SEND, Broken(How.REFUSED, ""), 1, 1.0) == pytest.approx(0.15)
    assert pause_s(Kind.SUBMIT, SEND, BUSY_DISK, 1, 0.5) == 2.0
