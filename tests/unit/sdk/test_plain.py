"""Which endpoints are plain: one JSON body, one JSON result, and nobody else's hand in between."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import fastapi
import pytest
from fastapi import Body, Depends, FastAPI, Header, Query, Request
from pydantic import BaseModel, field_validator

import roost
from roost.sdk import plain
from roost.sdk.app import create, forget
from roost.sdk.asgi import build_asgi


class Input(BaseModel):
    prompt: str = "x"


class Checked(BaseModel):
    prompt: str

    @field_validator("prompt")
    @classmethod
    def check(cls, value: str) -> str:
        return value


def found(cls: type[roost.App]) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOST_RUNNER", "1")
        app = create(cls)
    try:
        return sorted(plain.find(app, build_asgi(app)))
    finally:
        forget(app)


class Plain(roost.App):
    @roost.endpoint("/model")
    async def model(self, input: Input) -> Input:
        return input

    @roost.endpoint("/thread")
    def thread(self, input: Input):
        return input

    @roost.endpoint("/checked")
    async def checked(self, input: Checked) -> dict[str, Any]:
        return {}

    @roost.endpoint("/anything")
    async def anything(self, input):
        return input

    @roost.endpoint("/list")
    async def of_list(self, input: list[int]) -> list[int]:
        return input

    @roost.endpoint("/default")
    async def default(self, input: Input = Input()) -> fastapi.Response:
        return fastapi.Response()


def test_endpoints_with_one_body_are_plain():
    assert found(Plain) == ["/anything", "/checked", "/default", "/list", "/model", "/thread"]


def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return call


class NotPlain(roost.App):
    @roost.endpoint("/request")
    async def request(self, input: Input, request: Request) -> Input:
        return input

    @roost.endpoint("/response")
    async def response(self, input: Input, response: fastapi.Response) -> Input:
        return input

    @roost.endpoint("/background")
    async def background(self, input: Input, tasks: fastapi.BackgroundTasks) -> Input:
        return input

    @roost.endpoint("/two")
    async def two(self, input: Input, other: Input) -> Input:
        return input

    @roost.endpoint("/unannotated-two")
    async def unannotated_two(self, one, two):
        return one

    @roost.endpoint("/embedded")
    async def embedded(self, input: Annotated[Input, Body(embed=True)]) -> Input:
        return input

    @roost.endpoint("/query")
    async def query(self, input: Input, size: Annotated[int, Query()] = 1) -> Input:
        return input

    @roost.endpoint("/header")
    async def header(self, input: Input, size: Annotated[int, Header()] = 1) -> Input:
        return input

    @roost.endpoint("/depends")
    async def depends(self, input: Input, size: Annotated[int, Depends(lambda: 1)]) -> Input:
        return input

    @roost.endpoint("/path/{size}")
    async def path(self, input: Input, size: int) -> Input:
        return input

    @roost.endpoint("/stream")
    async def stream(self, input: Input):
        yield input

    @roost.endpoint("/thread-stream")
    def thread_stream(self, input: Input):
        yield input

    @roost.endpoint("/wrapped")
    @wrapped
    async def decorated(self, input: Input) -> Input:
        return input

    @roost.endpoint("/nothing")
    async def nothing(self) -> Input:
        return Input()


def test_endpoints_that_ask_for_more_or_less_are_not_plain():
    assert found(NotPlain) == []


class OneEach(roost.App):
    @roost.endpoint("/")
    async def run(self, input: Input) -> Input:
        return input


class Built(OneEach):
    def _build_app(self) -> FastAPI:
        return super()._build_app()


class WithMiddleware(OneEach):
    def _add_extra_middlewares(self, app: FastAPI) -> None:
        pass


class WithRoutes(OneEach):
    def _add_extra_routes(self, app: FastAPI) -> None:
        super()._add_extra_routes(app)


class WithLifespan(OneEach):
    @asynccontextmanager
    async def lifespan(self, app: FastAPI):
        yield


@pytest.mark.parametrize("cls", [Built, WithMiddleware, WithRoutes, WithLifespan])
def test_an_app_that_overrides_a_hook_has_no_plain_endpoints(cls: type[roost.App]):
    assert found(OneEach) == ["/"]
    assert found(cls) == []


def test_an_endpoint_behind_another_route_for_its_path_is_not_plain():
    class Shadowed(roost.App):
        @roost.endpoint("/{anything}")
        async def first(self, input: Input, anything: str) -> Input:
            return input

        @roost.endpoint("/later")
        async def later(self, input: Input) -> Input:
            return input

    assert found(Shadowed) == []


@pytest.mark.parametrize("how", ["exception handler", "debug", "root path", "middleware"])
def test_a_changed_application_has_no_plain_endpoints(how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROOST_RUNNER", "1")
    app = create(OneEach)
    try:
        asgi = build_asgi(app)
        if how == "debug":
            asgi.debug = True
        elif how == "root path":
            asgi.root_path = "/below"
        elif how == "middleware":
            asgi.add_middleware(lambda app: app)  # type: ignore[arg-type]
        else:
            asgi.add_exception_handler(ValueError, lambda request, error: fastapi.Response())
        assert plain.find(app, asgi) == {}
    finally:
        forget(app)


def test_a_tool_that_watches_fastapi_sees_every_call(monkeypatch: pytest.MonkeyPatch):
    original = fastapi.FastAPI.__call__

    @functools.wraps(original)
    async def watched(self: FastAPI, *args: Any) -> None:
        await original(self, *args)

    monkeypatch.setattr(fastapi.FastAPI, "__call__", watched)
    assert found(OneEach) == []
