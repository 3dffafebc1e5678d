"""A server with one queued request, as far as a client can see it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

ID = "11111111-2222-4333-8444-555555555555"
HOST = "http://far.example:8700/base"
REQUEST = f"/base/_queue/me/hello/requests/{ID}"

QUEUED = {"status": "IN_QUEUE", "request_id": ID, "queue_position": 2, "response_url": "http://elsewhere/"}
RUNNING = {"status": "IN_PROGRESS", "request_id": ID, "logs": None}
DONE = {"status": "COMPLETED", "request_id": ID, "logs": None, "metrics": {"inference_time": 0.5}}


def line(text: str) -> dict[str, str]:
    return {"message": text, "timestamp": "2030-01-01T00:00:00", "level": "STDOUT", "source": "USER"}


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A status stream: each value is an event; an exception breaks the connection there."""

    def __init__(self, *events: dict[str, Any] | Exception) -> None:
        self._events = events
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b": ping\n\n"
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield f"data: {json.dumps(event)}\n\n".encode()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


Scripted = httpx.Response | Stream | dict[str, Any] | Exception


@dataclass
class FakeServer:
    """Answers each kind of call with the next of its script; the last one is repeated. A dict is a JSON answer, an exception is raised."""

    submit: list[Scripted] = field(default_factory=lambda: [{"request_id": ID, "status": "IN_QUEUE", "response_url": "http://elsewhere/"}])
    status: list[Scripted] = field(default_factory=lambda: [DONE])
    stream: list[Scripted] = field(default_factory=lambda: [Stream(QUEUED, RUNNING, DONE)])
    result: list[Scripted] = field(default_factory=lambda: [{"text": "Hello"}])
    cancel: list[Scripted] = field(default_factory=lambda: [httpx.Response(202, json={"status": "CANCELLATION_REQUESTED"})])
    direct: list[Scripted] = field(default_factory=lambda: [{"text": "Hello"}])
    seen: list[httpx.Request] = field(default_factory=list[httpx.Request])

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.seen.append(request)
        script = getattr(self, self.kind(request))
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Stream):
            return httpx.Response(200, stream=answer, headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json=answer) if isinstance(answer, dict) else answer

    async def later(self, request: httpx.Request) -> httpx.Response:
        return self(request)

    @property
    def kinds(self) -> list[str]:
        return [self.kind(request) for request in self.seen]

    @staticmethod
    def kind(request: httpx.Request) -> str:
        path = request.url.path
        if "/_queue/" not in path:
            return "direct"
        if "/requests/" not in path:
            return "submit"
        return {"status": "status", "stream": "stream", "cancel": "cancel"}.get(path.rpartition("/")[2], "result")
