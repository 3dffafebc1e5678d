"""A server as scripted answers, for tests of the control client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from roost.client.config import Target
from roost.control.api import Api

TARGET = Target("http://127.0.0.1:8700", "id:secret", key_from="ROOST_KEY")


def api(answer: Callable[[httpx.Request], httpx.Response], target: Target = TARGET) -> Api:
    return Api(target, transport=httpx.MockTransport(answer))


class Lines(httpx.SyncByteStream):
    """An NDJSON body. `breaks`: after the last line the connection breaks, instead of ending."""

    def __init__(self, *values: dict[str, Any], breaks: bool = False) -> None:
        self._values = values
        self._breaks = breaks
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for value in self._values:
            yield json.dumps(value).encode() + b"\n"
        if self._breaks:
            raise httpx.ReadError("connection reset")

    def close(self) -> None:
        self.closed = True


class Script:
    """Answers each request with the next of `answers`: a response, a body of lines, or an exception to raise."""

    def __init__(self, *answers: httpx.Response | Lines | Exception) -> None:
        self._answers = iter(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(200, stream=answer) if isinstance(answer, Lines) else answer

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
