"""The direct path: what a caller may send, what the app sees of it, what comes back, and who may call."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.smuggling import CASES
from tests.system.conftest import APPS
from tests.system.roosts import Roost, running, until

MB = 1024 * 1024
LIMIT = 60 * MB
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def roost(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Roost]:
    with running(tmp_path_factory.mktemp("direct"), cache, ROOST_MAX_BODY_BYTES=str(LIMIT), ROOST_REGION="moon") as one:
        for name in ("Mirror", "Closed", "Four"):
            one.cli("deploy", f"{APPS / 'mirror.py'}::{name}", "--json")
        yield one


@pytest.fixture(scope="module")
def http(roost: Roost) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=roost.url, timeout=60, limits=httpx.Limits(max_connections=None)) as client:
        yield client


@pytest.fixture(scope="module")
def owner(roost: Roost) -> str:
    return roost.owner


def raw(roost: Roost, data: bytes, *, wait_s: float = 10) -> bytes:
    """Send bytes, read until the server closes or says nothing for a while."""
    host, _, port = roost.address.rpartition(":")
    with socket.create_connection((host, int(port)), wait_s) as sock:
        sock.sendall(data)
        sock.settimeout(wait_s)
        got = b""
        try:
            while part := sock.recv(65536):
                got += part
                head, ended, body = got.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                if ended and length and len(body) >= int(length[1]):
                    break
        except OSError:
            pass
        return got


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *lines, "", ""]).encode("latin-1")


def error(answer: httpx.Response, status: int, kind: str) -> str:
    """Checks the form of one of our errors and gives its text."""
    body = answer.json()
    assert (answer.status_code, body["error_type"], answer.headers["x-fal-error-type"]) == (status, kind, kind), body
    assert UUID.fullmatch(answer.headers["x-fal-request-id"])
    return body["detail"]


# --- who may call


def test_a_private_app_takes_every_key_of_its_owner_and_nothing_else(roost: Roost, http: httpx.Client, owner: str) -> None:
    url = f"/{owner}/closed"
    made = {scope: json.loads(roost.cli("keys", "create", "--scope", scope, "--json").stdout) for scope in ("ADMIN", "API")}
    for scope, key in made.items():
        assert http.post(url, json={}, headers={"Authorization": f"Key {key['key']}"}).status_code == 200, scope
    assert http.post(url, json={}, headers={"authorization": f"Bearer {made['API']['key']}"}).status_code == 200
    text = error(http.post(url, json={}), 401, "unauthorized")
    assert text == f'Cannot access application "{owner}/closed": authentication is required: no Authorization header was sent'
    key_id, _, secret = made["API"]["key"].partition(":")
    for wrong in (
        f"Key {key_id}:{secret}x",
        f"Key {key_id}",
        "Key nobody:nothing",
        f"Basic {key_id}:{secret}",
        "",
        "Key :",
        f"Key {key_id}:{secret} x",
    ):
        text = error(http.post(url, json={}, headers={"Authorization": wrong}), 401, "unauthorized")
        assert text == f'Cannot access application "{owner}/closed": invalid key credentials', wrong
    roost.cli("keys", "revoke", key_id)
    assert http.post(url, json={}, headers={"Authorization": f"Key {key_id}:{secret}"}).status_code == 401


def test_a_public_app_takes_everybody_and_says_who_it_was(roost: Roost, http: httpx.Client, owner: str) -> None:
    for headers, caller in (({}, "anonymous"), ({"Authorization": "Key strange:key"}, "anonymous"), (roost.auth, owner)):
        answer = http.post(f"/{owner}/mirror", json={}, headers=headers)
        assert answer.status_code == 200
        assert dict(answer.json()["headers"])["x-fal-caller-user-id"] == caller


def test_an_app_that_is_not_there(http: httpx.Client, owner: str) -> None:
    assert error(http.post(f"/{owner}/nothing/path", json={}), 404, "not_found") == f'Application "{owner}/nothing" not found'
    assert error(http.post("/nobody/mirror", json={}), 404, "not_found") == 'Application "nobody/mirror" not found'
    assert error(http.get("/nobody"), 404, "not_found") == 'Application "nobody" not found'


# --- addresses and methods


@pytest.mark.parametrize(
    ("path", "raw_path", "query"),
    [
        ("/any", "/any", ""),
        ("/any/", "/any/", ""),
        ("/any//two///three", "/any//two///three", ""),
        ("/any/a%2Fb%20c", "/any/a%2Fb%20c", ""),
        ("/any/../x", "/any/../x", ""),
        ("/any/%C3%A9%E2%82%AC", "/any/%C3%A9%E2%82%AC", ""),
        ("/any/x?a=1&a=2&b=%20%26&c", "/any/x", "a=1&a=2&b=%20%26&c"),
        ("/any?", "/any", ""),
        ("/any/x??y=?", "/any/x", "?y=?"),
    ],
)
def test_a_path_arrives_as_it_was_sent(roost: Roost, owner: str, path: str, raw_path: str, query: str) -> None:
    got = raw(roost, head("POST", f"/{owner}/mirror{path}", "content-length: 0"))
    shown = json.loads(got.partition(b"\r\n\r\n")[2])
    assert (shown["raw_path"], shown["query"]) == (raw_path, query)


@pytest.mark.parametrize("form", ["/{o}/mirror", "/{o}/mirror/", "/_run/{o}/mirror", "/_run/{o}/mirror/", "/%{x}/mirror"])
def test_every_form_of_an_address_reaches_the_root(http: httpx.Client, owner: str, form: str) -> None:
    path = form.format(o=owner, x=f"{ord(owner[0]):02x}{owner[1:]}")
    answer = http.post(path, json={})
    assert (answer.status_code, answer.json()["raw_path"]) == (200, "/")


def test_roles_are_told_by_the_host_or_a_prefix(http: httpx.Client, owner: str) -> None:
    assert http.get("/health", headers={"Host": "api.example.org"}).json()["status"] == "ok"
    assert http.post(f"/{owner}/mirror", json={}, headers={"Host": "run.example.org"}).status_code == 200
    for where in ({"url": f"/{owner}/mirror", "headers": {"Host": "queue.example.org"}}, {"url": f"/_queue/{owner}/mirror"}):
        submitted = http.post(json={}, **where)  # type: ignore[arg-type]
        assert submitted.status_code == 200 and submitted.json()["status"] in ("IN_QUEUE", "IN_PROGRESS"), submitted.text
    for reserved in ("/v1/mirror", "/dashboard/mirror", "/tokens/mirror", "/", "//mirror"):
        assert http.post(reserved, json={}).status_code in (401, 404), reserved


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "POST"])
def test_methods_arrive_as_they_are(http: httpx.Client, owner: str, method: str) -> None:
    answer = http.request(method, f"/{owner}/mirror/any", content=b"" if method in ("GET", "HEAD", "OPTIONS") else b"body")
    assert answer.status_code == 200
    if method == "HEAD":
        assert answer.content == b"" and int(answer.headers["content-length"]) > 0
    else:
        assert answer.json()["method"] == method


def test_a_browser_may_ask_before_it_calls(http: httpx.Client, owner: str) -> None:
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = http.options(f"/{owner}/closed", headers=asked)
    assert answer.status_code == 204 and answer.headers["access-control-allow-origin"] == "*" and answer.headers["x-fal-request-id"]
    refused = http.post(f"/{owner}/closed", json={}, headers={"Origin": "https://page.example"})
    assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == "*"


def test_endpoints_take_post_only(http: httpx.Client, owner: str) -> None:
    answer = http.get(f"/{owner}/mirror/size")
    assert answer.status_code == 405 and UUID.fullmatch(answer.headers["x-fal-request-id"])


# --- headers


def test_what_the_app_sees_of_a_request(roost: Roost, http: httpx.Client, owner: str) -> None:
    sent = {
        **roost.auth,
        "X-Custom": "kept",
        "X-App-Fal-Thing": "kept too",
        "X-Fal-Request-Id": "forged",
        "X-Fal-Caller-User-Id": "forged",
        "X-Fal-Endpoint": "forged",
        "X-Fal-Anything": "forged",
        "X-Fal-No-Retry": "1",
        "X-Fal-Store-IO": "0",
        "X-Fal-Request-Timeout": "30",
        "X-Forwarded-For": "6.6.6.6",
        "X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds": 60}',
    }
    answer = http.post(f"/{owner}/closed/any/x", json={"a": 1}, headers=sent)
    shown = answer.json()
    seen: dict[str, list[str]] = {}
    for name, value in shown["headers"]:
        seen.setdefault(name, []).append(value)
    request_id = answer.headers["x-fal-request-id"]
    assert UUID.fullmatch(request_id)
    assert {name: values for name, values in seen.items() if name.startswith("x-")} == {
        "x-custom": ["kept"],
        "x-app-fal-thing": ["kept too"],
        "x-fal-request-id": [request_id],
        "x-fal-caller-user-id": [owner],
        "x-fal-endpoint": [f"{owner}/closed/any/x"],
        "x-fal-object-lifecycle-preference": ['{"expiration_duration_seconds": 60}'],
        "x-forwarded-for": ["6.6.6.6, 127.0.0.1"],  # this machine is a trusted proxy unless told otherwise
        "x-forwarded-proto": ["http"],
    }
    assert "authorization" not in seen and "connection" not in seen
    assert shown["current"] == {
        "request_id": request_id,
        "endpoint": f"{owner}/closed/any/x",
        "lifecycle_preference": {"expiration_duration_seconds": 60},
        "upload_policy": None,
    }
    assert dict(http.post(f"/{owner}/mirror", json={}).json()["headers"])["x-fal-object-lifecycle-preference"] == "{}"


def test_a_key_of_ours_reaches_no_app_but_an_apps_own_token_does(roost: Roost, http: httpx.Client, owner: str) -> None:
    seen = {}
    for value in (f"Key {roost.key}", f"Bearer {roost.key}", "Bearer the-app-knows", "Key strange:key"):
        headers = dict(http.post(f"/{owner}/mirror", json={}, headers={"Authorization": value}).json()["headers"])
        seen[value] = headers.get("authorization")
    assert list(seen.values()) == [None, None, "Bearer the-app-knows", None]


def test_what_the_caller_sees_of_an_answer(http: httpx.Client, owner: str) -> None:
    wish = {
        "status": 201,
        "body": "made",
        "headers": [
            ["x-custom", "kept"],
            ["set-cookie", "a=1"],
            ["set-cookie", "b=2"],
            ["x-fal-billable-units", "3"],
            ["x-fal-stop-runner", "0"],
            ["x-fal-runner-health-check", "false"],
            ["x-fal-needs-retry", "1"],
            ["x-fal-request-id", "forged"],
            ["x-fal-served-from", "forged"],
            ["keep-alive", "timeout=9"],
        ],
    }
    answer = http.post(f"/{owner}/mirror/answer", json=wish)
    assert (answer.status_code, answer.text) == (201, "made")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert (answer.headers["x-custom"], answer.headers["x-fal-billable-units"]) == ("kept", "3")
    for name in ("x-fal-stop-runner", "x-fal-runner-health-check", "x-fal-needs-retry", "keep-alive"):
        assert name not in answer.headers
    assert UUID.fullmatch(answer.headers["x-fal-request-id"]) and "forged" not in answer.headers["x-fal-served-from"]
    kept = http.post(f"/{owner}/mirror/answer", json={"status": 429, "headers": [["x-fal-needs-retry", "1"]]})
    assert (kept.status_code, kept.headers["x-fal-needs-retry"]) == (429, "1")
    moved = http.post(f"/{owner}/mirror/answer", json={"status": 302, "headers": [["location", "/elsewhere"]]})
    assert (moved.status_code, moved.headers["location"]) == (302, "/elsewhere")


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "a\x00b"])
def test_an_app_cannot_be_made_to_split_an_answer(http: httpx.Client, owner: str, value: str) -> None:
    answer = http.post(f"/{owner}/mirror/answer", json={"headers": [["x-reflected", value]]})
    assert error(answer, 500, "runner_server_error")
    assert "x-evil" not in answer.headers
    assert http.post(f"/{owner}/mirror", json={}).status_code == 200


def test_an_answers_head_is_limited(http: httpx.Client, owner: str) -> None:
    assert http.post(f"/{owner}/mirror/answer", json={"headers": [["x-large", "v" * 15 * 1024]]}).status_code == 200
    error(http.post(f"/{owner}/mirror/answer", json={"headers": [["x-large", "v" * 16 * 1024]]}), 502, "response_headers_too_large")


def test_a_requests_head_is_limited(roost: Roost, owner: str) -> None:
    for request in (head("POST", f"/{owner}/mirror", f"x-large: {'v' * 17 * 1024}"), head("POST", f"/{owner}/mirror/{'p' * 9000}")):
        got = raw(roost, request)
        assert got.startswith(b"HTTP/1.1 431 ")
        assert UUID.search(got.decode()) and b"x-fal-request-id: " in got and b'"error_type": "headers_too_large"' in got


@pytest.mark.parametrize(
    "request_",
    [
        head("POST", "/o/a", "content-length: 4", "transfer-encoding: chunked") + b"0\r\n\r\n",
        head("POST", "/o/a", "transfer-encoding: chunked", "content-length: 4") + b"0\r\n\r\n",
        head("POST", "/o/a", "content-length: 4", "content-length: 5") + b"abcde",
        head("POST", "/o/a", "content-length: -4"),
        head("POST", "/o/a", "content-length: four"),
        head("POST", "/o/a", "x y: 1"),
        head("POST", "/o/a", "transfer-encoding: identity, chunked, x"),
        b"nonsense\r\n\r\n",
        b"POST /o/a b HTTP/1.1\r\nhost: x\r\n\r\n",
        head("POST", "http://[/", "content-length: 0"),
    ],
    ids=["cl+te", "te+cl", "two lengths", "negative", "no number", "space in name", "te", "nonsense", "spaces", "address"],
)
def test_what_is_not_http_is_refused_with_an_id(roost: Roost, request_: bytes) -> None:
    got = raw(roost, request_)
    assert got.startswith(b"HTTP/1.1 400 "), got
    assert b"x-fal-request-id: " in got and b'"error_type": "bad_request"' in got and b"connection: close" in got


def test_a_request_is_read_in_one_way_or_refused(roost: Roost, owner: str) -> None:
    """What an app is given of each: tests/sim/test_smuggling.py."""
    for case in CASES:
        got = raw(roost, case.sent.replace(b"/me/app", f"/{owner}/mirror".encode()), wait_s=3)
        first = got.split(b" ")[1]
        # The address has another length here, so a request inside a body may be cut.
        assert first in ((b"400", b"431") if case.refused and not case.got else (b"200", b"404", b"405")), (case.what, got)


def test_an_answer_without_a_body_ends_at_its_head(roost: Roost, owner: str) -> None:
    """Behind a proxy that shares our connections, what follows would be the answer to somebody else's request (faults.md S-28)."""
    body = json.dumps({"status": 204, "body": "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"})
    ask = head("POST", f"/{owner}/mirror/answer", "content-type: application/json", f"content-length: {len(body)}") + body.encode()
    got = raw(roost, ask + head("GET", "/health", "connection: close"))
    answers = re.findall(rb"HTTP/1\.1 (\d+)", got)
    assert answers == [b"204", b"200"] and b"content-length" not in got.partition(b"\r\n\r\n")[0] and b'"status":"ok"' in got


