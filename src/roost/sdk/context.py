"""What a handler may know about the request that it serves (spec: app-lifecycle.md §9).

The context variable holds the bare ASGI scope: a handler that never looks pays for one `set`, one `reset` and the time of day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, MutableMapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from time import time
from typing import Any, cast

Scope = MutableMapping[str, Any]
_CACHED = "roost.request_context"
_BEGAN = "roost.began"
_scope: ContextVar[Scope | None] = ContextVar("roost_request_scope", default=None)


@dataclass(frozen=True)
class RequestContext:
    """The current request. Outside of any request every field is None and `headers` is empty."""

    request_id: str | None = None
    """`x-fal-request-id`: the same for the caller, the log and the later cancel call."""
    endpoint: str | None = None
    """`x-fal-endpoint`, or the path where nobody sent it."""
    lifecycle_preference: dict[str, Any] | None = None
    """How long files made for this request should live (`x-fal-object-lifecycle-preference`)."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """The request's headers by lower-case name; of several with one name, the last."""
    upload_policy: dict[str, Any] | None = None
    """The caller's own bucket for outputs (`x-app-fal-upload-policy`)."""


def enter(scope: Scope) -> Token[Scope | None]:
    """Make this the current request of the running task and of the threads started from it, until `leave`."""
    scope[_BEGAN] = time()
    return _scope.set(scope)


def leave(token: Token[Scope | None]) -> None:
    scope = _scope.get()
    if scope is not None:
        scope[_BEGAN] = None
    _scope.reset(token)


def current() -> RequestContext:
    """The request that the calling code works for, made on first look."""
    scope = _scope.get()
    if scope is None:
        return RequestContext()
    if _CACHED not in scope:
        scope[_CACHED] = _read(scope)
    return cast("RequestContext", scope[_CACHED])


def began_s() -> float | None:
    """When the current request's code began, in seconds since the epoch. None outside of any, and for tasks that go on after its end."""
    scope = _scope.get()
    return None if scope is None else cast("float | None", scope[_BEGAN])


def _read(scope: Scope) -> RequestContext:
    pairs = cast("Iterable[tuple[bytes, bytes]]", scope["headers"])
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}
    return RequestContext(
        request_id=headers.get("x-fal-request-id"),
        endpoint=headers.get("x-fal-endpoint", cast("str", scope["path"])),
        lifecycle_preference=_json_object(headers.get("x-fal-object-lifecycle-preference")),
        headers=headers,
        upload_policy=_json_object(headers.get("x-app-fal-upload-policy")),
    )


def _json_object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        # A preference nobody can read is no preference; a malformed upload policy was refused before the handler ran.
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
