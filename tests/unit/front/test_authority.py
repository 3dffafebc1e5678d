"""The local authority: made once, kept, renewed in time, and never half there."""

from __future__ import annotations

import os
import re
import ssl
import stat
import sys
import threading
from pathlib import Path

import pytest

from roost.core.certificates import first, names
from roost.front.authority import Authority
from tests.unit.front.handshakes import certificate_seen, trusting

DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000
NAMES = names(["roost.example"])


class Clock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """The certificates that this machine trusts."""
    path = tmp_path / "public.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    return path


class Bench:
    def __init__(self, folder: Path, public: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.environ = {"SSL_CERT_FILE": str(public)}

    def open(self, wanted: tuple[str, ...] = NAMES) -> Authority:
        authority = Authority(self.folder, wanted, "here", self.clock.now_ms, self.environ)
        authority.open()
        return authority

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
def bench(tmp_path: Path, public: Path) -> Bench:
    return Bench(tmp_path / "tls", public)


def test_what_the_first_look_makes_is_trusted_under_each_of_its_names_by_who_trusts_the_authority(bench: Bench):
    authority = bench.open()
    for name in NAMES:
        assert certificate_seen(authority.context(), trusting(authority.ca_path), name)
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate_seen(authority.context(), trusting(authority.ca_path), "other.example")


def test_keys_are_their_owners_only_and_the_rest_is_for_everybody(bench: Bench):
    bench.open()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in bench.folder.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "leaf.pem": 0o600, "bundle.pem": 0o644, "lock": 0o600}
    assert stat.S_IMODE(bench.folder.stat().st_mode) == 0o700


def test_a_second_server_takes_what_is_there(bench: Bench):
    bench.open()
    before = {path.name: path.read_bytes() for path in bench.folder.iterdir()}
    bench.open()
    assert {path.name: path.read_bytes() for path in bench.folder.iterdir()} == before


def test_the_certificate_is_renewed_at_two_thirds_of_its_life_for_new_connections(bench: Bench):
    authority = bench.open()
    trust, old = trusting(authority.ca_path), authority.context()
    first_seen = certificate_seen(old, trust, "localhost")
    bench.clock.ms += 59 * DAY_MS
    authority.look()
    assert authority.context() is old
    bench.clock.ms += 2 * DAY_MS
    authority.look()
    seen = certificate_seen(authority.context(), trust, "localhost")
    assert seen != first_seen
    assert first(ssl.DER_cert_to_PEM_cert(seen)).until_ms > bench.clock.ms + 80 * DAY_MS
    assert certificate_seen(old, trust, "localhost") == first_seen, "connections that are there go on"


def test_other_names_get_another_certificate_by_the_same_authority(bench: Bench):
    bench.open()
    ca = bench.read("ca.pem")
    authority = bench.open(names(["other.example"]))
    assert authority.certificate.names == names(["other.example"])
    assert bench.read("ca.pem") == ca


