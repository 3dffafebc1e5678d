"""What an app answers over HTTP: routes, statuses, bodies, headers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import httpx
import pytest
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import roost
from roost.sdk.annotations import resolve_annotations
from roost.sdk.app import create, forget
from roost.sdk.asgi import build_asgi
from roost.sdk.lifecycle import run_setup

POLICY = {"url": "https://bucket.s3.amazonaws.com/", "fields": {"key": "out/${filename}"}}


class Input(BaseModel):
    prompt: str
    size: int = 1


class Output(BaseModel):
    text: str


class Binary(BaseModel):
    payload: int


def boom(error: BaseException) -> Callable[..., Any]:
    def run(self: Any) -> None:
        raise error

    return run


class Kitchen(roost.App):
    """One endpoint for each thing that can be answered."""

    version = "7"

    @roost.endpoint("/")
    def greet(self, input: Input) -> Output:
        """Greets."""
        return Output(text=f"{input.prompt} x{input.size}")

    @roost.endpoint("/async")
    async def greet_async(self, input: Input) -> Output:
        return Output(text=input.prompt)

    @roost.endpoint("/any")
    def anything(self, input_data):
        return {"got": input_data}

    @roost.endpoint("/two")
    def two(self, left, right=3):
        return [left, right]

    @roost.endpoint("/query")
    def query(self, times: int) -> int:
        return times

    @roost.endpoint("/thread")
    def thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    @roost.endpoint("/who")
    async def who(self) -> dict[str, Any]:
        assert self.current_request is not None
        return {name: getattr(self.current_request, name) for name in ("request_id", "endpoint", "lifecycle_preference", "upload_policy")}

    @roost.endpoint("/who-in-a-thread")
    def who_in_a_thread(self) -> dict[str, str]:
        assert self.current_request is not None
        return self.current_request.headers

    @roost.endpoint("/stream")
    def stream(self) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for _ in range(2):
                await asyncio.sleep(0)
                assert self.current_request is not None
                yield f"data: {self.current_request.request_id}\n\n"

        return StreamingResponse(parts(), media_type="text/event-stream")

    @roost.endpoint("/broken-stream")
    def broken_stream(self) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "half"
            raise RuntimeError("in the middle")

        return StreamingResponse(parts())


async def served(cls: type[roost.App]) -> fastapi.FastAPI:
    resolve_annotations(cls)
    app = create(cls)
    try:
        await run_setup(app)
        return build_asgi(app)
    finally:
        forget(app)


async def call(cls: type[roost.App], path: str, *, method: str = "POST", **arguments: Any) -> httpx.Response:
    transport = httpx.ASGITransport(await served(cls))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.request(method, path, **arguments)


async def raised(error: BaseException, **arguments: Any) -> httpx.Response:
    cls = type("Raises", (roost.App,), {"run": roost.endpoint("/")(boom(error))})
    return await call(cls, "/", **arguments)


# What comes back


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/", {"prompt": "hi", "size": 2}, {"text": "hi x2"}),
        ("/async", {"prompt": "hi"}, {"text": "hi"}),
        ("/any", {"a": [1, None]}, {"got": {"a": [1, None]}}),
        ("/any", [1, 2], {"got": [1, 2]}),
        ("/any", "text", {"got": "text"}),
        ("/two", {"left": 1}, [1, 3]),
        ("/two", {"left": {"x": 1}, "right": 2}, [{"x": 1}, 2]),
        ("/query?times=3", None, 3),
        ("/thread", None, False),
    ],
)
async def test_an_endpoint_answers(path: str, body: Any, answer: Any):
    response = await call(Kitchen, path, json=body)
    assert (response.status_code, response.json()) == (200, answer)


async def test_endpoints_are_post_only():
    response = await call(Kitchen, "/", method="GET")
    assert (response.status_code, response.json(), response.headers["allow"]) == (405, {"detail": "Method Not Allowed"}, "POST")


async def test_health_answers_the_version():
    response = await call(Kitchen, "/health", method="GET")
    assert (response.status_code, response.json()) == (200, {"version": "7"})


async def test_health_may_be_asynchronous():
    class App(Kitchen):
        async def health(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
            return {"ok": True}

    assert (await call(App, "/health", method="GET")).json() == {"ok": True}


async def test_an_endpoint_of_the_author_at_health_wins():
    class App(roost.App):
        @roost.endpoint("/health")
        def ready(self) -> str:
            return "mine"

    assert (await call(App, "/health")).json() == "mine"
    assert (await call(App, "/health", method="GET")).status_code == 405


# The table of exceptions


async def test_an_unknown_path_is_a_404_that_names_it_and_bills_nothing():
    response = await call(Kitchen, "/x", json={})
    assert (response.status_code, response.json()) == (404, {"detail": "Path /x not found"})
    assert response.headers["x-fal-billable-units"] == "0"


async def test_a_404_of_the_author_is_passed_on():
    response = await raised(fastapi.HTTPException(404, "no such cat", {"x-cat": "1"}))
    assert (response.status_code, response.json(), response.headers["x-cat"]) == (404, {"detail": "no such cat"}, "1")
    assert "x-fal-billable-units" not in response.headers


async def test_invalid_input_is_a_422_that_bills_nothing():
    response = await call(Kitchen, "/", json={"size": "big"})
    assert response.status_code == 422
    assert response.headers["x-fal-billable-units"] == "0"
    errors = response.json()["detail"]
    assert [(error["loc"], error["type"]) for error in errors] == [(["body", "prompt"], "missing"), (["body", "size"], "int_parsing")]
    assert errors[1]["input"] == "big"


async def test_a_body_that_json_cannot_show_is_described():
    class App(roost.App):
        @roost.endpoint("/")
        def run(self, input: Binary) -> None: ...

        @roost.endpoint("/float")
        def number(self, input: Binary) -> None: ...

    binary = await call(App, "/", content=b"\xff\x00\xfe", headers={"content-type": "application/octet-stream"})
    assert (binary.status_code, binary.json()["detail"][0]["input"]) == (422, "<binary 3 bytes>")
    number = await call(App, "/float", content=b'{"payload": NaN}', headers={"content-type": "application/json"})
    assert (number.status_code, number.json()["detail"][0]["input"]) == (422, "nan")


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (roost.AppException("out of cheese", 418), 418, {"detail": "out of cheese"}),
        (roost.AppException("plain"), 500, {"detail": "plain"}),
        (
            roost.FieldException("prompt", "too rude"),
            422,
            {"detail": [{"loc": ["body", "prompt"], "msg": "too rude", "type": "value_error"}]},
        ),
        (roost.FieldException("a", "b", 400, type="c"), 400, {"detail": [{"loc": ["body", "a"], "msg": "b", "type": "c"}]}),
        (roost.RequestCancelledException("stopped"), 499, {"detail": "stopped"}),
        (roost.RequestCancelledException(), 499, {"detail": ""}),
        (roost.GPUException(), 503, {"detail": "GPU error"}),
        (roost.GPUOutOfMemoryException(), 503, {"detail": "GPU error"}),
        (roost.CUDAOutOfMemoryException(), 503, {"detail": "CUDA error: out of memory"}),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 503, {"detail": "CUDA error: out of memory"}),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."), 503, {"detail": "CUDA error: out of memory"}),
        (ValueError("Triton kernel failed"), 503, {"detail": "GPU error"}),
        (RuntimeError("NCCL timeout"), 503, {"detail": "GPU error"}),
        (RuntimeError("no luck"), 500, {"detail": "Internal Server Error"}),
        (KeyError("x"), 500, {"detail": "Internal Server Error"}),
    ],
    ids=repr,
)
async def test_a_raise_has_the_status_and_body_of_the_table(error: Exception, status: int, body: Any):
    response = await raised(error)
    assert (response.status_code, response.json()) == (status, body)


@pytest.mark.parametrize(("units", "header"), [(0, None), (3, "3"), (0.5, "0.50000000")])
async def test_billable_units_of_a_field_error_are_sent_only_if_there_are_any(units: float, header: str | None):
    response = await raised(roost.FieldException("a", "b", billable_units=units))
    assert response.headers.get("x-fal-billable-units") == header


async def test_billable_units_that_are_no_number_are_the_apps_own_error():
    assert (await raised(roost.FieldException("a", "b", billable_units="many"))).status_code == 500  # pyright: ignore[reportArgumentType]


async def test_an_unexpected_exception_prints_one_line_with_what_was_raised_first(capsys: pytest.CaptureFixture[str]):
    await raised(RuntimeError("no luck"))
    (line,) = capsys.readouterr().out.splitlines()
    trace = json.loads(line)["traceback"].splitlines()
    assert trace[0] == "RuntimeError: no luck" and trace[-1].startswith("Traceback")


async def test_a_failure_in_the_middle_of_a_stream_reaches_whoever_serves():
    with pytest.raises(RuntimeError, match="in the middle"):
        await call(Kitchen, "/broken-stream")


# What surrounds a call


async def test_any_origin_may_call_with_credentials():
    headers = {"origin": "https://page", "access-control-request-method": "POST", "access-control-request-headers": "x-mine"}
    preflight = await call(Kitchen, "/", method="OPTIONS", headers=headers)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert preflight.headers["access-control-allow-headers"] == "x-mine"
    answer = await call(Kitchen, "/", json={"prompt": "hi"}, headers={"origin": "https://page", "cookie": "a=b"})
    assert answer.headers["access-control-allow-origin"] in ("*", "https://page")


async def test_a_handled_exception_keeps_cors_and_the_last_resort_does_not():
    handled = await raised(roost.AppException("x", 400), headers={"origin": "https://page"})
    unexpected = await raised(RuntimeError("x"), headers={"origin": "https://page"})
    assert "access-control-allow-origin" in handled.headers
    assert "access-control-allow-origin" not in unexpected.headers


async def test_the_current_request_is_known_in_the_handler():
    headers = {
        "X-Fal-Request-Id": "r-1",
        "x-fal-endpoint": "me/app/who",
        "x-fal-object-lifecycle-preference": '{"expiration_duration_seconds": 9}',
    }
    response = await call(Kitchen, "/who", headers={**headers, "x-app-fal-upload-policy": json.dumps(POLICY)})
    assert response.json() == {
        "request_id": "r-1",
        "endpoint": "me/app/who",
        "lifecycle_preference": {"expiration_duration_seconds": 9},
        "upload_policy": POLICY,
    }


async def test_without_headers_the_current_request_is_empty_but_for_its_path():
    expected = {"request_id": None, "endpoint": "/who", "lifecycle_preference": None, "upload_policy": None}
    assert (await call(Kitchen, "/who", headers={"x-fal-object-lifecycle-preference": "{"})).json() == expected


async def test_the_current_request_is_known_in_threads_with_lower_case_headers():
    assert (await call(Kitchen, "/who-in-a-thread", headers={"X-Mine": "Yes"})).json()["x-mine"] == "Yes"


async def test_the_current_request_lasts_as_long_as_its_stream_and_calls_do_not_mix():
    transport = httpx.ASGITransport(await served(Kitchen))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        calls = [client.post("/stream", headers={"x-fal-request-id": str(n)}) for n in range(8)]
        answers = await asyncio.gather(*calls)
    assert [answer.text for answer in answers] == [f"data: {n}\n\n" * 2 for n in range(8)]


async def test_outside_of_a_request_there_is_an_empty_one_and_before_setup_none():
    app = create(Kitchen)
    try:
        assert app.current_request is None
        await run_setup(app)
        assert app.current_request == roost.RequestContext()
    finally:
        forget(app)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        (json.dumps({**POLICY, "url": "http://bucket.s3.amazonaws.com/"}), "S3 bucket"),
        (json.dumps({**POLICY, "url": "https://evil.example/"}), "S3 bucket"),
        (json.dumps({**POLICY, "url": "https://bucket.s3.amazonaws.com:x/"}), "S3 bucket"),
        (json.dumps({**POLICY, "url": "https://u:p@bucket.s3.amazonaws.com/"}), "S3 bucket"),
        (json.dumps({**POLICY, "fields": []}), "fields must be"),
        (json.dumps({**POLICY, "fields": {"key": "fixed"}}), "${filename}"),
    ],
)
async def test_a_malformed_upload_policy_is_a_422_that_bills_nothing(policy: str, says: str):
    response = await call(Kitchen, "/", json={"prompt": "hi"}, headers={"x-app-fal-upload-policy": policy})
    assert (response.status_code, response.headers["x-fal-billable-units"]) == (422, "0")
    assert says in response.json()["detail"]


async def test_hints_are_sent_with_each_response_but_those_no_header_can_carry():
    class App(Kitchen):
        def provide_hints(self) -> list[str]:
            return ["sdxl", "模型", "flux"]

    with pytest.warns(UserWarning, match="模型"):
        response = await call(App, "/", json={"prompt": "hi"})
    assert response.headers["x-fal-runner-hints"] == "sdxl,flux"
    assert "x-fal-runner-hints" not in (await call(Kitchen, "/", json={"prompt": "hi"})).headers


# Websockets


async def websocket(cls: type[roost.App], path: str, headers: list[tuple[bytes, bytes]], *received: dict[str, Any]) -> list[dict[str, Any]]:
    inbox = [{"type": "websocket.connect"}, *received]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "subprotocols": [],
    }
    await (await served(cls))(scope, receive, send)
    return sent


class Sockets(roost.App):
    @roost.endpoint("/ws", is_websocket=True)
    async def echo(self, socket: fastapi.WebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close()


async def test_a_websocket_endpoint_speaks():
    sent = await websocket(Sockets, "/ws", [], {"type": "websocket.receive", "text": "hi"})
    assert [message.get("text", message["type"]) for message in sent] == ["websocket.accept", "HI", "websocket.close"]


async def test_a_websocket_with_an_upload_policy_is_refused_in_the_handshake():
    sent = await websocket(Sockets, "/ws", [(b"x-app-fal-upload-policy", json.dumps(POLICY).encode())])
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_a_websocket_endpoint_must_be_asynchronous_and_take_a_websocket():
    class Plain(roost.App):
        @roost.endpoint("/ws", is_websocket=True)
        def ws(self, socket: fastapi.WebSocket) -> None: ...

    class Without(roost.App):
        @roost.endpoint("/ws", is_websocket=True)
        async def ws(self, socket: str) -> None: ...

    with pytest.raises(ValueError, match=r"Plain\.ws\(\) is a websocket endpoint and must be written with `async def`"):
        await served(Plain)
    with pytest.raises(ValueError, match=r"annotated `fastapi\.WebSocket`"):
        await served(Without)


# Hooks


async def test_hooks_of_the_framework_can_be_overridden():
    seen: list[str] = []

    class Layer:
        def __init__(self, app: Any) -> None:
            self.inner = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])
            await self.inner(scope, receive, send)

    class App(Kitchen):
        def _add_extra_middlewares(self, app: fastapi.FastAPI) -> None:
            app.add_middleware(Layer)

        def _add_extra_routes(self, app: fastapi.FastAPI) -> None:
            super()._add_extra_routes(app)
            app.add_api_route("/extra", lambda: "extra", methods=["GET"])

        def _build_app(self) -> fastapi.FastAPI:
            app = super()._build_app()
            app.title = "mine"
            return app

        @asynccontextmanager
        async def lifespan(self, app: fastapi.FastAPI):
            async with super().lifespan(app):
                seen.append("up")
                yield
            seen.append("down")

    asgi = await served(App)
    async with asgi.router.lifespan_context(asgi), httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://app") as client:
        assert (await client.get("/extra")).json() == "extra"
        assert (await client.get("/health")).json() == {"version": "7"}
    assert asgi.title == "mine"
    assert seen == ["up", "http", "http", "down"]
