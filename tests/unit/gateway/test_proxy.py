from __future__ import annotations

from typing import Any

import pytest

from roost.gateway.proxy import aimed, is_door
from roost.wire.errors import RoostError
from roost.wire.frames import Headers

PUBLIC = "https://roost.example/ai"


def asked(*fields: tuple[bytes, bytes], target: bytes | None = b"https://fal.run/me/app", method: str = "POST") -> dict[str, Any]:
    """A request at the door."""
    named = [(b"x-fal-target-url", target)] if target is not None else []
    return {
        "type": "http",
        "method": method,
        "scheme": "http",
        "root_path": "/below",
        "path": "/api/fal/proxy",
        "raw_path": b"/api/fal/proxy",
        "roost.original_path": b"/api/fal/proxy",
        "query_string": b"ignored=1",
        "headers": [(b"host", b"127.0.0.1:8700"), *named, *fields],
        "client": ("192.0.2.1", 40000),
    }


@pytest.mark.parametrize(
    ("target", "scheme", "host", "path", "query"),
    [
        (b"https://fal.run/me/app/a%2Fb//c?x=1&y=%3F", "https", b"fal.run", b"/me/app/a%2Fb//c", b"x=1&y=%3F"),
        (b"https://queue.fal.run/me/app/requests/1/status?logs=1", "https", b"queue.fal.run", b"/me/app/requests/1/status", b"logs=1"),
        (b"https://rest.fal.ai/tokens/", "https", b"rest.fal.ai", b"/tokens/", b""),
        (b"https://rest.alpha.fal.ai/storage/upload/initiate?t=1", "https", b"rest.alpha.fal.ai", b"/storage/upload/initiate", b"t=1"),
        (b"HTTPS://FAL.RUN/me/app", "https", b"FAL.RUN", b"/me/app", b""),
        (b"https://queue.fal.run:8443/me/app", "https", b"queue.fal.run:8443", b"/me/app", b""),
        (b"http://127.0.0.1:8700/me/app", "http", b"127.0.0.1:8700", b"/me/app", b""),
        (b"http://127.0.0.1:8700/_queue/me/app", "http", b"127.0.0.1:8700", b"/_queue/me/app", b""),
        (b"https://queue.roost.example/me/app", "https", b"queue.roost.example", b"/me/app", b""),
        (b"https://fal.run/me/app?a?b", "https", b"fal.run", b"/me/app", b"a?b"),
    ],
)
def test_a_request_is_served_as_if_it_had_been_dialled_at_its_target(
    target: bytes, scheme: str, host: bytes, path: bytes, query: bytes
) -> None:
    scope = aimed(asked(target=target), PUBLIC)
    assert (scope["scheme"], scope["root_path"], scope["raw_path"], scope["query_string"]) == (scheme, "", path, query)
    assert scope["headers"] == [(b"host", host)]
    assert scope["roost.original_path"] == path and scope["client"] == ("192.0.2.1", 40000)
    assert scope["method"] == "POST"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (b"https://example.com/me/app", "example.com is none of the hosts"),
        (b"https://fal.run.example.com/me/app", "is none of the hosts"),
        (b"https://notfal.run/me/app", "is none of the hosts"),
        (b"https://fal.run./me/app", "is none of the hosts"),
        (b"https://127.0.0.2/me/app", "is none of the hosts"),
        (b"https://169.254.169.254/latest/meta-data", "is none of the hosts"),
        (b"http://[::1]:8700/me/app", "is none of the hosts"),
        (b"https://2130706433/me/app", "is none of the hosts"),
        (b"https://queue.other.example/me/app", "is none of the hosts"),
        (b"https://me:secret@fal.run/me/app", "name or password"),
        (b"https://fal.run@example.com/me/app", "name or password"),
        (b"https://fal.run:secret@example.com/", "name or password"),
        (b"https://fal%2Erun/me/app", "not a name or an address"),
        (b"https://%66al.run/me/app", "not a name or an address"),
        (b"https://fal.run:0/me/app", "not a name or an address"),
        (b"https://fal.run:99999/me/app", "not a name or an address"),
        (b"https://fal.run:/me/app", "not a name or an address"),
        (b"https://fal.run:8a/me/app", "not a name or an address"),
        (b"https:///me/app", "not a name or an address"),
        (b"https://fal.run,queue.fal.run/me/app", "not a name or an address"),
        (b"wss://fal.run/me/app/realtime", "begins with https:// or http://"),
        (b"file:///etc/passwd", "begins with https:// or http://"),
        (b"javascript:alert(1)", "begins with https:// or http://"),
        (b"//fal.run/me/app", "begins with https:// or http://"),
        (b"/me/app", "begins with https:// or http://"),
        (b"fal.run/me/app", "begins with https:// or http://"),
        (b"", "begins with https:// or http://"),
        (b"https:/fal.run/me/app", "begins with https:// or http://"),
        (b"https:\\\\fal.run\\me\\app", "percent-encoded"),
        (b"https://fal.run\\@example.com/", "percent-encoded"),
        (b"https://fal.run/me/app HTTP/1.1", "percent-encoded"),
        (b"https://fal.run/me/app\x00", "percent-encoded"),
        (b"https://fal.run/me/\xc3\xa4pp", "percent-encoded"),
        ("https://fäl.run/me/app".encode("latin-1"), "percent-encoded"),
        (b"https://fal.run/me/app#top", "fragment"),
        (b"https://fal.run/" + b"a" * 9000, "longer than 8 KB"),
        (b"https://api.fal.ai/v1/keys", "nothing else of this server"),
        (b"https://rest.fal.ai/v1/keys", "nothing else of this server"),
        (b"https://rest.fal.ai/applications/me/app/queue", "nothing else of this server"),
        (b"https://rest.fal.ai/%74okens/../v1/keys", "nothing else of this server"),
        (b"https://fal.run/_rest/v1/keys", "nothing else of this server"),
        (b"http://127.0.0.1:8700/v1/keys", "nothing else of this server"),
        (b"http://127.0.0.1:8700/api/fal/proxy", "nothing else of this server"),
        (b"http://127.0.0.1:8700/", "nothing else of this server"),
        (b"https://ws.fal.run/me/app", "nothing else of this server"),
    ],
)
def test_a_target_that_is_not_here_is_refused_with_a_sentence(target: bytes, why: str) -> None:
    with pytest.raises(RoostError) as refused:
        aimed(asked(target=target), PUBLIC)
    assert (refused.value.code, refused.value.status) == ("bad_target", 412)
    assert why in refused.value.detail


