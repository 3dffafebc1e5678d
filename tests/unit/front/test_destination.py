"""Where a CONNECT goes."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.front.destination import Address, Destination, Refuse, Splice, Tunnel, decide, dialled
from roost.wire.hosts import PUBLIC_HOSTS


def connect(authority: str, fields: str = "") -> Destination:
    return decide(f"CONNECT {authority} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"))


@pytest.mark.parametrize("host", PUBLIC_HOSTS)
@pytest.mark.parametrize("spelling", [str, str.upper, "{}.".format])
@pytest.mark.parametrize("port", [443, 80, 8443])
def test_names_that_clients_have_built_in_go_to_our_server(host: str, spelling: type[str], port: int) -> None:
    assert connect(f"{spelling(host)}:{port}") == Splice()


@pytest.mark.parametrize(
    ("authority", "to"),
    [
        ("pypi.org:443", Address("pypi.org", 443)),
        ("localhost:8700", Address("localhost", 8700)),
        ("notfal.run:443", Address("notfal.run", 443)),
        ("fal.run.example.com:443", Address("fal.run.example.com", 443)),
        ("10.0.0.7:22", Address("10.0.0.7", 22)),
        ("[::1]:443", Address("::1", 443)),
        ("[fe80::1%eth0]:443", Address("fe80::1%eth0", 443)),
        ("_service.xn--bcher-kva.example.:1", Address("_service.xn--bcher-kva.example.", 1)),
    ],
)
def test_every_other_name_goes_where_it_says(authority: str, to: Address) -> None:
    assert connect(authority, "host: something.else:1\r\nproxy-connection: keep-alive\r\n") == Tunnel(to)


@pytest.mark.parametrize(
    "authority",
    [
        "example.com",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:443x",
        "example.com:٤٤٣".encode().decode("latin-1"),
        ":443",
        "http://example.com:443",
        "user:secret@example.com:443",
        "/path:1",
        "::1:443",
        "[::1:443",
        "[example.com]:443",
        "a..b:443",
        f"{'a' * 64}.example:443",
        f"{'a.' * 127}a:443",
        "-a.example:443",
    ],
)
def test_what_is_no_host_and_port_is_refused(authority: str) -> None:
    refused = connect(authority)
    assert isinstance(refused, Refuse) and refused.status == 400


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n\r\n",
        b"CONNECT\r\n\r\n",
        b"CONNECT example.com:443\r\n\r\n",
        b"CONNECT example.com:443 HTTP/2\r\n\r\n",
        b"CONNECT  example.com:443 HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nno colon\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\na: b\r\n folded\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\na : b\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\na: b\nc: d\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\na: \x00\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    ],
)
def test_a_head_that_is_no_http_is_refused(head: bytes) -> None:
    refused = decide(head)
    assert isinstance(refused, Refuse) and refused.status == 400


@pytest.mark.parametrize("line", [b"GET http://example.com/ HTTP/1.1", b"POST / HTTP/1.0", b"connect example.com:443 HTTP/1.1"])
def test_another_method_is_told_what_to_set_instead(line: bytes) -> None:
    refused = decide(line + b"\r\nhost: example.com\r\n\r\n")
    assert isinstance(refused, Refuse) and refused.status == 405 and "https_proxy" in refused.detail


@given(st.binary(max_size=200) | st.from_regex(rb"CONNECT [!-~]{1,80} HTTP/1.1", fullmatch=True))
def test_whatever_arrives_there_is_an_answer_and_what_is_dialled_can_be_looked_up(line: bytes) -> None:
    match decide(line + b"\r\n\r\n"):
        case Tunnel(Address(host, port)):
            assert 0 < port < 65536
            assert ":" not in host or ipaddress.IPv6Address(host)
            assert host.encode("idna")
        case Refuse(status, detail):
            assert status in (400, 405) and detail
        case Splice():
            pass


@pytest.mark.parametrize(
    ("listened", "to"),
    [
        ("127.0.0.1:8700", "127.0.0.1:8700"),
        ("0.0.0.0:8700", "127.0.0.1:8700"),
        ("[::]:8700", "[::1]:8700"),
        ("[::1]:8700", "[::1]:8700"),
        ("192.168.1.5:80", "192.168.1.5:80"),
    ],
)
def test_a_server_that_listens_everywhere_is_dialled_here(listened: str, to: str) -> None:
    assert str(dialled(listened)) == to


def test_no_address_to_dial_is_an_error() -> None:
    with pytest.raises(ValueError, match="is no host:port"):
        dialled("")
