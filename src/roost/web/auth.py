"""Who is calling: API keys as `Authorization: Key <id>:<secret>`, kept in memory as keyed hashes (faults.md S-02, S-03)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from roost.core.model import Key
from roost.wire.errors import RoostError

_CACHE_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """The account behind a valid key."""

    owner: str
    key_id: str
    scope: str

    @property
    def is_admin(self) -> bool:
        return self.scope == "ADMIN"


def hash_secret(pepper: bytes, secret: str) -> str:
    """What the store keeps of a secret: useless without the pepper, which lies in a file of its own."""
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()


class KeyRing:
    """The valid keys, for checks without the store. `replace` makes a revocation effective at once."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._keys: dict[str, Key] = {}
        self._seen: dict[bytes, Principal] = {}
        self.edition = 0
        """Another number with each `replace`: what was concluded from the keys before holds no longer."""

    def replace(self, keys: Iterable[Key]) -> None:
        self._keys = {key.id: key for key in keys if key.revoked_ms is None}
        self._seen.clear()
        self.edition += 1

    def check(self, authorization: bytes | None) -> Principal:
        """The principal of an `Authorization` header. Raises RoostError `unauthorized`; unknown and wrong keys get the same text."""
        if authorization is None:
            raise RoostError(
                "unauthorized",
                "Authentication is required: no Authorization header was sent",
                hint="Send `Authorization: Key <id>:<secret>`; `roost keys create` makes a key.",
            )
        seen = self._seen.get(authorization)
        if seen is not None:
            return seen
        scheme, _, credentials = authorization.decode("latin-1").strip().partition(" ")
        key_id, _, secret = credentials.strip().partition(":")
        key = self._keys.get(key_id)
        digest = hash_secret(self._pepper, secret)
        valid = hmac.compare_digest(digest, key.secret_hash if key is not None else "0" * 64) and key is not None
        if scheme.lower() not in ("key", "bearer") or not valid or key is None:
            raise RoostError("unauthorized", "Invalid key credentials", hint="Check the key, or make a new one with `roost keys create`.")
        principal = Principal(key.owner, key.id, key.scope)
        if len(self._seen) < _CACHE_LIMIT:
            self._seen[authorization] = principal
        return principal
