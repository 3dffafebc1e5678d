"""Which header fields cross the server between caller and app, in both directions (spec: gateway-http.md §4-5, GAPS A6, A12, B16, C13).

A direct call's fields are made in one go (`to_app`, `to_caller`). A queued request's are filtered when it is accepted (`stored`), get what
belongs to an attempt when one begins (`of_attempt`), and its response's are kept without what the result endpoint says itself (`kept`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from roost.web import cors
from roost.wire.frames import Headers

HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    )
)
_PASSED_FAL: Final = frozenset((b"x-fal-object-lifecycle-preference", b"x-fal-cdn-token", b"x-fal-runner-health-check"))
"""Reserved names that callers may set; every other `x-fal-*` is ours, so that an app can believe it."""
_FORWARDED: Final = frozenset((b"forwarded", b"x-real-ip"))
"""And all of `x-forwarded-*`: what proxies say, which `web.forwarded` has read; an app gets what of it is true."""
_RESPONSE_DROPPED: Final = HOP_BY_HOP | {b"x-fal-stop-runner", b"x-fal-runner-health-check", b"x-fal-request-id", b"x-fal-served-from"}
MAX_RESPONSE_HEAD: Final = 16 * 1024


def to_app(headers: Headers, *, request_id: str, endpoint: str, caller: str, client: str, scheme: str, key_used: bool = False) -> Headers:
    """The request's fields as the app gets them. Keys of ours never reach an app: `key_used` says that Authorization is one."""
    return of_attempt(
        stored(headers, client=client, scheme=scheme, key_used=key_used), request_id=request_id, endpoint=endpoint, caller=caller
    )


def stored(headers: Headers, *, client: str, scheme: str, key_used: bool = False) -> Headers:
    """The fields of a request that do not depend on when and where it runs. `client`: see `forwarded.chain`."""
    kept: Headers = []
    lifecycle = False
    for name, value in headers:
        if name in HOP_BY_HOP or name in _FORWARDED or name.startswith(b"x-forwarded-"):
            continue
        if name.startswith(b"x-fal-") and name not in _PASSED_FAL:
            continue
        if name == b"authorization" and (key_used or value[:4].lower() == b"key "):
            continue
        lifecycle = lifecycle or name == b"x-fal-object-lifecycle-preference"
        kept.append((name, value))
    if not lifecycle:
        kept.append((b"x-fal-object-lifecycle-preference", b"{}"))
    kept.append((b"x-forwarded-for", client.encode()))
    kept.append((b"x-forwarded-proto", scheme.encode()))
    return kept


def of_attempt(stored: Iterable[tuple[bytes, bytes]], *, request_id: str, endpoint: str, caller: str, attempt: int = 0) -> Headers:
    """What an app gets: those by which it knows the request, and the stored ones. `attempt` is the number of a queued request's attempt."""
    fields = [
        (b"x-fal-request-id", request_id.encode()),
        (b"x-fal-endpoint", endpoint.encode("utf-8", "replace")),
        (b"x-fal-caller-user-id", caller.encode()),
        *stored,
    ]
    if attempt:
        # Ours, so that an app which has effects elsewhere can tell a second attempt from the first.
        fields.append((b"x-fal-attempt", str(attempt).encode()))
    return fields


def to_caller(status: int, headers: Headers, *, request_id: str, runner_id: str) -> Headers | None:
    """The response's fields as the caller gets them; None when they are larger than the 16 KB that the protocol allows."""
    own = ((b"x-fal-request-id", request_id.encode()), (b"x-fal-served-from", runner_id.encode()))
    return _within_limit([*cors.exposed(_kept(status, headers)), *own])


def kept(status: int, headers: Headers, *, runner_id: str) -> Headers | None:
    """The response's fields as they are kept with a queued request's result, which adds `x-fal-request-id`; None as in `to_caller`."""
    return _within_limit([*cors.exposed(_kept(status, headers)), (b"x-fal-served-from", runner_id.encode())])


def _kept(status: int, headers: Headers) -> Headers:
    retryable = status >= 500 or status == 429
    return [(name, value) for name, value in headers if name not in _RESPONSE_DROPPED and (retryable or name != b"x-fal-needs-retry")]


def _within_limit(headers: Headers) -> Headers | None:
    size = 0
    for name, value in headers:
        size += len(name) + len(value) + 4
    return headers if size <= MAX_RESPONSE_HEAD else None


def find(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a field."""
    for key, value in headers:
        if key == name:
            return value
    return None


def runner_hints(headers: Headers) -> tuple[str, ...] | None:
    """What an app's response reports about its runner (`X-Fal-Runner-Hints`), for callers that send a hint. None: nothing new."""
    value = find(headers, b"x-fal-runner-hints")
    return tuple(hint.strip() for hint in value.decode("latin-1").split(",")) if value is not None else None
