"""Which addresses a URL that a caller gave may lead to: not to this machine, its network or its cloud's metadata (faults.md S-12).

Pure: a URL is taken apart here, and an address is judged here; `kit.fetch` resolves names and dials. One host has many spellings
(`127.1`, `0x7f000001`, `[::ffff:127.0.0.1]`, `①②⑦.0.0.1`), and whoever reads one differently from who dials it has a hole: so a URL is
written anew from what was understood, and nothing but that is ever dialled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote

import idna

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL: Final = 2_000
_URL: Final = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE | re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_KEPT_IN_PATH: Final = "%!\"$&'()*+,-./:;<=>?@[]^_`{|}~"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOW: Final = "The server's operator can allow it."

# The registries of special addresses (RFC 6890 and those after it), and what clouds use beside them. A list of our own: the one in
# Python's ipaddress differs from release to release, and says nothing about 6to4, NAT64 and metadata.
_FORBIDDEN: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "no host's address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "an address inside a provider's network"),
        ("127.0.0.0/8", "this machine itself"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("169.254.0.0/16", "a link-local address, as metadata services have"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a relay for IPv6"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "no host's address"),
        ("::1/128", "this machine itself"),
        ("::ffff:0:0/96", "an IPv4 address inside an IPv6 one"),
        ("::ffff:0:0:0/96", "an IPv4 address inside an IPv6 one"),
        ("::/96", "an IPv4 address inside an IPv6 one"),
        ("64:ff9b::/96", "an IPv4 address behind NAT64"),
        ("64:ff9b:1::/48", "an IPv4 address behind NAT64"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "an address for documentation"),
        ("2002::/16", "an IPv4 address behind 6to4"),
        ("3fff::/20", "an address for documentation"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")


class Refused(Exception):
    """Nobody may send us there. The text is a sentence for who gave the URL."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart, and written anew."""

    scheme: str
    host: str
    """A name in lower case and ASCII, or an address in its usual spelling, without brackets."""
    port: int
    path: str
    """Path and query, ASCII, as the request's first line has them."""
    address: Address | None
    """The host, when it is an address."""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    """`"*.x"` stands for all names below x; "" when `network` says it."""
    network: Network | None
    port: int | None

    def allows(self, host: str, address: Address | None, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address is not None and address.version == self.network.version and address in self.network
        return host == self.name or (self.name.startswith("*.") and host.endswith(self.name[1:]))


class AllowList:
    """Targets that the operator allows although they are private: names, addresses or networks, each with `:port` or without.

    A name that is allowed may resolve to any address. Raises ValueError for an entry that is none of these.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._entries = tuple(_entry(text.strip()) for text in entries if text.strip())

    def allows(self, host: str, address: Address | None, port: int) -> bool:
        return any(entry.allows(host, address, port) for entry in self._entries)


def judge_url(url: str, allow: AllowList) -> str:
    """The URL as it would be asked for: http or https, a host that is a name or an address that may be dialled, no userinfo, no fragment.

    A name is not resolved here: what it stands for is judged each time it is dialled. Raises Refused.
    """
    return understand(url, allow).url


def understand(url: str, allow: AllowList) -> Target:
    """`judge_url`, with the parts."""
    if len(url) > MAX_URL:
        raise Refused(f"the URL is longer than {MAX_URL} characters")
    if _CONTROL.search(url):
        raise Refused("the URL has control characters in it")
    found = _URL.fullmatch(url.strip(" "))
    if found is None:
        raise Refused(f"{url[:60]!r} is no http or https URL")
    scheme, authority, path = found[1].lower(), found[2], found[3]
    host, port = _host_and_port(authority, _DEFAULT_PORTS[scheme])
    name, address = _host(host)
    if not path.startswith("/"):
        path = "/" + path
    target = Target(scheme, name, port, quote(path, safe=_KEPT_IN_PATH, errors="replace"), address)
    if len(target.url) > 3 * MAX_URL:
        raise Refused(f"the URL is longer than {3 * MAX_URL} characters when it is written in ASCII")
    if address is not None:
        why = forbidden(address)
        if why is not None and not allow.allows(name, address, port):
            raise Refused(f"{name} is {why}, where this server sends nothing. {_HOW}")
    elif (name == "localhost" or name.endswith(".localhost")) and not allow.allows(name, None, port):
        raise Refused(f"{name} is this machine itself, where this server sends nothing. {_HOW}")
    return target


def dialable(target: Target, found: Iterable[Address], allow: AllowList) -> list[Address]:
    """Those of a name's addresses that may be dialled, in their order. Raises Refused when there are addresses and none of them may."""
    good: list[Address] = []
    why: str | None = None
    for address in found:
        reason = forbidden(address)
        if reason is None or allow.allows(target.host, address, target.port):
            good.append(address)
        else:
            why = f"{target.host} is at {address}, {reason}, where this server sends nothing. {_HOW}"
    if not good and why is not None:
        raise Refused(why)
    return good


def forbidden(address: Address) -> str | None:
    """What is wrong with dialling this address; None: it is a public one."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "an address with a zone, which means something on this machine only"
    for network, what in _FORBIDDEN:
        if address.version == network.version and address in network:
            return what
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return "a reserved address"
    return None


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    if "@" in authority:
        raise Refused("the URL has a name or password before its host; send such things in its path or query")
    if "\\" in authority or "%" in authority or " " in authority:
        # Who percent-decodes a host and who does not dial different ones; so do those who take `\` for `/`.
        raise Refused(f"the URL's host {authority[:60]!r} has characters that no host has")
    host, port = authority, ""
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise Refused(f"the URL's host {authority[:60]!r} cannot be understood")
        host, port = host + "]", rest[1:]
    elif ":" in authority:
        host, _, port = authority.partition(":")
    if port == "":
        return host, default
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise Refused(f"the URL's port {port[:20]!r} is none")
    return host, int(port)


def _host(text: str) -> tuple[str, Address | None]:
    """The host in its one spelling, and its address if it is one."""
    if text.startswith("["):
        try:
            address = IPv6Address(text[1:-1])
        except ValueError:
            raise Refused(f"{text[:60]} is no IPv6 address") from None
        return str(address), address
    name = text
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise Refused(f"the URL's host {text[:60]!r} is no name of a host: {error}") from None
    # One dot at the end says "as it stands, without search domains", and names the same host.
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # No top-level name is a number: resolvers take all of this for an address, each spelling of it.
        address = _ipv4(labels)
        if address is None:
            raise Refused(f"the URL's host {text[:60]!r} looks like an address and is none")
        return str(address), address
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused(f"the URL's host {text[:60]!r} is no name of a host")
    return name, None


def _ipv4(parts: list[str]) -> IPv4Address | None:
    """An address as inet_aton reads it: one to four numbers, decimal, octal or hexadecimal, the last of which fills what is left."""
    numbers: list[int] = []
    for part in parts:
        if len(parts) > 4 or len(part) > 20 or not _NUMBER.fullmatch(part):
            return None
        try:
            if part.startswith("0x"):
                numbers.append(int(part[2:] or "0", 16))
            else:
                numbers.append(int(part, 8 if part.startswith("0") else 10))
        except ValueError:
            return None
    *first, last = numbers
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        return None
    return IPv4Address(sum(number << 8 * (3 - place) for place, number in enumerate(first)) + last)


def _entry(text: str) -> _Entry:
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is no name, address or network with a port")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not (_PORT.fullmatch(port) and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: {port!r} is no port")
    number = int(port) if port else None
    try:
        return _Entry("", ip_network(host, strict=False), number)
    except ValueError:
        pass
    wild = host.startswith("*.")
    try:
        name, address = _host(host[2:] if wild else host)
    except Refused:
        raise ValueError(f"{text!r} is no name, address or network") from None
    if address is not None:
        return _Entry("", ip_network(ip_address(address)), number)
    return _Entry(f"*.{name}" if wild else name, None, number)
