"""Whatever is sent to a plain endpoint, the short way and FastAPI answer alike: status, headers in order, body, and what the handler was given."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import decimal
import enum
import io
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator, model_validator
from starlette.background import BackgroundTask
from starlette.responses import Response

import roost
from roost.runner.direct import Direct, in_front_of
from roost.sdk.app import create, forget
from roost.sdk.asgi import build_asgi
from roost.sdk.exceptions import AppException, FieldException, GPUException, RequestCancelledException
from roost.sdk.lifecycle import run_setup


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(BaseModel):
    x: float
    y: float = 0


class Everyday(BaseModel):
    prompt: str = Field(min_length=1, max_length=20)
    steps: int = Field(default=4, ge=1, le=50)
    scale: float = 7.5
    fast: bool = False
    seed: int | None = None
    tags: list[str] = []
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] = "a"
    points: list[Point] = []
    extra: dict[str, Any] = {}


class Exotic(BaseModel):
    at: dt.datetime | None = None
    day: dt.date | None = None
    clock: dt.time | None = None
    span: dt.timedelta | None = None
    ident: uuid.UUID | None = None
    money: decimal.Decimal | None = None
    raw: bytes | None = None
    pair: tuple[int, str] | None = None
    unique: set[int] | None = None
    level: Level | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    prompt: str
    steps: int = 1
    scale: float = 1.0
    at: dt.datetime | None = None
    colour: Colour = Colour.RED
    pair: tuple[int, int] = (1, 2)


class Cat(BaseModel):
    kind: Literal["cat"]
    steps: int


class Dog(BaseModel):
    kind: Literal["dog"]
    steps: str


class Either(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    value: int | float | str | bool | list[int] | None = None


class Checked(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    prompt: str = Field(alias="the-prompt")
    steps: int = 1

    @field_validator("prompt")
    @classmethod
    def no_shouting(cls, value: str) -> str:
        RAN.append(f"validator {value!r}")
        if value.isupper():
            raise ValueError("do not shout")
        if value == "teapot":
            raise HTTPException(418, "short and stout")
        return value.strip()

    @model_validator(mode="after")
    def not_too_many(self) -> Checked:
        assert self.steps < 10, "too many"
        return self


class Output(BaseModel):
    text: str
    number: float = 0.1
    at: dt.datetime | None = None

    @computed_field
    @property
    def length(self) -> int:
        return len(self.text)


class Named(BaseModel):
    text: str = Field(serialization_alias="theText")
    colour: Colour = Colour.BLUE


@dataclass
class Record:
    name: str
    at: dt.date = dt.date(2024, 2, 29)


class Order(BaseModel):
    """What the handler shall do."""

    do: str


RAN: list[str] = []
"""What of the author's code ran, in order. Each way must run the same, once."""


def _ran(value: object) -> None:
    RAN.append(repr(value))


def _reader() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


async def _async_reader() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def _with_cookie() -> Response:
    response = JSONResponse([1])
    response.set_cookie("session", "1")
    return response


def _grouped() -> Exception:
    error = Exception("a group's member")
    error.__cause__ = AppException("inner", 409)
    return error


RESULTS: dict[str, Any] = {
    "none": lambda: None,
    "text": lambda: "plain, ünïcode \u2028 \x00",
    "number": lambda: 1e16,
    "small": lambda: 1e-7,
    "nan": lambda: float("nan"),
    "nested nan": lambda: {"a": [float("inf")]},
    "big": lambda: 2**70,
    "dict": lambda: {"b": 1, "a": [True, None, 1.0], 3: "three"},
    "set": lambda: {"only"},
    "dates": lambda: {"at": dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), "span": dt.timedelta(days=1)},
    "decimal": lambda: decimal.Decimal("1.50"),
    "bytes": lambda: b"bytes",
    "not utf-8": lambda: b"\xff",
    "enum": lambda: [Colour.RED, Level.HIGH],
    "record": lambda: Record("one"),
    "model": lambda: Output(text="hé", number=1e22, at=dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)),
    "model with nan": lambda: Output(text="x", number=float("nan")),
    "aliased model": lambda: Named(text="t"),
    "as dict": lambda: {"text": "from a dict", "number": 3},
    "wrong": lambda: {"number": "many"},
    "object": object,
    "surrogate": lambda: "\ud800",
    "plain text": lambda: PlainTextResponse("hello"),
    "created": lambda: JSONResponse({"id": 1}, 201, {"location": "/1", "x-fal-billable-units": "3"}),
    "nothing": lambda: Response(status_code=204),
    "elsewhere": lambda: RedirectResponse("/elsewhere"),
    "stream": lambda: StreamingResponse(_reader(), media_type="text/event-stream"),
    "async stream": lambda: StreamingResponse(_async_reader()),
    "later": lambda: PlainTextResponse("now", background=BackgroundTask(_ran, "later")),
    "cookie": _with_cookie,
}
RAISED: dict[str, Any] = {
    "404": lambda: HTTPException(404),
    "418": lambda: HTTPException(418, {"why": "teapot"}, {"x-why": "tea"}),
    "204 raised": lambda: HTTPException(204),
    "app": lambda: AppException("no", 409),
    "field": lambda: FieldException("prompt", "is rude", billable_units=2),
    "bad units": lambda: FieldException("prompt", "is rude", billable_units="many"),  # type: ignore[arg-type]
    "cancelled": RequestCancelledException,
    "gpu": GPUException,
    "cuda": lambda: RuntimeError("CUDA error: an illegal memory access"),
    "bug": lambda: KeyError("missing"),
    "group": _grouped,
    "validation": lambda: RequestValidationError([{"type": "x", "loc": ("body", "a"), "msg": "m", "input": b"\xff"}]),
    "stop": StopAsyncIteration,
}


