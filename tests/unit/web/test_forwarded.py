"""Whose word about a request counts, and what it says."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.web.forwarded import Dialled, Trusted, chain, dialled
from roost.wire.frames import Headers

OURS = Trusted(["127.0.0.0/8", "::1", "10.0.0.7", "2001:db8:1::/48"])
HOST = (b"host", b"127.0.0.1:8700")


def seen(*fields: tuple[str, str], from_proxy: bool = True, scheme: str = "http") -> Dialled:
    """What is made of a request that came with these X-Forwarded fields."""
    headers: Headers = [HOST, *((f"x-forwarded-{name}".encode(), value.encode("latin-1")) for name, value in fields)]
    found = dialled(headers, scheme, OURS, from_proxy=from_proxy)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::ffff:127.0.0.1", True),
        ("::1", True),
        ("10.0.0.7", True),
        ("10.0.0.8", False),
        ("2001:db8:1:2::3", True),
        ("2001:db8:2::3", False),
        ("192.0.2.1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_proxies_are_told_by_their_address(address: str, trusted: bool) -> None:
    assert [OURS.has(address), OURS.has(address)] == [trusted, trusted]


@pytest.mark.parametrize("proxy", ["nginx", "10.0.0.0/40", "10.0.0", ""])
def test_a_proxy_that_is_no_address_is_said(proxy: str) -> None:
    with pytest.raises(ValueError, match="is neither an address nor a network"):
        Trusted([proxy])


def test_without_the_fields_there_is_nothing_to_say() -> None:
    assert dialled([HOST, (b"x-forwarded-port", b"1")], "http", OURS, from_proxy=True) is None


def test_a_strangers_fields_go_and_count_for_nothing() -> None:
    fields = ("for", "192.0.2.9"), ("proto", "https"), ("host", "evil.test"), ("prefix", "/evil")
    assert seen(*fields, from_proxy=False) == Dialled("http", [HOST])


def test_a_proxy_says_what_its_caller_dialled() -> None:
    fields = ("for", "192.0.2.9"), ("proto", "https"), ("host", "queue.x.test"), ("prefix", "/roost")
    assert seen(*fields) == Dialled("https", [(b"host", b"queue.x.test")], "192.0.2.9", "/roost")


@pytest.mark.parametrize(
    ("said", "via"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("198.51.100.1, 192.0.2.9", "192.0.2.9"),
        ("198.51.100.1, 192.0.2.9, 10.0.0.7", "192.0.2.9, 10.0.0.7"),
        ("192.0.2.9,10.0.0.7,127.0.0.1", "192.0.2.9, 10.0.0.7, 127.0.0.1"),
        ("127.0.0.1, 10.0.0.7", "127.0.0.1, 10.0.0.7"),
        ("192.0.2.9:4711", "192.0.2.9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("2001:DB8::9", "2001:db8::9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("unknown", ""),
        ("192.0.2.9, unknown", ""),
        ("192.0.2.9, _hidden, 10.0.0.7", "10.0.0.7"),
        ("", ""),
        (",", ""),
        ('192.0.2.9"', ""),
    ],
)
def test_the_list_of_callers_is_believed_from_its_end_up_to_the_first_that_is_no_proxy(said: str, via: str) -> None:
    assert seen(("for", said)).via == via


def test_several_lists_are_one() -> None:
    assert seen(("for", "198.51.100.1"), ("for", "192.0.2.9"), ("for", "10.0.0.7")).via == "192.0.2.9, 10.0.0.7"


@given(st.lists(st.ip_addresses().map(str), max_size=6), st.lists(st.sampled_from(["127.0.0.1", "10.0.0.7", "2001:db8:1::1"]), max_size=4))
def test_whatever_a_caller_writes_there_the_app_reads_its_address_first(forged: list[str], proxies: list[str]) -> None:
    caller = "192.0.2.9"
    read = chain(seen(("for", ", ".join([*forged, caller, *proxies]))).via, "127.0.0.1").split(", ")
    assert read == [caller, *proxies, "127.0.0.1"]


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_whatever_is_said_only_addresses_are_believed(text: str) -> None:
    found = seen(("for", text), ("host", text), ("prefix", text), ("proto", text))
    assert all(ipaddress.ip_address(address) for address in found.via.split(", ") if found.via)
    assert found.scheme in ("http", "https")
    assert not {*'\r\n"<>\\ \x00'} & {*found.root_path, *found.headers[0][1].decode("latin-1")}


@pytest.mark.parametrize(
    ("said", "scheme"), [("https", "https"), ("HTTPS", "https"), ("https, http", "https"), ("http", "http"), ("ftp", "http"), ("", "http")]
)
def test_the_scheme_is_one_of_two(said: str, scheme: str) -> None:
    assert seen(("proto", said)).scheme == scheme


def test_a_proxy_that_says_no_scheme_leaves_that_of_the_connection() -> None:
    assert seen(("for", "192.0.2.9"), scheme="https").scheme == "https"


@pytest.mark.parametrize(
    ("said", "host"),
    [
        ("x.test:8443", b"x.test:8443"),
        ("[::1]:8443", b"[::1]:8443"),
        ("first.test, second.test", b"first.test"),
        ("x test", HOST[1]),
        ('x"', HOST[1]),
        ("user@x.test", HOST[1]),
        ("", HOST[1]),
    ],
)
def test_the_host_is_the_one_dialled_if_it_is_a_host(said: str, host: bytes) -> None:
    assert seen(("host", said)).headers == [(b"host", host)]


@pytest.mark.parametrize(
    ("said", "root_path"),
    [
        ("/roost", "/roost"),
        ("/roost/", "/roost"),
        ("/a/b-c_d~e", "/a/b-c_d~e"),
        ("/a%20b", "/a%20b"),
        ("/", ""),
        ("roost", ""),
        ("//evil.test", ""),
        ("/a//b", ""),
        ("/a?b", ""),
        ("/" + "a" * 300, ""),
    ],
)
def test_the_prefix_is_a_path(said: str, root_path: str) -> None:
    assert seen(("prefix", said)).root_path == root_path
