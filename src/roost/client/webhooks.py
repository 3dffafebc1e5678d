"""For whoever receives webhooks: is this delivery really from the server, as it was sent, and new (spec: queue.md §9)?

    delivery = roost.verify_webhook(request.headers, raw_body, jwks_url="https://roost.example/.well-known/jwks.json")

It needs the standard library and `cryptography`, which is asked for when the first delivery comes.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from roost.client.errors import ClientConnectionError, ClientError

WINDOW_S: Final = 300
"""A delivery that was signed longer ago, or so far ahead, is taken for one that somebody recorded and sends again."""
FRESH_S: Final = 3600
"""How long fetched keys are used without asking again."""
LONGEST_S: Final = 24 * 3600
"""How long they are used when asking fails."""
APART_S: Final = 60
"""Between two looks for a key that is not among those at hand: forged deliveries must not become requests to the server."""
AGAIN_S: Final = 5
"""Between two tries to get any keys at all: a server that is away must not cost each delivery a time-out."""
_PREFIX: Final = "x-fal-webhook-"
_FETCH_S: Final = 10
_MOST_BYTES: Final = 1024 * 1024


class HasItems(Protocol):
    def items(self) -> Iterable[tuple[str, str]]: ...


Fields = HasItems | Iterable[tuple[str | bytes, str | bytes]]
"""Header fields as frameworks give them, or as pairs (ASGI's are bytes). Names in any case."""


class WebhookRejected(ClientError):
    """This delivery is not to be believed: answer it with 401, and do nothing."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is known of a delivery that was verified."""

    request_id: str
    """The same for every delivery of one request: what was done for it once need not be done again."""
    user_id: str
    """The account that submitted the request."""
    timestamp: int
    """When it was signed, in unix seconds."""


def verify_webhook(
    headers: Fields,
    body: bytes,
    keys: Mapping[str, Any] | None = None,
    *,
    jwks_url: str | None = None,
    now_s: float | None = None,
) -> Delivery:
    """The delivery, if it is signed by one of the server's keys, unchanged, and at most five minutes old. `body` is what arrived, byte for byte.

    `keys` is the server's JWKS as JSON; with `jwks_url` it is fetched, kept for an hour, and fetched again for a signature that no key fits
    (this blocks: in an event loop, use a thread). Raises WebhookRejected; ClientConnectionError if the keys cannot be had: answer that with
    503, and the server tries again; ClientError without the `cryptography` package.
    """
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(f"body must be the bytes that arrived, not {type(body).__name__}: JSON that was read and written again has others.")
    if (keys is None) == (jwks_url is None):
        raise ValueError("Give keys, the server's JWKS, or jwks_url, where it is fetched; one of the two.")
    signed = _signed(headers, bytes(body))
    age_s = (time.time() if now_s is None else now_s) - signed.delivery.timestamp
    if abs(age_s) > WINDOW_S:
        when = f"{age_s:.0f} s ago" if age_s > 0 else f"{-age_s:.0f} s ahead of this machine's clock"
        raise WebhookRejected(
            f"The delivery was signed {when}, and {WINDOW_S} s is the most.",
            hint="Somebody may be sending an old one again. If all are refused, this machine's clock or the server's is wrong.",
        )
    if keys is not None:
        found = _fits(signed, public_keys(keys))
    else:
        assert jwks_url is not None
        remote = _remote(jwks_url)
        found = _fits(signed, remote.keys()) or _fits(signed, remote.newer())
    if not found:
        raise WebhookRejected(
            "The signature fits none of the server's keys.",
            hint="The body or a header was changed on its way or is not passed on byte for byte, or this is another server's delivery.",
        )
    return signed.delivery


@dataclass(frozen=True, slots=True)
class _Signed:
    delivery: Delivery
    message: bytes
    signature: bytes


def _signed(headers: Fields, body: bytes) -> _Signed:
    """What the header fields claim, and the message that must be signed if they are true. Raises WebhookRejected."""
    given = _ours(headers)
    request_id, user_id, timestamp, signature = (
        _one(given, name)
        for name in ("X-Fal-Webhook-Request-Id", "X-Fal-Webhook-User-Id", "X-Fal-Webhook-Timestamp", "X-Fal-Webhook-Signature")
    )
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise WebhookRejected(f"X-Fal-Webhook-Timestamp is {timestamp[:40]!r} and not a moment in unix seconds.")
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        raw = b""
    if len(raw) != 64:
        raise WebhookRejected("X-Fal-Webhook-Signature is not an Ed25519 signature in hex.")
    message = "\n".join((request_id, user_id, timestamp, hashlib.sha256(body).hexdigest())).encode()
    return _Signed(Delivery(request_id, user_id, int(timestamp)), message, raw)


def _ours(headers: Fields) -> dict[str, list[str]]:
    # Not all are mappings: Flask's and the standard library's have `items` and no more.
    items = getattr(headers, "items", None)
    pairs = cast("Iterable[tuple[str | bytes, str | bytes]]", headers if items is None else items())
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        text = (name.decode("latin-1") if isinstance(name, bytes) else name).lower()
        if text.startswith(_PREFIX):
            found.setdefault(text, []).append(value.decode("latin-1") if isinstance(value, bytes) else value)
    return found


def _one(given: Mapping[str, list[str]], name: str) -> str:
    match given.get(name.lower(), []):
        case [value] if value and value.isprintable():
            return value
        case []:
            raise WebhookRejected(
                f"The header {name} is missing.", hint="A proxy in between may drop it, or this is no delivery of the server."
            )
        case _:
            raise WebhookRejected(f"The header {name} has no single value.")


def public_keys(jwks: Mapping[str, Any]) -> tuple[bytes, ...]:
    """The Ed25519 keys of a JWKS; those of other kinds are passed over. Raises ValueError if this is no JWKS or has none."""
    members = jwks.get("keys") if isinstance(jwks, Mapping) else None
    found: list[bytes] = []
    for member in members if isinstance(members, Sequence) and not isinstance(members, str) else ():
        if not isinstance(member, Mapping) or (member.get("kty", "OKP"), member.get("crv", "Ed25519")) != ("OKP", "Ed25519"):
            continue
        text = member.get("x")
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4)) if isinstance(text, str) else b""
        except ValueError:
            continue
        if len(raw) == 32:
            found.append(raw)
    if not found:
        raise ValueError('there is no Ed25519 key in this; a JWKS looks like {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": ...}]}')
    return tuple(found)


