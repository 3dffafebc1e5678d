from __future__ import annotations

import pytest

from roost.gateway.queue_urls import About, Submit, Verb, read
from roost.web.addresses import base_url, request_url
from roost.wire.errors import RoostError
from roost.wire.frames import Headers

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("path", "app"),
    [
        ("/me/app", ("me", "app")),
        ("/me/app/predict/fast", ("me", "app")),
        ("/me/app--staging", ("me", "app--staging")),
        ("/workflows/me/app", ("workflows/me", "app")),
        ("/workflows/me/app/predict", ("workflows/me", "app")),
        ("/comfy/me/app", ("comfy/me", "app")),
        ("/123-some-app", ("123", "some-app")),
        ("/123-some-app/predict", ("123", "some-app")),
        ("/m%65/app", ("me", "app")),
        ("/me/requests", ("me", "requests")),
    ],
)
@pytest.mark.parametrize(
    ("method", "tail", "verb"),
    [
        ("GET", f"/requests/{ID}", Verb.RESULT),
        ("GET", f"/requests/{ID}/", Verb.RESULT),
        ("HEAD", f"/requests/{ID}", Verb.RESULT),
        ("GET", f"/requests/{ID}/response", Verb.RESULT),
        ("GET", f"/requests/{ID}/status", Verb.STATUS),
        ("GET", f"/requests/{ID}/status/", Verb.STATUS),
        ("GET", f"//requests/{ID}//status//", Verb.STATUS),
        ("GET", f"/requests/{ID}/status/stream", Verb.STREAM),
        ("GET", f"/requests/{ID}/status/stream/", Verb.STREAM),
        ("PUT", f"/requests/{ID}/cancel", Verb.CANCEL),
        ("PUT", f"/requests/{ID}/cancel/", Verb.CANCEL),
    ],
)
def test_every_form_of_an_address_names_the_request_and_its_app(
    path: str, app: tuple[str, str], method: str, tail: str, verb: Verb
) -> None:
    found = read(method, (path + tail).encode())
    assert isinstance(found, About)
    assert (found.request_id, found.verb) == (ID, verb) and app in found.apps


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/me/app"),
        ("POST", "/me/app/"),
        ("GET", "/me/app/predict"),
        ("PUT", "/me/app/requests"),
        ("POST", "/me/app/requests/summary"),
        ("DELETE", "/me/app/requests/summary/status"),
        ("GET", "/me/requests/word"),
        ("GET", f"/requests/{ID}"),
        ("GET", f"/me/app/requests/{ID}/status/other"),
        ("POST", "/123-some-app"),
    ],
)
def test_everything_else_is_a_submit(method: str, path: str) -> None:
    assert read(method, path.encode()) == Submit(path.encode())


def test_an_id_that_is_none_of_ours_is_still_asked_for() -> None:
    found = read("GET", b"/me/app/requests/unknown/status")
    assert found == About((("me", "app"),), "unknown", Verb.STATUS)


@pytest.mark.parametrize(
    ("method", "tail", "allowed"), [("POST", "", b"GET, HEAD"), ("POST", "/cancel", b"PUT"), ("DELETE", "/status", b"GET, HEAD")]
)
def test_a_request_is_not_submitted_to_by_mistake(method: str, tail: str, allowed: bytes) -> None:
    with pytest.raises(RoostError) as refused:
        read(method, f"/me/app/requests/{ID}{tail}".encode())
    assert refused.value.status == 405 and refused.value.headers == ((b"allow", allowed),)


@pytest.mark.parametrize(
    ("dialled", "root_path", "prefix", "public", "expected"),
    [
        ("http://queue.x.test:8443", "", "", "", "http://queue.x.test:8443"),
        ("https://queue.x.test", "", "", "", "https://queue.x.test"),
        ("http://x.test:8700", "", "/_queue", "", "http://x.test:8700/_queue"),
        ("http://[::1]:8700", "", "/_queue", "", "http://[::1]:8700/_queue"),
        ("http://x.test", "", "/_queue", "https://x.test/roost/", "https://x.test/roost/_queue"),
        ("http://x.test", "/other", "/_queue", "https://x.test/roost", "https://x.test/roost/_queue"),
        ("http://x.test", "/roost", "/_queue", "https://x.test", "https://x.test/roost/_queue"),
        ("https://x.test", "/roost", "/_queue", "", "https://x.test/roost/_queue"),
        ("https://queue.x.test", "/roost", "", "", "https://queue.x.test/roost"),
        ("http://queue.x.test", "", "", "https://x.test", "https://queue.x.test"),
        ("https://127.0.0.1:8700", "", "/_queue", "http://127.0.0.1:8700", "https://127.0.0.1:8700/_queue"),
        ("http://10.0.0.1:8700", "", "/_queue", "https://x.test", "http://10.0.0.1:8700/_queue"),
        ('http://x"},{', "", "/_queue", "http://x.test:8700", "http://x.test:8700/_queue"),
        ("http://", "", "/_queue", "http://x.test:8700", "http://x.test:8700/_queue"),
    ],
)
def test_urls_begin_with_what_the_caller_dialled(dialled: str, root_path: str, prefix: str, public: str, expected: str) -> None:
    scheme, _, host = dialled.partition("://")
    fields: Headers = [(b"host", host.encode())] if host else []
    assert base_url(scheme, fields, root_path, prefix, public) == expected


def test_the_urls_that_we_give_have_no_sub_path() -> None:
    assert request_url("http://x/_queue", "workflows/me", "app--staging", ID) == f"http://x/_queue/workflows/me/app--staging/requests/{ID}"
