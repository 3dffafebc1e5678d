"""One request as the handlers see it: who asks, what the address says, and a body that is read up to a limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from roost.web.answers import Receive, Scope
from roost.web.auth import Principal
from roost.wire.errors import RoostError

JSON_LIMIT: Final = 32 * 1024 * 1024
MAX_DEPTH: Final = 64
"""Of lists and objects inside one another: whoever walks through a value later must not run out of stack (faults.md S-24)."""
STALL_S: Final = 30.0


class CallerGone(Exception):
    """The caller hung up before its request had arrived. Nobody is there to be answered."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a caller who may make it."""

    scope: Scope
    receive: Receive
    principal: Principal
    params: Mapping[str, str]
    """The parts of the path that the route leaves open."""
    query: Mapping[str, str]

    @property
    def owner(self) -> str:
        return self.principal.owner

    @property
    def actor(self) -> str:
        """Who did it, for the timeline."""
        return f"key:{self.principal.key_id}"

    async def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty one. Raises `bad_request`, `payload_too_large`."""
        body = b"".join([chunk async for chunk in self.chunks(JSON_LIMIT)])
        if not body.strip():
            return {}
        try:
            value = json.loads(body)
        except RecursionError as error:
            raise _too_deep() from error
        except ValueError as error:
            raise RoostError("bad_request", f"the body is not valid JSON: {error}") from error
        if _deeper(value, MAX_DEPTH):
            raise _too_deep()
        if not isinstance(value, dict):
            raise RoostError("bad_request", f"the body must be a JSON object, not {_kind(value)}")
        return value

    async def chunks(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `payload_too_large` (before reading, if the caller said how much comes), `bad_request` on a stall."""
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        size = 0
        while True:
            try:
                message = await asyncio.wait_for(self.receive(), STALL_S)
            except (asyncio.TimeoutError, TimeoutError):
                raise RoostError("bad_request", f"the request's body stopped arriving for {STALL_S:g} s", status=408) from None
            if message["type"] != "http.request":
                raise CallerGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            yield chunk
            if not message.get("more_body", False):
                return

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.scope["headers"] if key.lower() == name), b"")

    def flag(self, name: str) -> bool:
        """`?name=1` or `?name=true`."""
        return self.query.get(name, "").lower() in ("1", "true", "yes")

    def whole(self, name: str) -> int | None:
        """A whole number of the query that is not negative; None if it is not there. Raises `unprocessable`."""
        text = self.query.get(name)
        if text is None:
            return None
        # A number of more digits than a moment has is a mistake, and Python refuses to read very long ones.
        if not text.isdecimal() or len(text) > 15:
            raise RoostError("unprocessable", f"{name}={text[:40]!r} is not a whole number")
        return int(text)


def _deeper(value: object, depth: int) -> bool:
    """Whether there are more lists and objects inside one another than `depth`."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        if not level:
            return False
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list))
        ]
    return bool(level)


def _too_deep() -> RoostError:
    return RoostError("bad_request", f"the body is nested deeper than {MAX_DEPTH} lists and objects inside one another")


def _too_large(limit: int) -> RoostError:
    return RoostError("payload_too_large", f"the request's body is larger than {limit} bytes", hint="That is the limit of this address.")


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
