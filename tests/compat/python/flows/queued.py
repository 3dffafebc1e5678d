"""submit, subscribe, status, result, cancel: the queue."""

from __future__ import annotations

import math
import time

import fal_client
from fal_client import Completed, InProgress, Queued
from world import MORTAL, OWNER, PARROT, SINGLE, called_at, calls, failure, mark, raised, slot_taken, until


def submit_gives_a_handle_that_leads_to_the_result():
    me = mark()
    handle = fal_client.submit(PARROT, {"mark": me, "ms": 100}, path="/work", priority="normal")
    # It follows these, so they lead back the way it came.
    assert handle.response_url == f"{fal_client.client.QUEUE_URL_FORMAT}{PARROT}/requests/{handle.request_id}"
    assert handle.status_url == f"{handle.response_url}/status" and handle.cancel_url == f"{handle.response_url}/cancel"
    assert isinstance(handle.status(), (Queued, InProgress))
    assert handle.get() == {"mark": me, "request_id": handle.request_id}
    done = handle.status()
    assert isinstance(done, Completed) and done.metrics["inference_time"] >= 0.1 and done.logs is None and done.error is None
    assert handle.get()["mark"] == me and calls(me) == 1


def the_id_is_all_that_has_to_be_kept():
    me = mark()
    request_id = fal_client.submit(f"{PARROT}/work", {"mark": me}).request_id
    for application in (PARROT, f"{PARROT}/work"):
        assert fal_client.result(application, request_id)["mark"] == me
        assert isinstance(fal_client.status(application, request_id, with_logs=True), Completed)
        assert fal_client.sync_client.get_handle(application, request_id).get()["mark"] == me


def events_tell_every_step_with_the_lines_printed_so_far():
    with slot_taken() as before:
        handle = fal_client.submit(SINGLE, {"ms": 500, "steps": 5}, path="/work")
        events = handle.iter_events(with_logs=True)
        assert next(events) == Queued(position=0)
        before.cancel()
        seen = list(events)
    assert all(isinstance(event, (Queued, InProgress)) for event in seen[:-1])
    lines = [[line["message"] for line in event.logs] for event in seen if not isinstance(event, Queued)]
    assert lines[-1] == [f"step {number}" for number in range(5)]
    assert any(0 < len(so_far) < 5 for so_far in lines), "no line came before the end"
    line = seen[-1].logs[0]
    assert (line["source"], line["level"]) == ("USER", "STDOUT") and line["timestamp"]


def subscribe_tells_what_happens_and_returns_the_result():
    me, ids, updates = mark(), [], []
    arguments = {"mark": me, "ms": 300, "steps": 2}
    got = fal_client.subscribe(
        PARROT, arguments, path="/work", with_logs=True, on_enqueue=ids.append, on_queue_update=updates.append, hint="warm"
    )
    assert got == {"mark": me, "request_id": ids[0]}
    assert isinstance(updates[-1], Completed) and [line["message"] for line in updates[-1].logs] == ["step 0", "step 1"]


def low_priority_lets_others_go_first():
    last, first = mark(), mark()
    with slot_taken() as before:
        low = fal_client.submit(SINGLE, {"mark": last}, path="/work", priority="low")
        normal = fal_client.submit(SINGLE, {"mark": first}, path="/work", priority="normal")
        assert (normal.status(), low.status()) == (Queued(position=0), Queued(position=1))
        before.cancel()
        assert normal.get() and low.get()
    assert called_at(first) < called_at(last)


def a_cancelled_request_that_waited_never_runs():
    me = mark()
    with slot_taken():
        handle = fal_client.submit(SINGLE, {"mark": me}, path="/work")
        fal_client.cancel(SINGLE, handle.request_id)
        status = handle.status()
        assert isinstance(status, Completed) and status.error == "Request was cancelled" and status.error_type == "client_cancelled"
        error = failure(handle.get)
        assert (error.status_code, error.error_type, error.message) == (499, "client_cancelled", "Request was cancelled")
    assert calls(me) == 0