def test_a_request_without_a_target_is_told_who_adds_it() -> None:
    with pytest.raises(RoostError) as refused:
        aimed(asked(target=None), PUBLIC)
    assert refused.value.code == "bad_request" and "x-fal-target-url" in refused.value.detail and "proxyUrl" in refused.value.hint


def test_two_targets_are_one_too_many() -> None:
    with pytest.raises(RoostError, match="more than once"):
        aimed(asked((b"x-fal-target-url", b"https://queue.fal.run/me/app")), PUBLIC)


def test_only_what_belongs_to_the_call_is_taken_over() -> None:
    taken: Headers = [
        (b"authorization", b"Key a:b"),
        (b"content-type", b"application/json"),
        (b"content-length", b"2"),
        (b"accept", b"text/event-stream"),
        (b"user-agent", b"client/1"),
        (b"x-fal-queue-priority", b"low"),
        (b"x-app-fal-disable-fallback", b"1"),
        (b"idempotency-key", b"k"),
    ]
    left: Headers = [
        (b"cookie", b"session=1"),
        (b"origin", b"https://page.example"),
        (b"referer", b"https://page.example/a"),
        (b"x-forwarded-host", b"elsewhere"),
        (b"x-forwarded-proto", b"https"),
        (b"forwarded", b"for=1"),
        (b"x-custom", b"1"),
    ]
    scope = aimed(asked(*taken, *left), PUBLIC)
    assert scope["headers"] == [(b"host", b"fal.run"), *taken]


@pytest.mark.parametrize(
    ("path", "expected"), [(b"/api/fal/proxy", True), (b"/api/fal/proxy/", True), (b"/api/fal", False), (b"/api/fal/proxy/x", False)]
)
def test_the_door_is_one_path(path: bytes, expected: bool) -> None:
    assert is_door(path) is expected