@pytest.mark.parametrize("wish", [{"status": 101}, {"status": 199}, {"status": 600}, {"headers": [["content-length", "5"]]}])
def test_an_answer_that_is_none_or_two_is_an_error_of_the_app(http: httpx.Client, owner: str, wish: dict[str, Any]) -> None:
    assert error(http.post(f"/{owner}/mirror/answer", json=wish), 500, "runner_server_error")
    assert http.post(f"/{owner}/mirror", json={}).status_code == 200


# --- bodies


def test_any_content_type_passes_both_ways(http: httpx.Client, owner: str) -> None:
    for kind, body in (
        ("application/json", b'{"a":1}'),
        ("image/png", bytes(range(256))),
        ("text/html; charset=utf-8", b"<p>"),
        ("x/y", b"\0"),
    ):
        answer = http.post(f"/{owner}/mirror/echo", content=body, headers={"Content-Type": kind})
        assert (answer.content, answer.headers["content-type"]) == (body, kind)
    file = bytes(range(256)) * 8192
    answer = http.post(f"/{owner}/mirror/upload", files={"file": ("pic.bin", file, "image/x")})
    assert answer.json() == {"name": "pic.bin", "type": "image/x", "size": len(file)}


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_bodies_up_to_the_limit_arrive_whole(http: httpx.Client, owner: str, size: int) -> None:
    assert http.post(f"/{owner}/mirror/size", content=bytes(size)).json() == {"size": size}


