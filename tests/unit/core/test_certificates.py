"""What a certificate says and when the next is due: read as the package reads that made it, for any name."""

from __future__ import annotations

import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from hypothesis import given, provisional, settings
from hypothesis import strategies as st

from roost.core.certificates import (
    LEAF_DAYS,
    LOCAL,
    Certificate,
    Keep,
    Make,
    NoCertificate,
    first,
    judge_authority,
    judge_leaf,
    name,
    names,
)
from roost.front import issuing

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
AUTHORITY = issuing.authority("here", NOW_MS)
LEAF = issuing.leaf(AUTHORITY, LOCAL, NOW_MS).certificate

anything = st.one_of(
    st.text(max_size=40),
    st.ip_addresses().map(str),
    st.from_regex(r"[a-zA-Z0-9_*\-\.äß]{1,70}", fullmatch=True),
    provisional.domains(),
)


def ms(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1000)


@settings(max_examples=60, deadline=None)
@given(st.lists(anything, max_size=6), st.integers(-200, 30_000))
def test_a_certificate_can_be_made_for_whatever_names_somebody_wants_and_says_them(wanted: list[str], day: int):
    now_ms = NOW_MS + day * DAY_MS
    certified = names(wanted)
    made = issuing.leaf(AUTHORITY, certified, now_ms).certificate
    read = first(made.decode())
    assert read.names == certified
    assert set(LOCAL) <= set(read.names)
    oracle = x509.load_pem_x509_certificate(made)
    said = oracle.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses, hosts = said.get_values_for_type(x509.IPAddress), said.get_values_for_type(x509.DNSName)
    assert set(read.names) == {*map(str, addresses), *hosts}
    assert (read.from_ms, read.until_ms) == (ms(oracle.not_valid_before_utc), ms(oracle.not_valid_after_utc))


@settings(max_examples=300, deadline=None)
@given(anything)
def test_a_name_stays_what_it_is_when_it_is_read_again(text: str):
    found = name(text)
    if found is not None:
        assert name(found) == found
        assert found.isascii() and " " not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example.COM.", "example.com"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("my_machine", "my_machine"),
        ("*.example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.com", None),
        ("*", None),
        ("a b", None),
        ("a..b", None),
        ("-a", None),
        ("", None),
        ("localhost:8700", None),
        ("1.2.3", None),
        ("x" * 64, None),
    ],
)
def test_names_and_addresses_are_told_from_what_is_neither(text: str, expected: str | None):
    assert name(text) == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 600), st.integers(0, 255))
def test_damaged_certificates_are_no_certificates_and_nothing_worse(noise: bytes, at: int, byte: int):
    pem = LEAF
    for text in (noise.decode("latin-1"), pem[:at].decode(), (pem[:at] + bytes([byte]) + pem[at + 1 :]).decode("latin-1")):
        try:
            first(text)
        except NoCertificate:
            continue


def test_a_chain_is_known_by_its_first_certificate():
    leaf = issuing.leaf(AUTHORITY, names(["one.example"]), NOW_MS)
    assert "one.example" in first((leaf.key + b"words\n" + leaf.certificate + AUTHORITY.certificate).decode()).names


def test_a_certificate_without_names_has_none():
    assert first(AUTHORITY.certificate.decode()).names == ()


def test_addresses_of_both_kinds_are_addresses_and_not_names():
    leaf = issuing.leaf(AUTHORITY, ("10.0.0.1", "fd00::2", "a.example"), NOW_MS).certificate
    said = x509.load_pem_x509_certificate(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert said.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("fd00::2")]
    assert said.get_values_for_type(x509.DNSName) == ["a.example"]


BY = Certificate((), NOW_MS, NOW_MS + 3650 * DAY_MS, subject=b"ours", issuer=b"ours")


def leaf(*wanted: str, begun_days_ago: int = 0, issuer: bytes = b"ours") -> Certificate:
    begin = NOW_MS - begun_days_ago * DAY_MS
    return Certificate(wanted, begin, begin + 90 * DAY_MS, issuer=issuer)


@pytest.mark.parametrize(
    ("current", "wanted", "reason"),
    [
        (None, ("a",), "there is none"),
        (leaf("a", issuer=b"theirs"), ("a",), "it is by another authority"),
        (leaf("a"), ("a", "b"), "it lacks b"),
        (leaf("a", "b"), ("a",), "it has names that are no longer wanted"),
        (leaf("a", begun_days_ago=60), ("a",), "two thirds of its life are over"),
        (leaf("a", begun_days_ago=-1), ("a",), "it begins in the future: this machine's clock was set back"),
    ],
)
def test_a_new_certificate_is_due_with_a_reason(current: Certificate | None, wanted: tuple[str, ...], reason: str):
    assert judge_leaf(current, BY, wanted, NOW_MS) == Make(reason)


def test_a_certificate_is_kept_for_two_thirds_of_its_life():
    assert judge_leaf(leaf("a", begun_days_ago=59), BY, ("a",), NOW_MS) == Keep(NOW_MS + DAY_MS)


def test_an_authority_lives_as_long_as_what_it_signs_ends_before_it():
    def ends_in(days: int) -> Certificate:
        return Certificate((), 0, NOW_MS + days * DAY_MS)

    assert judge_authority(ends_in(LEAF_DAYS + 1), NOW_MS) == Keep(NOW_MS + DAY_MS)
    assert isinstance(judge_authority(ends_in(LEAF_DAYS), NOW_MS), Make)
    assert judge_authority(None, NOW_MS) == Make("there is none")
