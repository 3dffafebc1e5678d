"""The verbs of both clients against the same fake server: what they send, what they return, what they survive."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from time import sleep
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

import roost
from roost.client.client import Client
from roost.client.errors import ClientConnectionError, ClientError, ClientHTTPError, ClientTimeoutError
from roost.client.statuses import Completed, InProgress, Queued, Status
from tests.unit.client.fake import DONE, HOST, ID, QUEUED, REQUEST, RUNNING, FakeServer, Stream, line

REFUSED = httpx.ConnectError("Connection refused")
CUT = httpx.ReadError("connection reset")


class Blocking:
    """The blocking client behind coroutines, so that one test serves both."""

    def __init__(self, server: FakeServer, **given: Any) -> None:
        self.waited: list[float] = []
        self.client = Client("id:secret", host=HOST, transport=httpx.MockTransport(server), pause=self.waited.append, **given)

    async def __call__(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.client, verb)(*args, **kwargs)

    async def of(self, handle: Any, verb: str, **kwargs: Any) -> Any:
        return getattr(handle, verb)(**kwargs)

    async def all(self, values: Any) -> list[Any]:
        return list(values)

    async def close(self) -> None:
        self.client.close()


class Awaiting:
    def __init__(self, server: FakeServer, **given: Any) -> None:
        self.waited: list[float] = []

        async def pause(seconds: float) -> None:
            self.waited.append(seconds)

        self.client = roost.AsyncClient("id:secret", host=HOST, transport=httpx.MockTransport(server.later), pause=pause, **given)

    async def __call__(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.client, verb)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def of(self, handle: Any, verb: str, **kwargs: Any) -> Any:
        result = getattr(handle, verb)(**kwargs)
        return await result if inspect.isawaitable(result) else result

    async def all(self, values: Any) -> list[Any]:
        return [value async for value in values]

    async def close(self) -> None:
        await self.client.close()


Make = Callable[..., Blocking | Awaiting]


@pytest.fixture(params=[Blocking, Awaiting], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


# --- what is sent -----------------------------------------------------------------------------------------------------------


async def test_run_is_one_call_below_the_servers_url(make: Make) -> None:
    server = FakeServer()
    assert await make(server)("run", "me/hello", {"name": "Ada"}, path="/greet", hint="gpu-1", start_timeout=5) == {"text": "Hello"}
    (request,) = server.seen
    assert (request.method, request.url.path, json.loads(request.content)) == ("POST", "/base/me/hello/greet", {"name": "Ada"})
    assert request.headers["authorization"] == "Key id:secret"
    assert request.headers["x-fal-runner-hint"] == "gpu-1"
    assert request.headers["x-fal-request-timeout"] == "5.0"


async def test_submit_says_what_the_queue_wants_to_know(make: Make) -> None:
    server = FakeServer()
    handle = await make(server)("submit", "me/hello/greet", {}, priority="low", webhook_url="http://me/?a=b", headers={"X-Own": "1"})
    (request,) = server.seen
    assert (request.method, request.url.path, dict(request.url.params)) == (
        "POST",
        "/base/_queue/me/hello/greet",
        {"fal_webhook": "http://me/?a=b"},
    )
    assert (request.headers["x-fal-queue-priority"], request.headers["x-own"]) == ("low", "1")
    assert handle.request_id == ID


async def test_a_handle_asks_the_address_that_the_client_dialled_and_not_the_one_that_an_answer_names(make: Make) -> None:
    server = FakeServer()
    client = make(server)
    handle = await client("submit", "me/hello/greet", {})
    assert (await client.of(handle, "status"), handle.status_url) == (
        Completed(None, {"inference_time": 0.5}),
        f"{HOST[:-5]}{REQUEST}/status",
    )
    assert await client.of(handle, "get") == {"text": "Hello"}
    assert {request.url.host for request in server.seen} == {"far.example"}
    assert {request.headers["authorization"] for request in server.seen} == {"Key id:secret"}


@pytest.mark.parametrize(
    ("given", "content", "kind"),
    [
        ({"arguments": {"a": "ü"}}, '{"a": "ü"}'.encode(), "application/json"),
        ({}, b"{}", "application/json"),
        ({"body": b"\x00\xff"}, b"\x00\xff", "application/octet-stream"),
        ({"body": "text"}, b"text", "text/plain; charset=utf-8"),
        ({"body": b"<x/>", "content_type": "text/xml"}, b"<x/>", "text/xml"),
        ({"method": "put", "arguments": [1]}, b"[1]", "application/json"),
        ({"method": "DELETE"}, b"", None),
        ({"method": "GET", "arguments": {}}, b"", None),
    ],
)
@pytest.mark.parametrize("verb", ["run", "submit"])
async def test_any_method_and_any_body_can_be_sent(verb: str, given: dict[str, Any], content: bytes, kind: str | None) -> None:
    server = FakeServer()
    await Blocking(server)(verb, "me/hello", **given)
    (request,) = server.seen
    assert (request.content, request.headers.get("content-type"), request.method) == (content, kind, given.get("method", "POST").upper())


async def test_models_are_arguments_too() -> None:
    class In(BaseModel):
        name: str

    server = FakeServer()
    await Blocking(server)("run", "me/hello", {"input": In(name="Ada")})
    assert json.loads(server.seen[0].content) == {"input": {"name": "Ada"}}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"arguments": {}, "body": b""}, "not both"),
        ({"priority": "high"}, "'normal' or 'low'"),
        ({"start_timeout": 0.1}, "longer than 0.1"),
        ({"application": "hello"}, "names no app"),
    ],
)
async def test_what_cannot_be_meant_is_a_value_error(make: Make, given: dict[str, Any], complaint: str) -> None:
    server = FakeServer()
    with pytest.raises(ValueError, match=complaint):
        await make(server)("submit", **{"application": "me/hello", **given})
    assert server.seen == []


# --- what comes back --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind", "value"),
    [(b'{"a":1}', "application/json", {"a": 1}), (b"hi", "text/plain", "hi"), (b"\x89P", "image/png", b"\x89P"), (b"", "", None)],
)
async def test_a_result_is_what_its_content_type_says(make: Make, content: bytes, kind: str, value: object) -> None:
    answer = httpx.Response(200, content=content, headers={"content-type": kind})
    client = make(FakeServer(direct=[answer], result=[answer]))
    assert await client("run", "me/hello") == value
    assert await client("result", "me/hello", ID) == value


async def test_an_error_of_the_server_tells_status_type_and_request() -> None:
    body = {"detail": "The runner went away.", "error_type": "runner_disconnected", "hint": "Look at its log."}
    with pytest.raises(ClientHTTPError) as failed:
        await Blocking(FakeServer(direct=[httpx.Response(503, json=body, headers={"X-Fal-Request-Id": "r1"})]))("run", "me/hello")
    error = failed.value
    assert (error.status_code, error.error_type, error.request_id, str(error)) == (
        503,
        "runner_disconnected",
        "r1",
        "The runner went away.",
    )
    assert error.hint == "Look at its log."


async def test_an_error_of_the_app_is_its_own_and_names_the_request(make: Make) -> None:
    detail = [{"loc": ["body", "name"], "msg": "Field required", "type": "missing"}]
    with pytest.raises(ClientHTTPError) as failed:
        await make(FakeServer(result=[httpx.Response(422, json={"detail": detail})]))("subscribe", "me/hello", {})
    assert (failed.value.status_code, failed.value.error_type, failed.value.request_id) == (422, None, ID)
    assert json.loads(failed.value.content) == {"detail": detail}


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (httpx.Response(404, json={"status": "NOT_FOUND"}), "no such request"),
        (httpx.Response(400, json={"status": "ALREADY_COMPLETED"}), "completed already"),
        (httpx.Response(308, headers={"location": "https://new/"}), "sends callers on to https://new/"),
        (httpx.Response(418, text="teapot"), "teapot"),
        (httpx.Response(400), "The answer was 400."),
    ],
)
async def test_an_error_without_words_gets_some(response: httpx.Response, words: str) -> None:
    with pytest.raises(ClientHTTPError) as failed:
        await Blocking(FakeServer(cancel=[response]))("cancel", "me/hello", ID)
    assert words in failed.value.detail


async def test_a_handles_response_is_whatever_was_answered(make: Make) -> None:
    client = make(FakeServer(result=[httpx.Response(500, text="oh", headers={"X-Fal-Request-Id": ID})]))
    handle = await client("get_handle", "me/hello", ID)
    answer = await client.of(handle, "response")
    assert (answer.status_code, answer.content, answer.headers["x-fal-request-id"]) == (500, b"oh", ID)


async def test_an_answer_that_is_no_servers_is_an_error_that_asks_about_the_address() -> None:
    with pytest.raises(ClientError, match="Is this address a roost server"):
        await Blocking(FakeServer(status=[httpx.Response(200, text="<html>")]))("status", "me/hello", ID)
    with pytest.raises(ClientError, match="names no request"):
        await Blocking(FakeServer(submit=[{"ok": True}]))("submit", "me/hello")


# --- waiting ----------------------------------------------------------------------------------------------------------------


async def test_subscribe_tells_of_every_step_and_returns_the_result(make: Make) -> None:
    server, told = FakeServer(stream=[Stream(QUEUED, RUNNING, RUNNING, DONE)]), list[object]()
    assert await make(server)("subscribe", "me/hello", {}, on_enqueue=told.append, on_queue_update=told.append) == {"text": "Hello"}
    assert told == [ID, Queued(2), InProgress(None), InProgress(None), Completed(None, {"inference_time": 0.5})]
    assert server.kinds == ["submit", "stream", "result"]


async def test_callbacks_may_be_coroutines_in_the_asynchronous_client() -> None:
    told: list[object] = []

    async def tell(value: object) -> None:
        told.append(value)

    await Awaiting(FakeServer())("subscribe", "me/hello", {}, on_enqueue=tell, on_queue_update=tell)
    assert told[:2] == [ID, Queued(2)]


async def test_logs_of_a_stream_are_all_lines_so_far_as_from_polling(make: Make) -> None:
    a, b, c = line("a"), line("b"), line("c")
    broken = Stream({**RUNNING, "logs": [a]}, {**RUNNING, "logs": [b]}, CUT)
    server = FakeServer(stream=[broken, Stream({**RUNNING, "logs": [a, b]}, {**DONE, "logs": [c]})])
    told: list[Any] = []
    await make(server)("subscribe", "me/hello", {}, with_logs=True, on_queue_update=told.append)
    assert [status.logs for status in told] == [[a], [a, b], [a, b], [a, b, c]]
    assert dict(server.seen[1].url.params) == {"logs": "1"}
    assert broken.closed


async def test_an_interval_polls(make: Make) -> None:
    server = FakeServer(status=[httpx.Response(202, json=QUEUED), httpx.Response(202, json=RUNNING), DONE])
    client, told = make(server), list[Status]()
    await client("subscribe", "me/hello", {}, interval=0.25, on_queue_update=told.append)
    assert server.kinds == ["submit", "status", "status", "status", "result"]
    assert client.waited == [0.25, 0.25]
    assert [type(status) for status in told] == [Queued, InProgress, Completed]


@pytest.mark.parametrize(
    "stream",
    [lambda: httpx.Response(404, json={}), lambda: httpx.Response(200, json={}), Stream, lambda: Stream(httpx.ReadTimeout("silent"))],
    ids=["none", "not a stream", "empty", "kept back by a proxy"],
)
async def test_where_there_is_no_stream_it_polls(make: Make, stream: Callable[[], Any]) -> None:
    server = FakeServer(stream=[stream()], status=[RUNNING, DONE])
    assert await make(server)("subscribe", "me/hello", {}) == {"text": "Hello"}
    assert server.kinds == ["submit", "stream", "status", "status", "result"]


async def test_iter_events_yields_until_completed(make: Make) -> None:
    client = make(FakeServer())
    handle = await client("get_handle", "me/hello", ID)
    events = await client.all(handle.iter_events())
    assert events == [Queued(2), InProgress(None), Completed(None, {"inference_time": 0.5})]


async def test_leaving_iter_events_hangs_up() -> None:
    stream = Stream(QUEUED, RUNNING, DONE)
    events = (await Blocking(FakeServer(stream=[stream]))("get_handle", "me/hello", ID)).iter_events()
    assert next(events) == Queued(2)
    assert not stream.closed
    events.close()
    assert stream.closed


async def test_stream_yields_what_an_endpoint_streams(make: Make) -> None:
    client = make(FakeServer(direct=[Stream({"n": 1}, {"n": 2})]))
    assert await client.all(await client("stream", "me/hello", {})) == [{"n": 1}, {"n": 2}]


# --- what goes wrong on the way ---------------------------------------------------------------------------------------------


async def test_a_submit_that_is_sent_again_is_the_same_request(make: Make) -> None:
    server = FakeServer(submit=[CUT, httpx.Response(502, text="nginx"), {"request_id": ID}])
    client = make(server)
    assert (await client("submit", "me/hello", {})).request_id == ID
    keys = {request.headers["idempotency-key"] for request in server.seen}
    assert len(server.seen) == 3 and len(keys) == 1
    await client("submit", "me/hello", {})
    assert server.seen[-1].headers["idempotency-key"] not in keys


async def test_a_callers_idempotency_key_is_taken() -> None:
    server = FakeServer()
    await Blocking(server)("submit", "me/hello", {}, idempotency_key="order-7")
    assert server.seen[0].headers["idempotency-key"] == "order-7"


async def test_a_restart_of_the_server_costs_a_waiting_caller_nothing(make: Make) -> None:
    server = FakeServer(
        stream=[Stream(QUEUED, CUT), REFUSED, REFUSED, Stream(RUNNING, DONE)],
        result=[REFUSED, httpx.Response(503, json={}, headers={"x-fal-error-type": "server_stopping"}), {"text": "Hello"}],
    )
    client, told = make(server), list[Any]()
    assert await client("subscribe", "me/hello", {}, on_queue_update=told.append) == {"text": "Hello"}
    assert [type(status) for status in told] == [Queued, InProgress, Completed]
    assert server.kinds.count("submit") == 1
    assert len(client.waited) == 5


async def test_a_direct_call_is_never_sent_twice_after_a_runner_may_have_it(make: Make) -> None:
    server = FakeServer(direct=[CUT])
    with pytest.raises(ClientConnectionError) as failed:
        await make(server)("run", "me/hello", {})
    assert len(server.seen) == 1
    assert "may have run" in failed.value.hint


async def test_a_direct_call_waits_for_a_server_that_comes_back(make: Make) -> None:
    server = FakeServer(direct=[REFUSED, REFUSED, {"text": "Hello"}])
    assert await make(server)("run", "me/hello", {}) == {"text": "Hello"}


async def test_a_server_that_stays_away_is_an_error_that_names_the_request(make: Make) -> None:
    client = make(FakeServer(stream=[REFUSED], status=[REFUSED]))
    with pytest.raises(ClientConnectionError) as failed:
        await client("result", "me/hello", ID)
    assert failed.value.request_id == ID and ID in failed.value.hint
    assert 15 < sum(client.waited) < 160


async def test_a_results_own_429_is_a_result(make: Make) -> None:
    server = FakeServer(result=[httpx.Response(429, json={"detail": "quota"}, headers={"x-fal-request-id": ID})])
    with pytest.raises(ClientHTTPError):
        await make(server)("result", "me/hello", ID)
    assert server.kinds.count("result") == 1


async def test_after_client_timeout_the_request_is_cancelled(make: Make) -> None:
    server = FakeServer(status=[QUEUED])
    with pytest.raises(ClientTimeoutError) as failed:
        await make(server)("subscribe", "me/hello", {}, client_timeout=0.11, interval=0.01)
    assert (failed.value.request_id, failed.value.timeout) == (ID, 0.11)
    assert isinstance(failed.value, TimeoutError)
    assert server.kinds[-1] == "cancel"
    # What would begin only after its caller has gone is not begun at all.
    assert server.seen[0].headers["x-fal-request-timeout"] == "0.11"


async def test_a_start_timeout_beyond_the_client_timeout_warns(make: Make) -> None:
    with pytest.warns(UserWarning, match="the client gives up first"):
        await make(FakeServer())("subscribe", "me/hello", {}, client_timeout=5, start_timeout=9)


async def test_making_a_client_asks_nothing_and_cannot_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_HOST", "ftp://nonsense")
    client = Client()
    with pytest.raises(ClientError, match="not the address of a server"):
        client.run("me/hello")


async def test_a_client_that_travels_with_an_app_leaves_the_key_that_it_found_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_KEY", "mine:very-secret")
    monkeypatch.setenv("ROOST_HOST", HOST)
    client = Client(transport=httpx.MockTransport(FakeServer()), pause=sleep)
    client.run("me/hello")
    travelled = pickle.dumps(client)
    assert b"very-secret" not in travelled
    monkeypatch.setenv("ROOST_KEY", "runners:own")
    with pickle.loads(travelled) as there:
        assert there.get_handle("me/hello", ID).status_url.startswith(HOST)
    assert pickle.loads(pickle.dumps(roost.AsyncClient()))