def outcome(order: Order) -> Any:
    _ran(order)
    if order.do in RAISED:
        error = RAISED[order.do]()
        raise error
    return RESULTS[order.do]() if order.do in RESULTS else {"unknown": order.do}


class Kitchen(roost.App):
    """Plain endpoints of every sort."""

    @roost.endpoint("/everyday")
    async def everyday(self, input: Everyday) -> Everyday:
        _ran(input)
        return input

    @roost.endpoint("/everyday-in-a-thread")
    def everyday_in_a_thread(self, input: Everyday) -> Everyday:
        _ran(input)
        return input

    @roost.endpoint("/exotic")
    async def exotic(self, input: Exotic) -> Exotic:
        _ran(input)
        return input

    @roost.endpoint("/strict")
    async def strict(self, input: Strict) -> Strict:
        _ran(input)
        return input

    @roost.endpoint("/either")
    async def either(self, input: Either):
        _ran(input)
        return input

    @roost.endpoint("/checked")
    async def checked(self, input: Checked) -> dict[str, Any]:
        _ran(input)
        return {"prompt": input.prompt}

    @roost.endpoint("/anything")
    async def anything(self, input):
        _ran(input)
        return input

    @roost.endpoint("/numbers")
    async def numbers(self, input: list[float]) -> list[int | float]:
        _ran(input)
        return list(input)

    @roost.endpoint("/perhaps")
    async def perhaps(self, input: Everyday | None = None) -> str:
        _ran(input)
        return "with" if input else "without"

    @roost.endpoint("/do")
    async def do(self, order: Order):
        return outcome(order)

    @roost.endpoint("/do-in-a-thread")
    def do_in_a_thread(self, order: Order):
        return outcome(order)

    @roost.endpoint("/do-output")
    async def do_output(self, order: Order) -> Output:
        return outcome(order)

    @roost.endpoint("/do-output-in-a-thread")
    def do_output_in_a_thread(self, order: Order) -> Output:
        return outcome(order)

    @roost.endpoint("/do-named")
    async def do_named(self, order: Order) -> Named:
        return outcome(order)

    @roost.endpoint("/who")
    async def who(self, order: Order) -> dict[str, Any]:
        request = self.current_request
        assert request is not None
        return {"id": request.request_id, "endpoint": request.endpoint, "headers": request.headers, "policy": request.upload_policy}


class Hinting(Kitchen):
    """The same, with routing hints in each answer."""

    def provide_hints(self) -> list[str]:
        return ["model-a", "ünsendable\u2028"]


class FailingHints(Kitchen):
    def provide_hints(self) -> list[str]:
        raise AppException("no hints", 409)


@dataclass(frozen=True)
class Call:
    """One request, and how its body arrives."""

    path: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)
    method: str = "POST"
    query: bytes = b""
    pieces: int = 1
    lost: bool = False
    """The caller hangs up before the whole body has arrived."""


@dataclass
class Answer:
    heads: list[tuple[int, list[tuple[bytes, bytes]]]] = field(default_factory=list)
    body: bytes = b""
    ended: int = 0
    raised: str = ""
    ran: list[str] = field(default_factory=list)
    printed: bool = False


