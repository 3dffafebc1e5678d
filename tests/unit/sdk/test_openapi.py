from __future__ import annotations

from typing import Any

import pytest
from fastapi import WebSocket
from pydantic import BaseModel

import roost
from roost.sdk.openapi import OpenAPIError, build_openapi


class Input(BaseModel):
    zebra: str
    apple: int = 1


class Output(BaseModel):
    text: str


class Painter(roost.App):
    @roost.endpoint("/z")
    def paint(self, input: Input) -> Output:
        """Paints a picture.

        Slowly.
        """
        raise NotImplementedError

    @roost.endpoint("/a")
    def anything(self, data): ...

    @roost.endpoint("/ws", is_websocket=True)
    async def talk(self, socket: WebSocket) -> None: ...


def test_the_document_describes_every_endpoint_under_post():
    document = build_openapi(Painter)
    assert document["openapi"] == "3.1.0"
    assert (document["info"]["title"], document["info"]["version"]) == ("FastAPI", "0.1.0")
    paint = document["paths"]["/z"]["post"]
    assert paint["description"] == "Paints a picture.\n\nSlowly."
    assert paint["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Input"}
    assert paint["responses"]["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Output"}
    assert document["paths"]["/a"]["post"]["requestBody"]["required"] is True
    assert "get" in document["paths"]["/health"]


def test_the_order_of_paths_and_properties_is_marked():
    document = build_openapi(Painter)
    assert document["x-fal-order-paths"] == ["/z", "/a", "/health", "/ws"]
    assert document["components"]["schemas"]["Input"]["x-fal-order-properties"] == ["zebra", "apple"]


def test_a_websocket_has_a_path_that_says_so():
    assert build_openapi(Painter)["paths"]["/ws"] == {"x-fal-protocol": {"type": "websocket", "operationId": "talk"}}


def test_the_class_answers_its_document_and_metadata():
    assert Painter.openapi() == build_openapi(Painter)
    assert Painter.build_metadata() == {"openapi": Painter.openapi()}


def _not_a_type() -> type[roost.App]:
    class Odd(roost.App):
        @roost.endpoint("/")
        def run(self, input: Any) -> Any: ...

    Odd.run.__annotations__["input"] = object()
    return Odd


@pytest.mark.parametrize(("make", "says"), [(lambda: type("Empty", (roost.App,), {}), "Empty has no endpoint"), (_not_a_type, "Odd")])
def test_a_class_that_cannot_be_described_is_an_error_with_the_known_beginning(make: Any, says: str):
    with pytest.raises(OpenAPIError, match=r"^Failed to generate OpenAPI metadata") as caught:
        build_openapi(make())
    assert says in str(caught.value)


def test_describing_leaves_no_current_app_behind():
    build_openapi(Painter)
    assert roost.get_current_app() is None