def _fits(signed: _Signed, keys: Iterable[bytes]) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise ClientError(
            "Signatures of webhooks cannot be checked: the package `cryptography` is missing here.", hint="pip install cryptography"
        ) from error
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signed.signature, signed.message)
        except InvalidSignature:
            continue
        return True
    return False


class RemoteKeys:
    """The keys at one address, fetched when they are needed and kept for an hour. For any thread."""

    def __init__(self, fetch: Callable[[], bytes], name: str, now_s: Callable[[], float]) -> None:
        """`fetch` answers the JWKS as it lies at `name`, or raises OSError."""
        self._fetch = fetch
        self._name = name
        self._now_s = now_s
        self._lock = threading.Lock()
        self._keys: tuple[bytes, ...] = ()
        self._fetched_s: float | None = None
        self._asked_s: float | None = None
        self._trouble = ""

    def keys(self) -> tuple[bytes, ...]:
        """Raises ClientConnectionError when there are none at hand that may be used, and the server cannot be asked."""
        with self._lock:
            if not self._younger(FRESH_S) and not self._asked_within(AGAIN_S):
                self._ask()
            if not self._younger(LONGEST_S):
                raise ClientConnectionError(
                    f"The server's keys cannot be fetched from {self._name}: {self._trouble}",
                    hint="Answer the delivery with 503, and the server tries again.",
                )
            return self._keys

    def newer(self) -> tuple[bytes, ...]:
        """Those that are there now; () if that was asked a moment ago."""
        with self._lock:
            if self._asked_within(APART_S):
                return ()
            self._ask()
            return self._keys

    def _ask(self) -> None:
        self._asked_s = self._now_s()
        try:
            self._keys = public_keys(json.loads(self._fetch()))
        except (OSError, ValueError, RecursionError) as error:
            self._trouble = str(error)
        else:
            self._fetched_s = self._asked_s

    def _asked_within(self, seconds: float) -> bool:
        return self._asked_s is not None and self._now_s() - self._asked_s < seconds

    def _younger(self, seconds: float) -> bool:
        return self._fetched_s is not None and self._now_s() - self._fetched_s < seconds


_REMOTES: dict[str, RemoteKeys] = {}


def _remote(url: str) -> RemoteKeys:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"jwks_url must be an http or https URL, not {url!r}.")
    return _REMOTES.get(url) or _REMOTES.setdefault(url, RemoteKeys(lambda: _get(url), url, time.monotonic))


def _get(url: str) -> bytes:
    import urllib.request

    request = urllib.request.Request(url, headers={"accept": "application/json", "user-agent": "roost-webhooks"})  # noqa: S310  # `_remote` looked at it
    with urllib.request.urlopen(request, timeout=_FETCH_S) as answer:  # noqa: S310
        body: bytes = answer.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise ValueError("the answer is larger than 1 MB")
    return body