async def send(asgi: Any, call: Call) -> Answer:
    """What this application answers."""
    answer = Answer()
    size = -(-len(call.body) // call.pieces) or 1
    cuts = [call.body[start : start + size] for start in range(0, len(call.body), size)] or [b""]
    inbox: list[dict[str, Any]] = [{"type": "http.request", "body": cut, "more_body": cut is not cuts[-1]} for cut in cuts]
    if call.lost:
        inbox[-1] = {"type": "http.disconnect"}

    async def receive() -> dict[str, Any]:
        if not inbox:
            await asyncio.Event().wait()
        return inbox.pop(0)

    async def take(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.heads.append((message["status"], [(bytes(name), bytes(value)) for name, value in message["headers"]]))
        else:
            answer.body += message.get("body", b"")
            answer.ended += not message.get("more_body", False)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query,
        "root_path": "",
        "headers": [(b"host", b"testserver"), *call.headers, (b"x-fal-request-id", b"one"), (b"content-length", b"%d" % len(call.body))],
        "client": None,
        "server": None,
        "state": {},
    }
    RAN.clear()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            await asgi(scope, receive, take)
        except Exception as error:
            answer.raised = f"{type(error).__name__}: {error}"
    answer.ran = list(RAN)
    answer.printed = bool(printed.getvalue())
    return answer


@dataclass
class Ways:
    """One app with and without the short way to it."""

    app: roost.App
    fastapi: Any
    direct: Any

    def differ(self, call: Call) -> Answer:
        """The one answer of both ways; fails where they differ."""

        async def both() -> tuple[Answer, Answer]:
            return await send(self.fastapi, call), await send(self.direct, call)

        expected, given = asyncio.run(both())
        assert given == expected, call
        return given


def ways(cls: type[roost.App]) -> Iterator[Ways]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOST_RUNNER", "1")
        patch.delenv("ROOST_DIRECT", raising=False)
        app = create(cls)
        try:
            asyncio.run(run_setup(app))
            fastapi = build_asgi(app)
            direct = in_front_of(fastapi, app)
            assert isinstance(direct, Direct)
            yield Ways(app, fastapi, direct)
        finally:
            forget(app)


@pytest.fixture(scope="module")
def kitchen() -> Iterator[Ways]:
    yield from ways(Kitchen)


@pytest.fixture(scope="module")
def hinting() -> Iterator[Ways]:
    yield from ways(Hinting)


@pytest.fixture(scope="module")
def failing_hints() -> Iterator[Ways]:
    yield from ways(FailingHints)


# What callers send

WORDS = ("", "a", "cat", "LOUD", "teapot", "red", "1", "1.0", "true", "2024-01-02T03:04:05Z", "2024-01-02", "03:04", "P1D", "ünï", "\ud800")
NUMBERS = (0, 1, -1, 2, 10, 50, 51, 2**53 + 1, 2**70, 1.0, 1.5, -0.0, 1e16, 1e-7, 1e400, float("nan"))
scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.integers(), st.floats(), st.text(max_size=5)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3), max_leaves=4
)
KEYS = (
    *("prompt", "steps", "scale", "fast", "seed", "tags", "colour", "kind", "points", "extra"),
    *("at", "day", "clock", "span", "ident", "money", "raw", "pair", "unique", "level", "pet", "value", "the-prompt", "do"),
)
shaped = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.sampled_from(WORDS),
        "the-prompt": st.sampled_from(WORDS),
        "steps": st.sampled_from(NUMBERS),
        "tags": st.lists(st.sampled_from(WORDS), max_size=2),
        "colour": st.sampled_from(["red", "blue", "green"]),
        "points": st.lists(st.fixed_dictionaries({"x": scalars}), max_size=2),
        "pet": st.sampled_from([{"kind": "cat", "steps": 1}, {"kind": "dog", "steps": "1"}, {"kind": "dog", "steps": 1}, {"kind": "fish"}]),
        "pair": st.sampled_from([[1, "a"], [1, 2], [1], "ab"]),
        "do": st.sampled_from([*RESULTS, *RAISED]),
    },
)
bodies = st.one_of(shaped, st.dictionaries(st.sampled_from(KEYS), values, max_size=4), values).map(json.dumps)
mangled = st.one_of(
    bodies.map(str.encode),
    bodies.map(lambda text: text.encode("utf-16")),
    bodies.map(lambda text: text.encode("utf-32-le")),
    bodies.map(lambda text: text.encode("utf-8-sig")),
    bodies.map(lambda text: text.encode()[:-1]),
    bodies.map(lambda text: b" \r\n" + text.encode() + b"\n"),
    bodies.map(lambda text: text.encode() + b"\x00"),
    st.sampled_from(
        [
            *(
                b"",
                b" ",
                b"null",
                b"{",
                b"[]",
                b"{}",
                b'"text"',
                b"\xff\xfe",
                b'{"prompt": "\xff"}',
                b"\xef\xbb\xbf{}",
                b"NaN",
                b"-Infinity",
            ),
            *(b'{"prompt": "a", "prompt": "b"}', b'{"prompt": "\\ud800"}', b"[" * 100_000, b'{"a":' * 400 + b"1" + b"}" * 400, b"1" * 5000),
            *(b"prompt=a&steps=1", b"01", b"{'prompt': 'a'}", b'{"prompt": "a",}', b'{"prompt": "\t"}'),
        ]
    ),
)
CONTENT_TYPES = (
    *(
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/json;charset=utf-8",
        b"APPLICATION/JSON",
        b"application/ld+json",
    ),
    *(b"application/json; charset=utf-16", b"application/json; charset=latin-1", b"text/plain", b"application/x-www-form-urlencoded", b""),
    *(b"multipart/form-data; boundary=x", b"application/jsonp", b" application/json", b"application/json;", b"*/*", b"\xff"),
)
POLICY = b'{"url": "https://bucket.s3.amazonaws.com/", "fields": {"key": "out/${filename}"}}'
fields = st.lists(
    st.one_of(
        st.sampled_from(CONTENT_TYPES).map(lambda value: (b"content-type", value)),
        st.sampled_from(
            [
                *((b"origin", b"https://page.example"), (b"content-encoding", b"gzip"), (b"accept", b"text/html"), (b"expect", b"x")),
                *((b"x-app-fal-upload-policy", POLICY), (b"x-app-fal-upload-policy", b"{"), (b"x-fal-object-lifecycle-preference", b"{}")),
            ]
        ),
    ),
    max_size=3,
).map(tuple)
PATHS = tuple(Kitchen.get_endpoints())


