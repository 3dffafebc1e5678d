"""Which header fields cross the gateway, in both directions (spec: gateway-http.md §4-5, GAPS A6, A12, C13)."""

from __future__ import annotations

from typing import Final

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
_FORWARDED: Final = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"x-real-ip"))
_RESPONSE_DROPPED: Final = HOP_BY_HOP | {b"x-fal-stop-runner", b"x-fal-runner-health-check", b"x-fal-request-id", b"x-fal-served-from"}
MAX_RESPONSE_HEAD: Final = 16 * 1024


def to_app(headers: Headers, *, request_id: str, endpoint: str, caller: str, client: str, scheme: str, key_used: bool = False) -> Headers:
    """The request's fields as the app gets them. Keys of ours never reach an app: `key_used` says that Authorization is one."""
    kept: Headers = []
    lifecycle = False
    for name, value in headers:
        if name in HOP_BY_HOP or name in _FORWARDED:
            continue
        if name.startswith(b"x-fal-") and name not in _PASSED_FAL:
            continue
        if name == b"authorization" and (key_used or value[:4].lower() == b"key "):
            continue
        lifecycle = lifecycle or name == b"x-fal-object-lifecycle-preference"
        kept.append((name, value))
    kept.append((b"x-fal-request-id", request_id.encode()))
    kept.append((b"x-fal-endpoint", endpoint.encode("utf-8", "replace")))
    kept.append((b"x-fal-caller-user-id", caller.encode()))
    if not lifecycle:
        kept.append((b"x-fal-object-lifecycle-preference", b"{}"))
    kept.append((b"x-forwarded-for", client.encode()))
    kept.append((b"x-forwarded-proto", scheme.encode()))
    return kept


def to_caller(status: int, headers: Headers, *, request_id: str, runner_id: str) -> Headers | None:
    """The response's fields as the caller gets them; None when they are larger than the 16 KB that the protocol allows."""
    kept: Headers = []
    for name, value in headers:
        if name in _RESPONSE_DROPPED:
            continue
        if name == b"x-fal-needs-retry" and status < 500 and status != 429:
            continue
        kept.append((name, value))
    kept.append((b"x-fal-request-id", request_id.encode()))
    kept.append((b"x-fal-served-from", runner_id.encode()))
    size = 0
    for name, value in kept:
        size += len(name) + len(value) + 4
    return kept if size <= MAX_RESPONSE_HEAD else None


def find(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a field."""
    for key, value in headers:
        if key == name:
            return value
    return None
