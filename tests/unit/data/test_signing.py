"""Signatures of webhooks: what a receiver can check by the published recipe, over rotations, damage and two processes (faults.md S-13)."""

from __future__ import annotations

import hashlib
import json
import stat
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from roost.data.signing import ANNOUNCED_S, REMEMBERED_S, Signer, thumbprint
from roost.wire.errors import RoostError
from tests.unit.data import rfc8032

BODY = b'{"request_id":"q1","status":"OK","payload":{"n":1.50}}'
HOUR = 3600


class Clock:
    def __init__(self) -> None:
        self.s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "webhook-keys"


@pytest.fixture
def signer(folder: Path, clock: Clock) -> Signer:
    return Signer(folder, clock)


def kids(signer: Signer) -> list[str]:
    return [key["kid"] for key in signer.jwks()["keys"]]


def signed_by(signer: Signer, jwks: Mapping[str, Any], body: bytes = BODY) -> list[str]:
    """The keys of this JWKS that a delivery fits, by the published recipe: the message from the headers, every key tried."""
    headers = dict(signer.sign("q1", "ada", 1_700_000_000, body))
    message = "\n".join(
        (
            headers["X-Fal-Webhook-Request-Id"],
            headers["X-Fal-Webhook-User-Id"],
            headers["X-Fal-Webhook-Timestamp"],
            hashlib.sha256(BODY).hexdigest(),
        )
    ).encode()
    signature = bytes.fromhex(headers["X-Fal-Webhook-Signature"])
    return [key["kid"] for key in jwks["keys"] if rfc8032.verify(urlsafe_b64decode(key["x"] + "=="), message, signature)]


def test_the_independent_verifier_knows_the_vectors_of_the_rfc() -> None:
    # RFC 8032 §7.1, test 2
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert rfc8032.verify(public, b"\x72", signature)
    assert not rfc8032.verify(public, b"\x73", signature)


def test_a_delivery_verifies_by_the_published_recipe(signer: Signer) -> None:
    jwks = signer.jwks()
    assert [sorted(key) for key in jwks["keys"]] == [["alg", "crv", "kid", "kty", "use", "x"]]
    assert signed_by(signer, jwks) == kids(signer)
    assert signed_by(signer, jwks, BODY + b" ") == []