def test_50_mb_there_and_back_are_equal_to_the_byte(http: httpx.Client, owner: str) -> None:
    body = os.urandom(50 * MB)
    began = time.perf_counter()
    answer = http.post(f"/{owner}/mirror/echo", content=body)
    print(f"\n50 MB there and back: {time.perf_counter() - began:.2f} s")
    assert answer.status_code == 200 and answer.content == body


def test_a_body_beyond_the_limit_is_refused_before_it_has_been_read(roost: Roost, owner: str) -> None:
    path = f"/{owner}/mirror/size"
    for lines in ((f"content-length: {LIMIT + 1}",), (f"content-length: {LIMIT + 1}", "expect: 100-continue")):
        got = raw(roost, head("POST", path, *lines))
        assert got.startswith(b"HTTP/1.1 413 ") and b'"error_type": "payload_too_large"' in got and b"x-fal-request-id" in got
        assert b"100 Continue" not in got
    piece = b"%x\r\n%s\r\n" % (MB, bytes(MB))
    got = raw(roost, head("POST", path, "transfer-encoding: chunked") + piece * (LIMIT // MB) + b"1\r\nx\r\n")
    assert got.startswith(b"HTTP/1.1 413 "), got[:200]


def test_who_waits_for_100_continue_gets_it(roost: Roost, owner: str) -> None:
    host, _, port = roost.address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.sendall(head("POST", f"/{owner}/mirror/size", "content-length: 3", "expect: 100-continue"))
        assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(b"abc")
        assert b'{"size":3}' in sock.recv(65536)


def test_a_stream_passes_as_it_is_produced(http: httpx.Client, owner: str) -> None:
    began = time.perf_counter()
    came: list[float] = []
    with http.stream("POST", f"/{owner}/mirror/ticks", json={"ms": 300}) as answer:
        text = ""
        for chunk in answer.iter_text():
            text += chunk
            came.append(time.perf_counter() - began)
    assert text == "".join(f"tick {n}\n" for n in range(5))
    assert came[0] < 0.8 and came[-1] > 1.2, came


def test_a_reader_that_does_not_read_costs_no_memory_and_stops_nobody(roost: Roost, http: httpx.Client, owner: str) -> None:
    def memory_mb() -> float:
        return sum(pss_kb(pid) for pid, command in roost.tree().items() if "roost.server" in command or "start.py" in command) / 1024

    before = memory_mb()
    host, _, port = roost.address.rpartition(":")
    readers = [socket.create_connection((host, int(port)), 10) for _ in range(8)]
    try:
        for sock in readers:
            sock.sendall(head("POST", f"/{owner}/mirror/flood", "content-length: 0"))
        for sock in readers:
            assert sock.recv(100)
        worst = 0.0
        for _ in range(40):
            began = time.perf_counter()
            assert http.post(f"/{owner}/mirror/size", content=b"x").json() == {"size": 1}
            worst = max(worst, time.perf_counter() - began)
        grown = memory_mb() - before
        print(f"\n8 readers that do not read 200 MB each: {grown:.1f} MB more; others waited {worst * 1000:.0f} ms at most")
        assert grown < 8 * 4 and worst < 1
        # One of them reads on and gets it all.
        got = 0
        while part := readers[0].recv(MB):
            got += len(part)
            if got >= 200 * MB:
                break
        assert got >= 200 * MB
    finally:
        for sock in readers:
            sock.close()
    until("their calls have ended", lambda: not sum(r["in_flight_requests"] for r in roost.runners("mirror")), 10)


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")


# --- errors of the app


def test_an_apps_errors_pass_as_they_are_and_carry_the_id(http: httpx.Client, owner: str) -> None:
    answers = {
        "nowhere": http.post(f"/{owner}/mirror/nowhere", json={}),
        "invalid": http.post(f"/{owner}/mirror/ticks", json={"ms": "many"}),
        "raised": http.post(f"/{owner}/mirror/fail", json={}),
        "teapot": http.post(f"/{owner}/mirror/answer", json={"status": 418, "body": "short and stout"}),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == {"nowhere": 404, "invalid": 422, "raised": 500, "teapot": 418}
    assert answers["nowhere"].json() == {"detail": "Path /nowhere not found"}
    assert answers["invalid"].json()["detail"][0]["loc"] == ["body", "ms"]
    for answer in answers.values():
        assert UUID.fullmatch(answer.headers["x-fal-request-id"]) and "x-fal-error-type" not in answer.headers
    error(http.post(f"/{owner}/mirror", json={}, headers={"X-Fal-Request-Timeout": "soon"}), 400, "bad_request")


# --- many at once


def many(count: int, call: Any) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


@pytest.mark.parametrize(("app", "most"), [("closed", 1), ("four", 4)])
def test_a_runner_gets_as_many_calls_at_once_as_it_wants(roost: Roost, http: httpx.Client, owner: str, app: str, most: int) -> None:
    answers = many(3 * most + 1, lambda n: http.post(f"/{owner}/{app}/crowd", json={"ms": 100}, headers=roost.auth))
    assert {answer.status_code for answer in answers} == {200}
    assert max(answer.json()["most"] for answer in answers) == most


def test_plain_functions_get_a_thread_each_also_more_than_forty(http: httpx.Client, owner: str) -> None:
    answers = many(60, lambda n: http.post(f"/{owner}/mirror/threads", json={"ms": 20_000, "mark": "60"}))
    assert {answer.json()["most"] for answer in answers} == {60}


def test_a_runner_knows_who_it_is_and_can_call_other_apps(roost: Roost, http: httpx.Client, owner: str) -> None:
    seen = http.post(f"/{owner}/closed/environ", json={}, headers=roost.auth).json()
    (runner,) = roost.runners("closed")
    both = {
        "APP_NAME": f"{owner}/closed",
        "APP_ID": runner["revision_id"],
        "USER_NICKNAME": owner,
        "JOB_ID": runner["runner_id"],
        "REGION": "moon",
        "RUN_HOST": roost.address,
        "RUNNER_STATE": "RUNNING",
        "KEY": seen["FAL_KEY"],
    }
    for name, value in both.items():
        assert (seen[f"FAL_{name}"], seen[f"ROOST_{name}"]) == (value, value), name
    assert seen["HF_HOME"] and seen["ROOST_HOST"] == roost.url
    assert {name for name in seen if "TOKEN" in name} == set()
    answer = http.post(f"/{owner}/mirror/neighbour", json={"mark": f"{owner}/closed"}).json()
    assert answer["status"] == 200
    shown = json.loads(answer["body"])
    assert dict(shown["headers"])["x-fal-caller-user-id"] == owner
    # Its key calls apps and nothing else.
    assert http.get("/v1/apps", headers={"Authorization": f"Key {seen['FAL_KEY']}"}).status_code == 403


# --- callers that would hold a connection for ever

Lasted = tuple[float, bytes]


@pytest.fixture(scope="module", autouse=True)
def sluggish(roost: Roost) -> Iterator[dict[str, Future[Lasted]]]:
    """Callers that try to hold a connection for ever. They begin with the first test, as their time-outs take half a minute."""
    request = head("POST", f"/{roost.owner}/mirror/size", "content-length: 100000")
    with ThreadPoolExecutor(4) as pool:
        yield {
            "says nothing": pool.submit(lasts, roost.address, b"", b""),
            "head drips": pool.submit(lasts, roost.address, request[:-2], b"x: y\r\n"),
            "body stops": pool.submit(lasts, roost.address, request, b""),
            "body drips": pool.submit(lasts, roost.address, request, b"b"),
        }


def lasts(address: str, start: bytes, drip: bytes) -> Lasted:
    """Send a beginning, then a bit every two seconds: after how long the server ended it, and what it said."""
    host, _, port = address.rpartition(":")
    began = time.monotonic()
    got = b""
    with socket.create_connection((host, int(port)), 60) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(start)
        sock.settimeout(2)
        while time.monotonic() - began < 60:
            try:
                part = sock.recv(65536)
            except TimeoutError:
                sock.sendall(drip)
                continue
            got += part
            if not part:
                break
    return time.monotonic() - began, got


def test_slow_heads_and_bodies_are_ended(sluggish: dict[str, Future[Lasted]]) -> None:
    for kind, ended in sluggish.items():
        after_s, said = ended.result()
        if kind.startswith("body"):
            assert after_s < 40 and said.startswith(b"HTTP/1.1 408 ") and b"x-fal-request-id" in said, (kind, after_s, said)
        else:
            assert after_s < 28 and said == b"", (kind, after_s, said)
