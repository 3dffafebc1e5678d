"""A certificate that the operator brings: used, renewed, and kept when what follows it is of no use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roost.core.certificates import first, names
from roost.front import issuing
from roost.front.authority import Authority
from roost.front.given import Given
from roost.front.tls import Tls
from roost.wire.errors import RoostError
from tests.unit.front.handshakes import certificate_seen, handshake, trusting

NOW_MS = 1_800_000_000_000
AUTHORITY = issuing.authority("a public one", NOW_MS)


class Files:
    """An operator's files, and whoever renews them."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "public.pem"
        self.ca.write_bytes(AUTHORITY.certificate)
        self.chain = folder / "fullchain.pem"
        self.key = folder / "privkey.pem"
        self.moment = 1_000_000_000
        self.renew()

    def renew(self, *hosts: str) -> None:
        made = issuing.leaf(AUTHORITY, names(hosts), NOW_MS)
        self.write(self.chain, made.certificate + AUTHORITY.certificate)
        self.write(self.key, made.key)

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        # Clocks of file systems are coarse, and a test is quick.
        self.moment += 1_000_000_000
        os.utime(path, ns=(self.moment, self.moment))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_files_of_the_operator_are_shown_to_callers(files: Files):
    files.renew("roost.example")
    given = Given(files.chain, files.key)
    assert certificate_seen(given.context(), trusting(files.ca), "roost.example")
    assert "roost.example" in given.certificate.names


def test_one_file_may_hold_both(files: Files):
    files.write(files.chain, files.chain.read_bytes() + files.key.read_bytes())
    assert certificate_seen(Given(files.chain, None).context(), trusting(files.ca), "localhost")


def test_renewed_files_are_taken_at_the_next_look(files: Files):
    given = Given(files.chain, files.key)
    before = given.context()
    given.look()
    assert given.context() is before
    files.renew("new.example")
    given.look()
    assert certificate_seen(given.context(), trusting(files.ca), "new.example")


def test_a_renewal_seen_half_way_keeps_the_old_certificate_until_it_is_whole(files: Files, capfd: pytest.CaptureFixture[str]):
    given = Given(files.chain, files.key)
    old_key = files.key.read_bytes()
    files.renew("new.example")
    new_key = files.key.read_bytes()
    files.write(files.key, old_key)
    for _ in range(2):
        given.look()
    assert certificate_seen(given.context(), trusting(files.ca), "localhost")
    assert "the key is not the one of the certificate" in given.problem
    assert capfd.readouterr().err.count("tls.not_renewed") == 1
    files.write(files.key, new_key)
    given.look()
    assert given.problem == ""
    assert certificate_seen(given.context(), trusting(files.ca), "new.example")


def test_files_that_vanish_leave_the_old_certificate_in_use(files: Files):
    given = Given(files.chain, files.key)
    files.chain.unlink()
    given.look()
    assert "No such file" in given.problem
    assert certificate_seen(given.context(), trusting(files.ca), "localhost")


@pytest.mark.parametrize(
    ("chain", "key", "why"),
    [
        (None, b"", "No such file"),
        (b"", b"", "cannot be used"),
        (b"nothing of the sort", b"", "cannot be used"),
        (AUTHORITY.certificate, b"no key", "cannot be used"),
        (AUTHORITY.certificate, issuing.authority("other", NOW_MS).key, "the key is not the one of the certificate"),
    ],
)
def test_files_of_no_use_are_a_sentence_with_their_names(files: Files, chain: bytes | None, key: bytes, why: str):
    if chain is None:
        files.chain.unlink()
    else:
        files.chain.write_bytes(chain)
    files.key.write_bytes(key)
    with pytest.raises(RoostError) as raised:
        Given(files.chain, files.key)
    assert str(files.chain) in raised.value.detail and str(files.key) in raised.value.detail and why in raised.value.detail


def test_a_key_with_a_password_is_refused_instead_of_asking_the_terminal(files: Files):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    with pytest.raises(RoostError, match="the key is encrypted"):
        Given(files.chain, files.key)


def test_names_that_clients_have_built_in_are_the_authoritys_beside_a_certificate_of_the_operator(files: Files, tmp_path: Path):
    files.renew("roost.example")
    authority = Authority(tmp_path / "tls", names(["queue.fal.run", "fal.run"]), "here", lambda: NOW_MS, {"SSL_CERT_FILE": str(files.ca)})
    tls = Tls.of(str(files.chain), str(files.key), authority)
    assert certificate_seen(tls.context(), trusting(files.ca), "roost.example")
    assert certificate_seen(tls.context(), trusting(authority.ca_path), "queue.fal.run")
    assert {"roost.example", "queue.fal.run"} <= set(tls.names)
    assert tls.ca == authority.ca and tls.bundle == authority.bundle_path


def test_a_certificate_of_the_operator_alone_needs_nothing_of_ours(files: Files):
    tls = Tls.of(str(files.chain), str(files.key), None)
    assert (tls.ca, tls.bundle, tls.own, tls.problem) == (None, None, False, "")
    assert tls.names == first(files.chain.read_text()).names


def test_callers_agree_on_http_and_modern_tls(files: Files):
    agreed = handshake(Given(files.chain, files.key).context(), trusting(files.ca), "localhost")
    assert (agreed.selected_alpn_protocol(), agreed.compression()) == ("http/1.1", None)
    assert agreed.version() in ("TLSv1.2", "TLSv1.3")
