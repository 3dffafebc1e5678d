"""Streams, webhooks, uploads and realtime: what works, and what says that it does not yet, without hanging."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import fal_client
import httpx
from world import PARROT, WAY, failure, raised, until


def a_stream_comes_event_by_event():
    begin, seen = time.monotonic(), []
    for event in fal_client.stream(PARROT, {"text": "tick", "times": 5}):
        seen.append((event["number"], event["text"]))
    assert seen == [(number, "tick") for number in range(5)] and time.monotonic() - begin < 10

    async def main():
        return [event["number"] async for event in fal_client.AsyncClient().stream(PARROT, {"text": "tick", "times": 3})]

    assert asyncio.run(main()) == [0, 1, 2]


def a_webhook_gets_what_the_app_answered():
    got: dict[str, dict] = {}

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.headers["x-fal-webhook-request-id"] == payload["request_id"] and self.headers["x-fal-webhook-signature"]
            got[payload.pop("request_id")] = payload
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Not of interest."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{receiver.server_port}/hook?of=mine&again=yes"
        good = fal_client.submit(PARROT, {"text": "hi"}, webhook_url=url).request_id
        bad = fal_client.submit(PARROT, {}, webhook_url=url).request_id
        until("both are told", lambda: len(got) == 2)
        receiver.shutdown()
    assert (got[good]["status"], got[good]["payload"]) == ("OK", {"text": "hi"})
    assert (got[bad]["status"], got[bad]["error"]) == ("ERROR", "Invalid status code: 422") and got[bad]["payload"]["detail"]


def a_webhook_address_that_is_none_is_refused_at_submit():
    error = failure(lambda: fal_client.submit(PARROT, {"text": ""}, webhook_url="ftp://receiver.example/hook"))
    assert (error.status_code, error.error_type) == (400, "bad_request")


def realtime_says_that_it_is_not_there():
    begin = time.monotonic()
    error = raised(lambda: fal_client.realtime(PARROT, use_jwt=False).__enter__())
    assert "HTTP 501" in str(error), repr(error)
    assert time.monotonic() - begin < 10


def uploads_and_tokens_say_that_they_are_not_there():
    # Both dial rest.fal.ai, which only the CONNECT door leads here.
    if WAY != "connect":
        return
    begin = time.monotonic()
    error = raised(lambda: fal_client.upload(b"data", "text/plain"))
    assert isinstance(error, (httpx.HTTPStatusError, fal_client.FalClientHTTPError)), repr(error)
    assert error.response.status_code == 501 and error.response.json()["error_type"] == "not_implemented"
    error = failure(lambda: fal_client.realtime(PARROT).__enter__())
    assert (error.status_code, error.error_type) == (501, "not_implemented") and error.message
    assert time.monotonic() - begin < 10
