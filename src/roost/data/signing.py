"""The keys that sign webhooks: Ed25519, one file each, known to receivers as a JWKS (spec: queue.md §9; faults.md S-13).

webhook-keys/<kid>.key     mode 0600; the key as a private JWK (RFC 8037) with the second from which it signs. Never changed, only made and removed

A receiver is told to keep the JWKS for up to a day, and a signature does not name its key. So a new key is shown to everybody for longer than
that before it signs, and the one before is shown for a day after its last signature: a planned change costs no delivery. What was seen by
somebody else is another matter: `rotate(at_once=True)` signs with a new key and forgets all others at once.

The files are the truth and are looked at with each use, so that two server processes of a planned restart sign with one key.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from roost.data.incoming import fsync_folder
from roost.kit import log
from roost.kit.failpoints import failpoint
from roost.wire.errors import RoostError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

JWKS_MAX_AGE_S: Final = 3600
"""How long what stands between us and a receiver may keep the JWKS."""
ANNOUNCED_S: Final = 24 * 3600 + JWKS_MAX_AGE_S
"""From a key's first appearance in the JWKS to its first signature: a receiver keeps the JWKS for a day, and may get one that is an hour old."""
REMEMBERED_S: Final = 24 * 3600
"""How long a key stays in the JWKS after its last signature."""
_SUFFIX: Final = ".key"


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key was added."""

    kid: str
    signs_from_s: int


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    x: str
    """The public key, base64url."""
    d: str
    """The private key, base64url."""
    signs_from_s: int


class _Damaged(Exception):
    """What a key file says cannot be. The text says why."""


class Signer:
    """Signs deliveries and shows the public keys. Methods block for as long as a small file takes; they belong to one thread."""

    def __init__(self, folder: Path, now_s: Callable[[], float]) -> None:
        """`now_s`: seconds since the epoch."""
        self._folder = folder
        self._now_s = now_s
        self._looked: tuple[tuple[str, int, int], ...] | None = None
        self._keys: tuple[_Key, ...] = ()
        self._loaded: tuple[str, Ed25519PrivateKey] | None = None

    def sign(self, request_id: str, user_id: str, timestamp: int, body: bytes) -> Sequence[tuple[str, str]]:
        """The header fields of one delivery; `timestamp` is its moment in unix seconds. Makes the first key if there is none.

        Raises RoostError `internal_error` when a key can neither be read nor made.
        """
        message = signed_message(request_id, user_id, timestamp, body)
        signature = self._private().sign(message)
        return (
            ("X-Fal-Webhook-Request-Id", request_id),
            ("X-Fal-Webhook-User-Id", user_id),
            ("X-Fal-Webhook-Timestamp", str(timestamp)),
            ("X-Fal-Webhook-Signature", signature.hex()),
        )

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517): those that sign, will sign, or have signed lately. Makes the first key if there is none."""
        self._current()
        return {"keys": [_public_jwk(key) for key in self._shown()]}

    def rotate(self, *, at_once: bool = False) -> Rotated:
        """Add a key: it is shown from now on and signs once every receiver knows it. `at_once`: it signs now, and all others are forgotten.

        Raises RoostError `conflict` while another one is announced, `internal_error` when none can be made.
        """
        now_s = int(self._now_s())
        self._look()
        coming = [key for key in self._keys if key.signs_from_s > now_s]
        if coming and not at_once:
            in_hours = (coming[0].signs_from_s - now_s) / 3600
            raise RoostError(
                "conflict",
                f"key {coming[0].kid} is announced already and signs in {in_hours:.1f} h",
                hint="If a key has leaked, rotate at once: receivers then refuse deliveries until they fetch the keys again.",
            )
        older = self._keys
        key = self._make(now_s if at_once or not older else now_s + ANNOUNCED_S)
        # After the new one is on disk: a stop in between must not leave nothing to sign with.
        self._forget(older if at_once else [each for each in older if each not in self._shown()])
        return Rotated(key.kid, key.signs_from_s)

    def _private(self) -> Ed25519PrivateKey:
        key = self._current()
        if self._loaded is None or self._loaded[0] != key.kid:
            # Here, because it takes 9 MB and 30 ms that a server without webhooks never spends.
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            self._loaded = (key.kid, Ed25519PrivateKey.from_private_bytes(_bytes(key.d)))
        return self._loaded[1]

    def _current(self) -> _Key:
        """The key that signs now: the newest whose time has come, else the next; a new one if there is none."""
        self._look()
        now_s = self._now_s()
        if not self._keys:
            return self._make(int(now_s))
        return next((key for key in reversed(self._keys) if key.signs_from_s <= now_s), self._keys[0])

    def _shown(self) -> list[_Key]:
        """All but those whose follower has signed alone for so long that nothing of theirs is on its way."""
        now_s = self._now_s()
        followers = [*self._keys[1:], None]
        return [
            key
            for key, follower in zip(self._keys, followers, strict=True)
            if follower is None or follower.signs_from_s + REMEMBERED_S > now_s
        ]

    def _look(self) -> None:
        """Read the files again if any came, went or changed."""
        try:
            found = sorted((entry.name, *_stamp(entry)) for entry in os.scandir(self._folder) if entry.name.endswith(_SUFFIX))
        except FileNotFoundError:
            found = []
        except OSError as error:
            raise _trouble(self._folder, error) from error
        looked = tuple(found)
        if looked == self._looked:
            return
        self._looked = looked
        keys: list[_Key] = []
        for name, _, _ in looked:
            path = self._folder / name
            try:
                keys.append(_read(path))
            except FileNotFoundError:
                continue
            except (OSError, _Damaged) as error:
                _tell_damage(path, str(error))
        self._keys = tuple(sorted(keys, key=attrgetter("signs_from_s", "kid")))

    def _make(self, signs_from_s: int) -> _Key:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        x = _text(private.public_key().public_bytes_raw())
        key = _Key(thumbprint(x), x, _text(private.private_bytes_raw()), signs_from_s)
        try:
            self._write(key)
        except OSError as error:
            raise _trouble(self._folder, error) from error
        log.info("webhooks.key_made", kid=key.kid, signs_from_s=signs_from_s)
        self._look()
        return key

    def _write(self, key: _Key) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A name that is no key's: a half-written file is never read.
        beside = self._folder / f".{secrets.token_hex(8)}"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(
                    json.dumps({**_public_jwk(key), "d": key.d, "signs_from": key.signs_from_s, "check": _check(key)}, indent=1).encode()
                )
                file.flush()
                failpoint("signing.key:written")
                os.fsync(descriptor)
            os.rename(beside, self._folder / f"{key.kid}{_SUFFIX}")
        finally:
            beside.unlink(missing_ok=True)
        # The names too: what receivers learn of this key must be true after a power cut.
        fsync_folder(self._folder)
        fsync_folder(self._folder.parent)
        failpoint("signing.key:after")

    def _forget(self, keys: Sequence[_Key]) -> None:
        for key in keys:
            try:
                failpoint("signing.key:forget")
                (self._folder / f"{key.kid}{_SUFFIX}").unlink(missing_ok=True)
            except OSError as error:
                raise _trouble(self._folder, error) from error
            log.info("webhooks.key_forgotten", kid=key.kid)
        self._look()


