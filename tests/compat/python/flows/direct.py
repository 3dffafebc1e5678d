"""`fal_client.run`: one connection from question to answer."""

from __future__ import annotations

import base64
import math
import tempfile
import time
from pathlib import Path

import fal_client
import httpx
from world import MORTAL, OWNER, PARROT, VERSION, calls, failure, mark, raised, slot_taken, until


def run_returns_what_the_app_answers():
    assert fal_client.run(PARROT, {"text": "hello", "times": 2}) == {"text": "hello hello"}
    client = fal_client.SyncClient(default_timeout=30)
    assert client.run(PARROT, {"text": "again"}) == {"text": "again"}


def a_path_may_be_part_of_the_name_or_an_argument():
    for application, path in ((f"{PARROT}/work", ""), (PARROT, "work"), (PARROT, "/work")):
        assert fal_client.run(application, {"mark": ""}, path=path)["mark"] == ""


def other_methods_than_post_reach_the_app():
    if VERSION >= (1, 0):
        error = failure(lambda: fal_client.run(PARROT, {}, path="/work", method="GET"))
        assert (error.status_code, error.message) == (405, "Method Not Allowed")


def header_fields_and_hints_are_taken():
    got = fal_client.run(PARROT, {}, path="/headers", hint="warm", headers={"X-Team": "red", "x-app-fal-disable-fallback": "1"})
    assert (got["x-team"], got["x-app-fal-disable-fallback"]) == ("red", "1")
    assert got["user-agent"].startswith("fal-client/") and "authorization" not in got and "x-fal-runner-hint" not in got


def texts_of_all_languages_come_back_as_they_went():
    text = 'höflich 丁寧 🦉 \u2028 \\ " \x00'
    assert fal_client.run(PARROT, {"text": text}) == {"text": text}


def large_bodies_go_both_ways():
    text = "é" * 3_000_000
    assert fal_client.run(PARROT, {"text": text}) == {"text": text}


def numbers_that_json_lacks_pass_through():
    got = fal_client.run(PARROT, {"body": '{"loss": NaN, "bound": -Infinity}'}, path="/answer")
    assert math.isnan(got["loss"]) and got["bound"] == -math.inf


def data_uris_are_bodies_like_any_other():
    data = bytes(range(256)) * 40
    uri = fal_client.encode(data, "image/png")
    assert fal_client.run(PARROT, {"url": uri}, path="/size") == {"head": "data:image/png;base64", "size": len(data)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "notes.txt"
        file.write_bytes(data)
        assert fal_client.encode_file(file) == f"data:text/plain;base64,{base64.b64encode(data).decode()}"
        assert fal_client.run(PARROT, {"url": fal_client.encode_file(file)}, path="/size")["size"] == len(data)


def a_body_that_the_app_refuses_says_which_part():
    error = failure(lambda: fal_client.run(PARROT, {"times": 0}))
    assert (error.status_code, error.error_type) == (422, None)
    assert {tuple(item["loc"]): item["type"] for item in error.message} == {
        ("body", "text"): "missing",
        ("body", "times"): "greater_than_equal",
    }


def what_the_app_raises_is_the_clients_error():
    me = mark()
    error = failure(lambda: fal_client.run(PARROT, {"mark": me, "status": 418, "body": "short and stout"}, path="/raise"))
    assert (error.status_code, error.message, error.error_type, calls(me)) == (418, "short and stout", None, 1)
    error = failure(lambda: fal_client.run(PARROT, {"mark": me}, path="/raise"))
    assert (error.status_code, calls(me)) == (500, 2)


def an_answer_of_the_app_is_never_taken_for_a_proxys_page():
    me = mark()
    error = failure(lambda: fal_client.run(PARROT, {"mark": me, "status": 502, "body": '"nginx"'}, path="/answer"))
    assert (error.status_code, calls(me)) == (502, 1), "it was sent again"


def an_unknown_app_endpoint_or_key_is_told_at_once():
    begin = time.monotonic()
    error = failure(lambda: fal_client.run(f"{OWNER}/nobody", {}))
    assert (error.status_code, error.error_type) == (404, "not_found") and "nobody" in error.message
    error = failure(lambda: fal_client.run(PARROT, {}, path="/nothing"))
    assert (error.status_code, error.message, error.error_type) == (404, "Path /nothing not found", None)
    for key in ("wrong:key", "wrong"):
        error = failure(lambda key=key: fal_client.SyncClient(key=key).run(PARROT, {"text": ""}))
        assert (error.status_code, error.error_type) == (401, "unauthorized") and PARROT in error.message
    assert time.monotonic() - begin < 10, "the client tried again"


def a_runner_that_dies_fails_the_call_once_and_by_name():
    me = mark()
    error = failure(lambda: fal_client.run(MORTAL, {"mark": me}, path="/die"))
    assert (error.status_code, error.error_type) == (503, "runner_disconnected")
    assert error.response_headers["x-fal-error-type"] == "runner_disconnected" and calls(me) == 1


def a_call_that_cannot_start_in_time_ends_as_the_caller_said():
    with slot_taken():
        begin = time.monotonic()
        error = failure(lambda: fal_client.run(f"{OWNER}/single-parrot", {"text": ""}, start_timeout=1.2))
        assert 1 < time.monotonic() - begin < 6, "too early, or tried again"
    assert (error.status_code, error.error_type) == (504, "request_timeout")
    assert error.response_headers["x-fal-request-timeout-type"] == "user"


def a_caller_that_gives_up_reaches_the_app_as_a_cancel():
    me = mark()
    error = raised(lambda: fal_client.run(PARROT, {"mark": me}, path="/patient", timeout=0.5, start_timeout=30))
    assert isinstance(error, httpx.ReadTimeout)
    until("the app heard of it", lambda: calls(f"{me}-cancelled") == 1)
    assert calls(me) == 1