def a_cancelled_request_that_runs_is_told():
    me = mark()
    handle = fal_client.submit(PARROT, {"mark": me}, path="/patient")
    until("it runs", lambda: calls(me) == 1)
    handle.cancel()
    assert failure(handle.get).status_code == 499
    assert calls(f"{me}-cancelled") == 1
    error = failure(handle.cancel)
    assert error.status_code == 400 and "ALREADY_COMPLETED" in str(error)


def a_request_that_cannot_start_in_time_ends_as_the_caller_said():
    me = mark()
    with slot_taken():
        handle = fal_client.submit(SINGLE, {"mark": me}, path="/work", start_timeout=1.2)
        begin = time.monotonic()
        error = failure(handle.get)
        assert time.monotonic() - begin < 6, "the client tried again"
        status = handle.status()
    assert (error.status_code, error.error_type) == (504, "request_timeout")
    assert error.response_headers["x-fal-request-timeout-type"] == "user"
    assert isinstance(status, Completed) and status.error_type == "request_timeout" and calls(me) == 0


def a_client_timeout_cancels_the_request():
    me, ids = mark(), []
    error = raised(lambda: fal_client.subscribe(PARROT, {"mark": me}, path="/patient", client_timeout=1.5, on_enqueue=ids.append))
    assert isinstance(error, fal_client.FalClientTimeoutError) and error.request_id == ids[0]
    until("the app was told", lambda: calls(f"{me}-cancelled") == 1)
    assert failure(lambda: fal_client.result(PARROT, ids[0])).status_code == 499


def what_the_app_answered_is_the_result_whatever_its_status():
    me = mark()
    handle = fal_client.submit(PARROT, {"times": 0})
    error = failure(handle.get)
    assert (error.status_code, error.error_type, len(error.message)) == (422, None, 2)
    error = failure(lambda: fal_client.subscribe(PARROT, {"mark": me, "status": 418, "body": "short and stout"}, path="/raise"))
    assert (error.status_code, error.message, calls(me)) == (418, "short and stout", 1)
    error = failure(lambda: fal_client.subscribe(PARROT, {"mark": me, "status": 502, "body": '"nginx"'}, path="/answer"))
    assert (error.status_code, calls(me)) == (502, 2), "the client or the queue tried again"


def a_runner_that_dies_is_an_error_of_the_request():
    me = mark()
    handle = fal_client.submit(MORTAL, {"mark": me}, path="/die")
    error = failure(handle.get)
    assert (error.status_code, error.error_type, calls(me)) == (503, "runner_disconnected", 1)
    status = handle.status()
    assert isinstance(status, Completed) and status.error and status.error_type == "runner_disconnected"


def large_and_odd_bodies_are_kept_as_they_are():
    text = "🦉" * 400_000
    assert fal_client.subscribe(PARROT, {"text": text}) == {"text": text}
    assert math.isnan(fal_client.subscribe(PARROT, {"body": '{"loss": NaN}'}, path="/answer")["loss"])


def header_fields_reach_the_app():
    got = fal_client.subscribe(PARROT, {}, path="/headers", headers={"X-Team": "blue"}, hint="warm", priority="low", start_timeout=30)
    assert got["x-team"] == "blue" and "authorization" not in got
    assert not {"x-fal-queue-priority", "x-fal-request-timeout", "x-fal-runner-hint"} & got.keys()


def what_nobody_knows_is_told_at_once():
    nobody = "00000000-0000-4000-8000-000000000000"
    begin = time.monotonic()
    for ask in (fal_client.status, fal_client.result, fal_client.cancel):
        error = failure(lambda ask=ask: ask(PARROT, nobody))
        assert error.status_code == 404 and "NOT_FOUND" in str(error)
    error = failure(lambda: fal_client.submit(f"{OWNER}/nobody", {}))
    assert (error.status_code, error.error_type) == (404, "not_found")
    error = failure(lambda: fal_client.SyncClient(key="wrong:key").submit(PARROT, {"text": ""}))
    assert (error.status_code, error.error_type) == (401, "unauthorized")
    assert time.monotonic() - begin < 10, "the client tried again"
