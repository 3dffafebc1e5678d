"""Annotations under `from __future__ import annotations` reach a runner as values."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cloudpickle
import pytest
from fastapi import Depends, Header, Request
from pydantic import BaseModel

import roost
from roost.sdk.annotations import UnresolvedAnnotation, resolve_annotations

if TYPE_CHECKING:
    from decimal import Decimal


class Input(BaseModel):
    prompt: str


class Output(BaseModel):
    text: str


def caller(request: Request) -> str:
    return request.headers.get("x-caller", "nobody")


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


class Textual(roost.App):
    class Nested(BaseModel):
        size: int

    @roost.endpoint("/")
    def run(self, input: Input, tag: Annotated[str, Header(alias="x-tag")] = "", who: str = Depends(caller)) -> Output: ...

    @roost.endpoint("/nested")
    async def nested(self, input: Nested) -> list[Output] | None: ...

    @roost.endpoint("/none")
    def nothing(self, mode: Literal["a", "b"]) -> None: ...

    @roost.endpoint("/traced")
    @traced
    def decorated(self, input: Input) -> Output: ...


def test_texts_become_the_values_that_they_name():
    resolve_annotations(Textual)
    run = Textual.run.__annotations__
    assert run["input"] is Input and run["return"] is Output
    assert run["tag"].__metadata__[0].alias == "x-tag"
    assert Textual.nested.__annotations__ == {"input": Textual.Nested, "return": list[Output] | None}
    assert Textual.nothing.__annotations__ == {"mode": Literal["a", "b"], "return": None}
    assert Textual.decorated.__annotations__["input"] is Input
    assert caller.__annotations__["request"] is Request


def test_they_may_be_resolved_again():
    resolve_annotations(Textual)
    before = dict(Textual.run.__annotations__)
    resolve_annotations(Textual)
    assert Textual.run.__annotations__ == before


def test_texts_inside_of_values_are_resolved_too():
    class App(roost.App):
        @roost.endpoint("/")
        def run(self, input: Any, other: Any) -> Any: ...

    App.run.__annotations__.update(input=list["Input"], other=Annotated["Output", "a text that is metadata"])
    resolve_annotations(App)
    assert App.run.__annotations__["input"] == list[Input]
    assert App.run.__annotations__["other"] == Annotated[Output, "a text that is metadata"]


AUTHOR = """
from __future__ import annotations
import roost
from pydantic import BaseModel

class Given(BaseModel):
    prompt: str

class Author(roost.App, keep_alive=7):
    @roost.endpoint("/")
    def run(self, input: Given, *, times: int = 1) -> Given:
        return input

    @roost.endpoint("/any")
    def anything(self, data):
        return data
"""
RUNNER = """
import pickle, sys
from roost.sdk.app import create
from roost.sdk.asgi import build_asgi
cls = pickle.load(sys.stdin.buffer)
assert "Given" not in cls.run.__globals__
print(cls.keep_alive, *build_asgi(create(cls)).openapi()["components"]["schemas"])
"""


def test_a_resolved_class_that_was_pickled_by_value_serves_in_another_process():
    module = types.ModuleType("a_module_that_no_runner_has")
    exec(AUTHOR, vars(module))
    resolve_annotations(module.Author)
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER], input=cloudpickle.dumps(module.Author), capture_output=True, check=False
    )
    assert answer.stderr == b""
    assert answer.stdout.split()[:2] == [b"7", b"Given"]


@pytest.mark.parametrize(
    ("annotation", "says"), [("Decimal", "name 'Decimal' is not defined"), ("Missing.Thing", "'Missing'"), ("list[", "SyntaxError")]
)
def test_a_name_that_is_not_there_is_an_error_that_says_where(annotation: str, says: str):
    class App(roost.App):
        @roost.endpoint("/")
        def run(self, input: Any) -> Any: ...

    App.run.__annotations__["input"] = annotation
    with pytest.raises(UnresolvedAnnotation, match=says) as caught:
        resolve_annotations(App)
    assert "'input' of App.run()" in str(caught.value)


def unused(value: Decimal) -> None:
    """Keeps the import that only type checkers see."""
