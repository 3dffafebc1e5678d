"""`AppClient.local`: an app called in an author's own tests."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel

import roost


class Input(BaseModel):
    prompt: str


class Output(BaseModel):
    text: str


class Greeter(roost.App):
    events: list[str] = []

    async def setup(self) -> None:
        await asyncio.sleep(0)
        self.loop = asyncio.get_running_loop()
        self.events.append(f"setup {os.environ['FAL_RUNNER_STATE']}")

    async def teardown(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.events.append("teardown")

    @roost.endpoint("/")
    def greet(self, input: Input) -> Output:
        assert roost.get_current_app() is self
        return Output(text=f"hello {input.prompt}")

    @roost.endpoint("/raw")
    async def raw(self, data) -> dict[str, Any]:
        assert self.current_request is not None
        return {"data": data, "id": bool(self.current_request.request_id), "endpoint": self.current_request.endpoint}

    @roost.endpoint("/text")
    def text(self) -> PlainTextResponse:
        return PlainTextResponse("plain")

    @roost.endpoint("/bytes")
    def picture(self) -> Response:
        return Response(b"\x89PNG", media_type="image/png")

    @roost.endpoint("/fails")
    def fails(self) -> None:
        raise roost.AppException("out of cheese", 418)


def test_an_endpoint_takes_a_model_or_json_and_answers_its_model():
    with roost.AppClient.local(Greeter) as client:
        assert client.greet(Input(prompt="you")) == Output(text="hello you")
        assert client.greet({"prompt": "me"}) == Output(text="hello me")
        assert client.raw([1, 2]) == {"data": [1, 2], "id": True, "endpoint": "local/greeter/raw"}
        assert client.text() == "plain"
        assert client.picture() == b"\x89PNG"
        assert client.health() == {"version": "unknown"}


def test_setup_and_teardown_run_once_and_nothing_stays_behind():
    Greeter.events.clear()
    threads = threading.active_count()
    with roost.AppClient.local(Greeter):
        assert Greeter.events == ["setup SETUP"]
        assert os.environ["FAL_RUNNER_STATE"] == "RUNNING"
    assert Greeter.events == ["setup SETUP", "teardown"]
    assert roost.get_current_app() is None
    assert "FAL_RUNNER_STATE" not in os.environ and "IS_ISOLATE_AGENT" not in os.environ
    assert threading.active_count() <= threads


def test_an_error_of_the_app_has_its_status_message_and_headers():
    with roost.AppClient.local(Greeter) as client:
        with pytest.raises(roost.AppClientError, match="418 out of cheese") as caught:
            client.fails()
        assert caught.value.status_code == 418
        with pytest.raises(roost.AppClientError, match="prompt") as caught:
            client.greet({})
        assert caught.value.headers["x-fal-billable-units"] == "0"


def test_what_setup_raises_comes_through():
    class Broken(Greeter):
        async def setup(self) -> None:
            raise FileNotFoundError("weights.bin")

    with pytest.raises(FileNotFoundError, match=r"weights\.bin"), roost.AppClient.local(Broken):
        pass
    assert roost.get_current_app() is None


def test_what_teardown_raises_comes_through():
    class Broken(Greeter):
        async def teardown(self) -> None:
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"), roost.AppClient.local(Broken):
        pass


def test_an_unknown_endpoint_is_an_attribute_error_that_lists_the_others():
    with roost.AppClient.local(Greeter) as client, pytest.raises(AttributeError, match=r"no endpoint 'greeet'\. It has: greet, raw"):
        client.greeet()


async def test_it_works_inside_of_a_test_that_has_a_loop():
    with roost.AppClient.local(Greeter) as client:
        assert client.greet({"prompt": "you"}).text == "hello you"


def test_two_apps_can_be_called_side_by_side():
    class Other(Greeter):
        @roost.endpoint("/other")
        def other(self) -> str:
            return "other"

    with roost.AppClient.local(Greeter) as one, roost.AppClient.local(Other) as two:
        assert two.other() == "other"
        assert one.text() == two.text()
