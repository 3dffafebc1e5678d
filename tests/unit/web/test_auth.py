from __future__ import annotations

import pytest

from roost.core.model import Key
from roost.web.auth import KeyRing, Principal, hash_secret
from roost.wire.errors import RoostError

PEPPER = b"pepper" * 6


def key(name: str = "id", *, revoked_ms: int | None = None) -> Key:
    return Key(name, "me", "API", "", hash_secret(PEPPER, "secret"), 0, revoked_ms)


@pytest.fixture
def ring() -> KeyRing:
    ring = KeyRing(PEPPER)
    ring.replace([key(), key("old", revoked_ms=1)])
    return ring


@pytest.mark.parametrize("header", [b"Key id:secret", b"key id:secret", b"Bearer id:secret", b"  Key   id:secret "])
def test_a_valid_key_names_its_owner(ring: KeyRing, header: bytes) -> None:
    assert ring.check(header) == ring.check(header) == Principal("me", "id", "API")


@pytest.mark.parametrize(
    "header",
    [b"Key id:wrong", b"Key other:secret", b"Key old:secret", b"Basic id:secret", b"id:secret", b"Key id", b"Key", b"", b"Key id:\xff"],
)
def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(ring: KeyRing, header: bytes) -> None:
    with pytest.raises(RoostError, match="Invalid key credentials"):
        ring.check(header)


def test_no_key_at_all_is_told_what_to_send(ring: KeyRing) -> None:
    with pytest.raises(RoostError, match="no Authorization header"):
        ring.check(None)


def test_a_revoked_key_is_refused_from_then_on_also_when_it_was_used_before(ring: KeyRing) -> None:
    ring.check(b"Key id:secret")
    ring.replace([])
    with pytest.raises(RoostError):
        ring.check(b"Key id:secret")


def test_what_the_store_keeps_of_a_secret_depends_on_the_pepper() -> None:
    assert hash_secret(PEPPER, "secret") != hash_secret(b"another", "secret")
