"""Dialling home: the addresses of a ticket as sockets."""

from __future__ import annotations

import socket


def connect(address: str, timeout: float = 5.0) -> socket.socket:
    """A connected stream socket to "unix:/path" or "tcp:host:port". Raises OSError when nobody answers."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        target: object = rest
    elif kind == "tcp":
        host, _, port = rest.rpartition(":")
        # asyncio's own loop sets TCP_NODELAY only on sockets made with this protocol number; without it small frames wait 40 ms.
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = (host.strip("[]"), int(port))
    else:
        raise OSError(f"an address that is neither unix: nor tcp: {address}")
    try:
        sock.settimeout(timeout)
        sock.connect(target)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


def connect_any(addresses: tuple[str, ...], timeout: float = 5.0) -> socket.socket:
    """The first of the addresses that answers."""
    last: OSError = OSError("no address to dial")
    for address in addresses:
        try:
            return connect(address, timeout)
        except OSError as error:
            last = error
    raise last
