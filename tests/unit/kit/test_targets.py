"""Every spelling of an address is that address, and none that is not public is let through (faults.md S-12)."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.kit.targets import AllowList, Refused, dialable, forbidden, judge_url, understand

NOBODY = AllowList()


def refused(url: str, *allow: str) -> str:
    with pytest.raises(Refused) as error:
        judge_url(url, AllowList(allow))
    return str(error.value)


def spelt(address: ipaddress.IPv4Address, style: str, parts: int) -> str:
    """The address in one of the spellings that inet_aton reads: `parts` numbers, each decimal, octal or hexadecimal."""
    value = int(address)
    shifts = [24, 16, 8, 0][: parts - 1]
    numbers = [value >> shift & 255 for shift in shifts] + [value & (1 << 8 * (5 - parts)) - 1]
    return ".".join(
        {"d": str, "o": lambda n: f"0{n:o}", "x": hex, "X": lambda n: f"0X{n:X}", "z": lambda n: f"0x{n:010x}"}[style](n) for n in numbers
    )


addresses_v4 = st.one_of(
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
    st.sampled_from(["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "172.31.255.255", "100.64.0.1", "0.0.0.0", "8.8.8.8"]).map(
        ipaddress.IPv4Address
    ),
)


@given(addresses_v4, st.sampled_from("doxXz"), st.integers(1, 4), st.sampled_from(["", "."]), st.sampled_from(["", ":80", ":8080"]))
def test_every_spelling_of_an_ipv4_address_is_that_address(address: ipaddress.IPv4Address, style: str, parts: int, dot: str, port: str):
    host = spelt(address, style, parts)
    # inet_aton is what getaddrinfo uses: if it dialled this text, it would dial this address.
    assert socket.inet_aton(host) == address.packed
    url = f"http://{host}{dot}{port}/hook"
    if forbidden(address) is not None:
        assert str(address) in refused(url)
    else:
        assert urlsplit(judge_url(url, NOBODY)).hostname == str(address)


@given(addresses_v4)
def test_no_ipv4_address_that_python_calls_private_is_dialled(address: ipaddress.IPv4Address):
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert forbidden(address) is not None


@given(
    st.one_of(
        st.integers(0, 2**128 - 1),
        st.builds(lambda high, low: high << 120 | low, st.sampled_from([0, 0x20, 0xFC, 0xFE, 0xFF]), st.integers(0, 2**120 - 1)),
    ).map(ipaddress.IPv6Address)
)
def test_no_ipv6_address_that_python_calls_private_is_dialled(address: ipaddress.IPv6Address):
    inside = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
    if not address.is_global or address.is_multicast or address.is_reserved or inside:
        assert forbidden(address) is not None
    elif forbidden(address) is None:
        assert judge_url(f"https://[{address.exploded.upper()}]/", NOBODY) == f"https://[{address}]/"


@given(addresses_v4, st.sampled_from(["::ffff:{}", "::{}", "64:ff9b::{}", "::ffff:0:{}", "64:ff9b:1::{}"]))
def test_an_ipv4_address_in_ipv6_clothes_is_never_dialled(address: ipaddress.IPv4Address, clothes: str):
    refused(f"http://[{clothes.format(address)}]/")


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.01",
        "0x7f000001",
        "00000000000177.1",
        "0",
        "127.0.0.1.",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "１２７.0.0.1",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "255.255.255.255",
        "localhost",
        "LOCALHOST.",
        "x.localhost",
        "ⓛocalhost",
    ],
)
def test_this_machine_its_network_and_metadata_are_refused(host: str):
    assert "sends nothing" in refused(f"http://{host}/") and "sends nothing" in refused(f"https://{host}:8443/x?y")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http:example.com",
        "http:/example.com",
        "http://",
        "http:///x",
        "http://./",
        "http://example..com/",
        "http://-x.com/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:８０/",
        "http://example.com:+80/",
        "http://example.com:80:80/",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://example.com:80@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://exa mple.com/",
        "http://127.0.0.%31/",
        "http://%31%32%37.0.0.1/",
        "http://example.com％2f@x/",
        "http://exam\nple.com/",
        "http://example.com/\r\nhost: other",
        "http://example.com/\x00",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[v1.x]/",
        "http://[::1]x/",
        "http://256.0.0.1/",
        "http://1.2.3.4.5/",
        "http://09.0.0.1/",
        "http://example.0x7f/",
        "http://a.b.99/",
        "http://99999999999999999999999/",
        f"http://{'a' * 64}.com/",
        f"http://{'a.' * 127}com/",
        "http://\u200b/",
        "http://xn--\uff0f/",
        "http://example.com/" + "x" * 2000,
    ],
)
def test_what_is_no_url_of_a_receiver_is_refused(url: str):
    assert refused(url)


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("HTTP://Example.COM", "http://example.com/"),
        ("https://example.com:443/a/../b//c?x=1&y=%20#part", "https://example.com/a/../b//c?x=1&y=%20"),
        ("http://example.com:8080?x", "http://example.com:8080/?x"),
        ("https://bücher.example/ä b", "https://xn--bcher-kva.example/%C3%A4%20b"),
        ("https://under_score.example.com./@x", "https://under_score.example.com/@x"),
        ("http://example.com/a\\b", "http://example.com/a%5Cb"),
        (" http://8.8.8.8/ ", "http://8.8.8.8/"),
        ("http://0x08080808:080/", "http://8.8.8.8/"),
        ("https://[2606:4700::1111]:444/", "https://[2606:4700::1111]:444/"),
        ("http://1.2.3/4@x:99999", "http://1.2.0.3/4@x:99999"),
        ("http://0xg/", "http://0xg/"),
        ("http://1e100.net/", "http://1e100.net/"),
        ("http://a.b9/", "http://a.b9/"),
    ],
)
def test_a_url_is_written_as_it_will_be_asked_for(url: str, written: str):
    assert judge_url(url, NOBODY) == written
    assert judge_url(written, NOBODY) == written


@given(st.text(max_size=80), st.sampled_from(["http://", "https://", ""]))
def test_whatever_the_text_it_is_refused_or_one_clean_line(text: str, scheme: str):
    try:
        target = understand(scheme + text, NOBODY)
    except Refused:
        return
    assert target.url.isascii() and target.url.isprintable() and " " not in target.url
    parts = urlsplit(target.url)
    # Another parser, which reads what we wrote, finds the same host.
    assert (parts.hostname, parts.username, parts.password) == (target.host, None, None)
    assert understand(target.url, NOBODY) == target


@pytest.mark.parametrize(
    ("entry", "good", "bad"),
    [
        ("127.0.0.1", ["http://127.0.0.1/", "http://127.1:9/"], ["http://127.0.0.2/", "http://[::1]/", "http://localhost/"]),
        ("127.0.0.1:9000", ["http://2130706433:9000/"], ["http://127.0.0.1/", "http://127.0.0.1:9001/"]),
        ("10.0.0.0/8", ["http://10.9.8.7:1/"], ["http://11.0.0.1@x/", "http://192.168.0.1/"]),
        ("10.0.0.0/8:443", ["https://10.9.8.7/"], ["http://10.9.8.7/"]),
        ("localhost", ["http://localhost:5/", "http://LOCALHOST./"], ["http://x.localhost/", "http://127.0.0.1/"]),
        ("*.localhost", ["http://x.localhost/"], ["http://localhost/"]),
        ("::1", ["http://[::1]:7/"], ["http://127.0.0.1/", "http://[::2]/"]),
        ("[::1]:7", ["http://[0::1]:7/"], ["http://[::1]/"]),
        ("fd00::/8", ["http://[fd12::1]/"], ["http://[fe80::1]/"]),
        ("[fd00::/8]:80", ["http://[fd12::1]/"], ["https://[fd12::1]/"]),
    ],
)
def test_the_operator_can_allow_what_is_private(entry: str, good: list[str], bad: list[str]):
    for url in good:
        assert judge_url(url, AllowList([entry, " "]))
    for url in bad:
        refused(url, entry)


@pytest.mark.parametrize("entry", ["a b", "10.0.0.0/33", "x:0", "x:port", "[::1", "[::1]x", "-x", "http://x/", "1.2.3.4.5", "*.*", "x@y"])
def test_an_allow_list_that_cannot_be_understood_is_told(entry: str):
    with pytest.raises(ValueError, match="is no"):
        AllowList([entry])


def test_only_addresses_that_were_judged_are_dialled():
    target = understand("https://receiver.example/", NOBODY)
    found = [ipaddress.ip_address(text) for text in ("127.0.0.1", "8.8.8.8", "fe80::1", "fe80::1%eth0", "2606:4700::1", "::ffff:8.8.8.8")]
    assert [str(address) for address in dialable(target, found, NOBODY)] == ["8.8.8.8", "2606:4700::1"]
    assert dialable(target, [], NOBODY) == []
    with pytest.raises(Refused, match=r"receiver\.example is at 127\.0\.0\.1, this machine itself"):
        dialable(target, found[:1], NOBODY)
    assert dialable(target, found, AllowList(["receiver.example"])) == found
    assert dialable(target, found, AllowList(["127.0.0.1:443"])) == [found[0], found[1], found[4]]
    assert dialable(target, found, AllowList(["127.0.0.1:80"])) == [found[1], found[4]]