# They answer alike


@settings(max_examples=500)
@given(path=st.sampled_from(PATHS), body=bodies)
def test_usual_calls_are_answered_as_by_fastapi(kitchen: Ways, path: str, body: str):
    kitchen.differ(Call(path, body.encode()))


@settings(max_examples=400)
@given(
    path=st.sampled_from([*PATHS, "/health", "/nowhere", "/everyday/", "//everyday", "/docs"]),
    body=mangled,
    headers=fields,
    method=st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "PUT", "HEAD"]),
    query=st.sampled_from([b"", b"", b"a=1"]),
    pieces=st.integers(1, 3),
    lost=st.sampled_from([False, False, False, True]),
)
def test_unusual_calls_are_answered_as_by_fastapi(
    kitchen: Ways, path: str, body: bytes, headers: Any, method: str, query: bytes, pieces: int, lost: bool
):
    kitchen.differ(Call(path, body, headers, method, query, pieces, lost))


@settings(max_examples=150)
@given(path=st.sampled_from(PATHS), body=mangled)
def test_bodies_of_every_encoding_are_read_as_by_fastapi(kitchen: Ways, path: str, body: bytes):
    kitchen.differ(Call(path, body))


@pytest.mark.parametrize("what", [*RESULTS, *RAISED])
@pytest.mark.parametrize("path", ["/do", "/do-in-a-thread", "/do-output", "/do-output-in-a-thread", "/do-named"])
def test_every_outcome_is_answered_as_by_fastapi(kitchen: Ways, path: str, what: str):
    answer = kitchen.differ(Call(path, json.dumps({"do": what}).encode()))
    assert answer.ran[0] == repr(Order(do=what))


@pytest.mark.filterwarnings("ignore:routing hint")
@pytest.mark.parametrize("what", ["dict", "plain text", "stream", "wrong", *RAISED])
def test_routing_hints_are_sent_as_by_fastapi(hinting: Ways, failing_hints: Ways, what: str):
    for path in ("/do", "/do-output-in-a-thread"):
        hinting.differ(Call(path, json.dumps({"do": what}).encode()))
        failing_hints.differ(Call(path, json.dumps({"do": what}).encode()))


def test_the_handler_sees_the_same_request(kitchen: Ways):
    answer = kitchen.differ(Call("/who", b'{"do": "look"}'))
    assert json.loads(answer.body)["id"] == "one"


# And the short way is taken


def test_a_usual_call_does_not_reach_fastapi(kitchen: Ways, monkeypatch: pytest.MonkeyPatch):
    async def unreachable(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("this call took the long way")

    short = Direct(kitchen.fastapi, kitchen.direct._endpoints, kitchen.app)
    short._app = unreachable  # type: ignore[assignment]
    for path in PATHS:
        for body in (b'{"prompt": "a", "the-prompt": "b", "do": "dict"}', b"[1, 2.5]"):
            answer = asyncio.run(send(short, Call(path, body)))
            assert answer.heads and not answer.raised
