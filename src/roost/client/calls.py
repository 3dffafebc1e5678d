"""What a caller says in Python, as what is sent."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlencode

import roost
from roost.client.addresses import AppId, Place
from roost.client.config import Target
from roost.client.flows import Call, Caller
from roost.client.inherited import outgoing_headers
from roost.client.repeating import DEADLINE_HEADER

Priority = Literal["normal", "low"]
SHORTEST_START_S = 0.1


def caller(target: Target, timeout_s: float | None) -> Caller:
    """Who calls: this client, with the key of `target`."""
    headers = [("user-agent", f"roost-client/{roost.__version__}")]
    if target.key:
        headers.append(("authorization", f"Key {target.key}"))
    return Caller(Place(target.host), tuple(headers), timeout_s)


def direct_call(
    app: AppId,
    arguments: Any,
    *,
    method: str,
    path: str,
    body: bytes | str | None,
    content_type: str | None,
    hint: str | None,
    start_timeout: float | None,
    headers: Mapping[str, str] | None,
    waits: bool = True,
) -> Call:
    """A call as `run`, `stream` and `submit` describe it. Raises ValueError for what cannot be sent.

    Made in a handler, it belongs to the call that this serves. `waits`: the handler waits for the answer, so that its own time is a limit.
    """
    method = method.upper()
    content, kind = _content(method, arguments, body, content_type)
    fields = outgoing_headers(deadline=waits)
    if kind:
        fields["content-type"] = kind
    if hint is not None:
        fields["x-fal-runner-hint"] = hint
    if start_timeout is not None:
        fields[DEADLINE_HEADER] = _start_timeout(start_timeout)
    # The caller's own last: they may replace any of ours.
    fields |= {name.lower(): value for name, value in (headers or {}).items()}
    return Call(app.under(path), method, tuple(fields.items()), content)


def queued_call(call: Call, *, priority: str | None, idempotency_key: str | None, webhook_url: str | None) -> Call:
    """The same call for the queue. Without a key of the caller's it gets one, so that sending it again cannot make two requests."""
    fields: dict[str, str] = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
    if priority is not None:
        if priority not in ("normal", "low"):
            raise ValueError(f"priority is 'normal' or 'low', not {priority!r}.")
        fields["x-fal-queue-priority"] = priority
    app = call.app
    if webhook_url is not None:
        sign = "&" if "?" in app.path else "?"
        app = AppId(app.app, f"{app.path}{sign}{urlencode({'fal_webhook': webhook_url})}")
    return Call(app, call.method, tuple({**fields, **dict(call.headers)}.items()), call.content)


def start_within(start_timeout: float | None, client_timeout: float | None) -> float | None:
    """The start deadline of a call that is waited for: what starts after its caller has gone would be work for nobody."""
    if client_timeout is None or start_timeout is None:
        return client_timeout if start_timeout is None else start_timeout
    if start_timeout > client_timeout:
        warnings.warn(
            f"start_timeout ({start_timeout:g} s) is longer than client_timeout ({client_timeout:g} s): the client gives up first.",
            UserWarning,
            stacklevel=4,
        )
    return start_timeout


def _content(method: str, arguments: Any, body: bytes | str | None, content_type: str | None) -> tuple[bytes, str | None]:
    if body is not None:
        if arguments is not None:
            raise ValueError("Give arguments, which are sent as JSON, or body, which is sent as it is; not both.")
        if isinstance(body, str):
            return body.encode(), content_type or "text/plain; charset=utf-8"
        return bytes(body), content_type or "application/octet-stream"
    if method in ("GET", "HEAD") or (arguments is None and method not in ("POST", "PUT", "PATCH")):
        return b"", content_type
    text = json.dumps({} if arguments is None else arguments, ensure_ascii=False, default=_plain)
    return text.encode(), content_type or "application/json"


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"arguments are sent as JSON, which has no {type(value).__name__}.")
    return dump(mode="json")


def _start_timeout(seconds: float) -> str:
    if float(seconds) <= SHORTEST_START_S:
        raise ValueError(f"start_timeout must be longer than {SHORTEST_START_S:g} seconds.")
    return str(float(seconds))