@pytest.mark.parametrize("damage", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_a_damaged_certificate_is_made_again(bench: Bench, damage: str):
    bench.open()
    ca = bench.read("ca.pem")
    (bench.folder / "leaf.pem").write_text(damage)
    authority = bench.open()
    assert certificate_seen(authority.context(), trusting(authority.ca_path), "localhost")
    assert bench.read("ca.pem") == ca


@pytest.mark.parametrize("lost", ["ca.pem", "ca.key"])
def test_an_authority_that_lost_a_half_is_replaced_as_a_whole(bench: Bench, lost: str, capfd: pytest.CaptureFixture[str]):
    bench.open()
    before = bench.read("ca.pem")
    (bench.folder / lost).unlink()
    authority = bench.open()
    assert bench.read("ca.pem") != before
    assert certificate_seen(authority.context(), trusting(authority.ca_path), "localhost")
    assert authority.ca.strip() in bench.read("bundle.pem")


def test_a_key_of_another_authority_is_not_signed_with(bench: Bench, tmp_path: Path, public: Path):
    bench.open()
    other = Bench(tmp_path / "other", public)
    other.open()
    (bench.folder / "ca.key").write_text(other.read("ca.key"))
    authority = bench.open(names(["later.example"]))
    assert certificate_seen(authority.context(), trusting(authority.ca_path), "later.example")


def test_a_certificate_that_another_authority_signed_is_made_again(bench: Bench, tmp_path: Path, public: Path):
    """As after one file was restored from a copy."""
    bench.open()
    other = Bench(tmp_path / "other", public)
    other.open()
    (bench.folder / "leaf.pem").write_text(other.read("leaf.pem"))
    authority = bench.open()
    assert certificate_seen(authority.context(), trusting(authority.ca_path), "localhost")


def test_an_authority_near_its_end_is_replaced_and_said_so(bench: Bench, capfd: pytest.CaptureFixture[str]):
    authority = bench.open()
    bench.clock.ms += 3_600 * DAY_MS
    authority.look()
    assert certificate_seen(authority.context(), trusting(authority.ca_path), "localhost")
    assert "tls.authority_replaced" in capfd.readouterr().err


def test_the_bundle_has_what_the_machine_trusts_and_the_authority_and_does_not_grow(bench: Bench, public: Path):
    authority = bench.open()
    assert public.read_text().strip() in bench.read("bundle.pem")
    assert authority.ca.strip() in bench.read("bundle.pem")
    size = len(bench.read("bundle.pem"))
    (public.parent / "link.pem").symlink_to(authority.bundle_path)
    for said in (str(authority.bundle_path), str(public.parent / "link.pem")):
        # Who has exported SSL_CERT_FILE as the guide says, and starts a server in the same shell.
        bench.environ["SSL_CERT_FILE"] = said
        bench.open()
        assert bench.read("bundle.pem").count(authority.ca.strip()) == 1
    bench.environ["SSL_CERT_FILE"] = str(public)
    authority.look()
    assert len(bench.read("bundle.pem")) == size


def test_a_look_that_fails_is_said_once_and_leaves_the_certificate_in_use(bench: Bench, capfd: pytest.CaptureFixture[str]):
    authority = bench.open()
    context = authority.context()
    bench.clock.ms += 61 * DAY_MS
    aside = bench.folder / "leaf.pem.new"
    aside.mkdir()
    for _ in range(2):
        assert authority.look() == 60
    assert authority.context() is context
    assert "leaf.pem.new" in authority.problem
    assert capfd.readouterr().err.count("tls.not_renewed") == 1
    aside.rmdir()
    authority.look()
    assert authority.problem == "" and authority.context() is not context


def test_servers_that_look_at_the_same_moment_agree(bench: Bench):
    seen: list[str] = []

    def one() -> None:
        authority = Authority(bench.folder, NAMES, "here", bench.clock.now_ms, bench.environ)
        authority.open()
        seen.append(authority.ca)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4 and len(set(seen)) == 1


def test_a_server_that_has_its_certificate_does_not_load_what_makes_one(bench: Bench):
    bench.open()
    program = (
        "import sys, time; from pathlib import Path; from roost.front.authority import Authority\n"
        f"Authority(Path({str(bench.folder)!r}), {NAMES!r}, 'here', lambda: {NOW_MS}).open()\n"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", program]) == 0


def test_two_authorities_have_different_names(bench: Bench, tmp_path: Path, public: Path):
    other = Bench(tmp_path / "other", public)
    pattern = re.compile("Roost authority of here [0-9a-f]{8}")
    subjects = {str(certificate_issuer(one.open())) for one in (bench, other)}
    assert len(subjects) == 2 and all(pattern.search(subject) for subject in subjects)


def certificate_issuer(authority: Authority) -> object:
    context = trusting(authority.ca_path)
    (ca,) = context.get_ca_certs()
    return ca["subject"]