def test_a_key_is_called_by_its_thumbprint() -> None:
    # RFC 8037 appendix A.3
    assert thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo") == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_first_key_is_made_when_it_is_needed_and_only_its_owner_reads_it(folder: Path, signer: Signer) -> None:
    assert not folder.exists()
    (kid,) = kids(signer)
    assert [path.name for path in folder.iterdir()] == [f"{kid}.key"]
    assert stat.S_IMODE((folder / f"{kid}.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_shown_holds_nothing_secret(folder: Path, signer: Signer) -> None:
    signer.jwks()
    private = [json.loads(path.read_bytes())["d"] for path in folder.iterdir()]
    assert [secret for secret in private if secret in json.dumps(signer.jwks())] == []


def test_a_key_outlives_its_server(folder: Path, clock: Clock, signer: Signer) -> None:
    jwks = signer.jwks()
    assert signed_by(Signer(folder, clock), jwks) == kids(signer)


def test_a_receiver_that_keeps_the_keys_for_a_day_never_meets_one_that_it_does_not_know(clock: Clock, signer: Signer) -> None:
    kept, kept_at = signer.jwks(), clock.s
    changes: list[str] = []
    for hour in range(120):
        if hour == 10:
            signer.rotate()
        if clock.s - kept_at > 24 * HOUR:
            kept, kept_at = signer.jwks(), clock.s
        (kid,) = signed_by(signer, kept)
        changes += [kid] if changes[-1:] != [kid] else []
        clock.s += HOUR
    assert len(changes) == 2
    assert kids(signer) == changes[1:]


def test_a_new_key_is_shown_before_it_signs_and_the_old_one_after_it_signed(clock: Clock, signer: Signer) -> None:
    (old,) = kids(signer)
    new = signer.rotate()
    assert (new.signs_from_s, kids(signer)) == (clock.s + ANNOUNCED_S, [old, new.kid])
    clock.s += ANNOUNCED_S - 1
    assert signed_by(signer, signer.jwks()) == [old]
    clock.s += 1
    assert signed_by(signer, signer.jwks()) == [new.kid]
    clock.s += REMEMBERED_S - 1
    assert kids(signer) == [old, new.kid]
    clock.s += 1
    assert kids(signer) == [new.kid]


def test_a_second_rotation_waits_for_the_first(clock: Clock, signer: Signer) -> None:
    signer.jwks()
    first = signer.rotate()
    clock.s += HOUR
    with pytest.raises(RoostError, match=rf"{first.kid} is announced already and signs in 24\.0 h") as refused:
        signer.rotate()
    assert refused.value.code == "conflict"
    clock.s += ANNOUNCED_S
    assert signer.rotate().kid != first.kid


def test_what_nobody_needs_any_more_is_removed_at_the_next_rotation(folder: Path, clock: Clock, signer: Signer) -> None:
    (first,) = kids(signer)
    second = signer.rotate().kid
    clock.s += ANNOUNCED_S + REMEMBERED_S
    third = signer.rotate().kid
    assert {path.stem for path in folder.iterdir()} == {second, third} != {first, second}


def test_a_leaked_key_is_forgotten_at_once(folder: Path, clock: Clock, signer: Signer) -> None:
    before = signer.jwks()
    signer.rotate()
    new = signer.rotate(at_once=True)
    assert kids(signer) == [new.kid] == [path.stem for path in folder.iterdir()]
    assert signed_by(signer, signer.jwks()) == [new.kid]
    assert signed_by(signer, before) == []


def test_the_first_rotation_of_all_signs_at_once(clock: Clock, signer: Signer) -> None:
    assert signer.rotate().signs_from_s == clock.s


def test_two_processes_sign_with_the_same_key_whoever_rotates(folder: Path, clock: Clock, signer: Signer) -> None:
    other = Signer(folder, clock)
    assert kids(other) == kids(signer)
    new = other.rotate(at_once=True)
    assert signed_by(signer, other.jwks()) == [new.kid]
    later = signer.rotate()
    clock.s += ANNOUNCED_S
    assert signed_by(other, signer.jwks()) == [later.kid]


def test_two_first_keys_made_at_one_moment_are_both_shown_and_one_signs(folder: Path, clock: Clock, tmp_path: Path) -> None:
    one, two = Signer(folder, clock), Signer(tmp_path / "elsewhere", clock)
    two.jwks()
    one.jwks()
    (made_meanwhile,) = (tmp_path / "elsewhere").iterdir()
    made_meanwhile.rename(folder / made_meanwhile.name)
    assert len(kids(one)) == 2
    assert signed_by(one, one.jwks()) == signed_by(Signer(folder, clock), one.jwks())


def swapped(path: Path, field: str) -> None:
    said = json.loads(path.read_bytes())
    path.write_text(json.dumps({**said, field: "A" * 43}))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "not text": lambda path: path.write_bytes(b"\xff\x00" * 40),
    "not an object": lambda path: path.write_text("[1, 2]"),
    "another name": lambda path: path.rename(path.with_name("other.key")),
    "another public half": lambda path: swapped(path, "x"),
    "another private half": lambda path: swapped(path, "d"),
    "another moment": lambda path: path.write_text(path.read_text().replace('"signs_from": 17', '"signs_from": 16')),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_key_is_told_and_the_next_one_signs(
    kind: str, folder: Path, clock: Clock, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    (old,) = kids(signer)
    new = signer.rotate()
    clock.s += ANNOUNCED_S
    signer.jwks()
    capsys.readouterr()
    DAMAGE[kind](folder / f"{new.kid}.key")
    assert signed_by(signer, signer.jwks()) == [old]
    assert "webhooks.key_damaged" in capsys.readouterr().err
    signed_by(signer, signer.jwks())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", DAMAGE)
def test_when_the_only_key_is_damaged_a_new_one_is_made(kind: str, folder: Path, signer: Signer) -> None:
    (old,) = kids(signer)
    DAMAGE[kind](folder / f"{old}.key")
    assert signed_by(signer, signer.jwks()) not in ([], [old])


def test_a_key_that_is_put_back_is_used_again(folder: Path, clock: Clock, signer: Signer) -> None:
    (old,) = kids(signer)
    path = folder / f"{old}.key"
    whole = path.read_bytes()
    new = signer.rotate()
    path.write_bytes(b"")
    assert signed_by(signer, signer.jwks()) == [new.kid]
    path.write_bytes(whole)
    assert signed_by(signer, signer.jwks()) == [old]


def test_what_is_no_key_file_is_left_alone(folder: Path, signer: Signer) -> None:
    (kid,) = kids(signer)
    (folder / ".half").write_bytes(b"{")
    (folder / "notes.txt").write_bytes(b"mine")
    assert kids(signer) == [kid]
    signer.rotate(at_once=True)
    assert (folder / "notes.txt").read_bytes() == b"mine"


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "webhook-keys").write_bytes(b"a file is in the way")
    with pytest.raises(RoostError, match=r"the keys that sign webhooks cannot be read or made in .*webhook-keys") as told:
        Signer(tmp_path / "webhook-keys", clock).sign("q1", "ada", 1, BODY)
    assert (told.value.code, told.value.status) == ("internal_error", 503)
