from __future__ import annotations

import json
import shlex
from typing import Any, Literal, Optional

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, HttpUrl

from roost.cli.curl import curl_line, example


class Inner(BaseModel):
    mode: Literal["fast", "slow"]
    tags: list[str] = Field(min_length=2)


class Input(BaseModel):
    prompt: str = Field(examples=["it's a cat"])
    steps: int = Field(ge=4)
    strength: float = Field(gt=0, lt=1)
    name: str = Field(min_length=8, max_length=9)
    where: HttpUrl
    inner: Inner
    multiple: int = Field(multiple_of=7, gt=7)
    maybe: Optional[int] = None  # noqa: UP045 - the old spelling makes the same schema
    either: Inner | int
    extra: int = Field(default=3)
    hinted: int = Field(default=3, examples=[5])


class Node(BaseModel):
    child: Node | None = None
    children: list[Node]


def _openapi() -> dict[str, Any]:
    app = FastAPI()

    @app.post("/")
    def root(input: Input) -> None: ...

    @app.post("/node")
    def node(input: Node) -> None: ...

    @app.get("/health")
    def health() -> None: ...

    @app.post("/bare")
    def bare() -> None: ...

    @app.post("/stream", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
    def stream() -> None: ...

    return app.openapi()


OPENAPI = _openapi()


def _body(line: str) -> Any:
    words = shlex.split(line)
    return json.loads(words[words.index("-d") + 1])


def test_the_example_body_is_accepted_by_the_model_that_it_is_for() -> None:
    line = curl_line("http://h/me/app", "/", OPENAPI)
    body = _body(line)
    Input.model_validate(body)
    assert body["prompt"] == "it's a cat"
    assert body["hinted"] == 5
    assert "extra" not in body and "maybe" not in body


def test_a_schema_that_contains_itself_ends() -> None:
    Node.model_validate(_body(curl_line("http://h/me/app/node", "/node", OPENAPI)))


def test_the_line_is_what_a_person_would_write() -> None:
    openapi = {
        "paths": {
            "/": {"post": {"requestBody": {"content": {"application/json": {"schema": {"type": "object", "example": {"a": "it's"}}}}}}}
        }
    }
    assert curl_line("http://h/me/app", "/", openapi) == (
        """curl http://h/me/app -H 'Content-Type: application/json' -d '{"a": "it'\\''s"}'"""
    )


def test_a_private_app_takes_the_key_from_the_shell() -> None:
    line = curl_line("http://h/me/app/health", "/health", OPENAPI, key="$ROOST_KEY")
    assert line == 'curl http://h/me/app/health -H "Authorization: Key $ROOST_KEY"'


def test_methods_and_streams_get_the_flags_that_they_need() -> None:
    assert curl_line("http://h/a/bare", "/bare", OPENAPI) == "curl http://h/a/bare -X POST"
    assert curl_line("http://h/a/stream", "/stream", OPENAPI) == "curl -N http://h/a/stream -X POST"


def test_an_endpoint_without_a_description_is_posted_an_empty_object() -> None:
    assert _body(curl_line("http://h/a/x", "/x", {})) == {}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -5}, -5),
        ({"type": "integer", "exclusiveMaximum": 1}, 0),
        ({"type": "boolean"}, False),
        ({"type": ["string", "null"]}, "string"),
        ({"type": "string", "format": "uuid"}, "00000000-0000-4000-8000-000000000000"),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}]}, {"a": 1}),
        ({}, {}),
    ],
)
def test_the_smallest_value_of_a_schema(schema: dict[str, Any], value: Any) -> None:
    assert example(schema, {}) == value