def signed_message(request_id: str, user_id: str, timestamp: int, body: bytes) -> bytes:
    """What is signed, as the public protocol has it."""
    return "\n".join((request_id, user_id, str(timestamp), hashlib.sha256(body).hexdigest())).encode()


def thumbprint(x: str) -> str:
    """A key's id: the hash of its public members in their one order (RFC 7638 §3)."""
    return _text(hashlib.sha256(json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":")).encode()).digest())


def _check(key: _Key) -> str:
    """Tells a damaged file without the mathematics: a key that signs what nobody can verify would be worse than none."""
    return hashlib.sha256(f"{key.kid} {key.x} {key.d} {key.signs_from_s}".encode()).hexdigest()


def _public_jwk(key: _Key) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.kid, "x": key.x}


def _read(path: Path) -> _Key:
    """Raises OSError, _Damaged."""
    try:
        said = json.loads(path.read_bytes())
        key = _Key(str(said["kid"]), str(said["x"]), str(said["d"]), int(said["signs_from"]))
        check = str(said["check"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _Damaged(f"it is no key ({type(error).__name__}: {error})") from error
    if check != _check(key) or path.name != f"{key.kid}{_SUFFIX}":
        raise _Damaged("its parts do not belong together")
    return key


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return 0, 0  # it went while we looked
    return status.st_mtime_ns, status.st_size


def _tell_damage(path: Path, why: str) -> None:
    log.error(
        "webhooks.key_damaged",
        file=path,
        why=why,
        now="the next key signs instead; put the file back from a backup, or remove it",
    )


def _trouble(folder: Path, error: OSError) -> RoostError:
    return RoostError(
        "internal_error",
        f"the keys that sign webhooks cannot be read or made in {folder}: {error.strerror}",
        hint="Look at the rights of that folder and the room on its disk; deliveries go on by themselves.",
        status=503,
    )


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
