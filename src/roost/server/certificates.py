"""Which names this server's certificate is for, and TLS as its settings want it."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from roost.core import certificates
from roost.front.authority import Authority, Unusable
from roost.front.tls import Tls
from roost.server.settings import Settings
from roost.wire.errors import RoostError
from roost.wire.hosts import PUBLIC_HOSTS

_SIOCGIFADDR: Final = 0x8915
_EVERY: Final = frozenset(("0.0.0.0", "::", ""))


def tls(settings: Settings, folder: Path, listened: list[str], connect: bool, now_ms: Callable[[], int]) -> Tls | None:
    """TLS as the settings want it; None: off. `listened` are host:port.

    Raises RoostError for settings that cannot be: before a planned restart has begun, so that the server that serves serves on.
    """
    if settings.tls not in ("on", "off"):
        raise RoostError("bad_request", f"tls must be on or off, not {settings.tls!r}")
    if settings.tls_key and not settings.tls_certificate:
        raise RoostError("bad_request", "tls_key is set and tls_certificate is not", hint="The two go together.")
    if settings.tls == "off":
        return None
    machine = certificates.name(socket.gethostname()) or "this machine"
    authority = None
    if connect or not settings.tls_certificate:
        authority = Authority(folder, _names(settings, machine, listened, connect), machine, now_ms)
    try:
        return Tls.of(settings.tls_certificate, settings.tls_key, authority)
    except (OSError, Unusable) as error:
        raise RoostError(
            "bad_request", f"no certificate can be made in {folder}: {error}", hint='Mend that, or set tls = "off" in server.toml.'
        ) from error


def _names(settings: Settings, machine: str, listened: list[str], connect: bool) -> tuple[str, ...]:
    wrong = [name for name in settings.tls_names if certificates.name(name) is None]
    if wrong:
        raise RoostError("bad_request", f"tls_names: {wrong[0]!r} is neither a host's name nor an address")
    wanted = [machine, *_addresses(listened), urlsplit(settings.public_url).hostname or "", *settings.tls_names]
    return certificates.names([*wanted, *(PUBLIC_HOSTS if connect else ())])


def _addresses(listened: list[str]) -> Iterator[str]:
    """What can be dialled where these are listened on."""
    for address in listened:
        host = address.rpartition(":")[0].strip("[]")
        yield host if host not in _EVERY else ""
        if host in _EVERY:
            yield from _own_addresses()


def _own_addresses() -> Iterator[str]:
    """This machine's addresses: the first IPv4 address of each interface, and the IPv6 ones that others can dial."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, interface in socket.if_nameindex():
            # An interface without an address answers with an error.
            with contextlib.suppress(OSError):
                yield socket.inet_ntoa(fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))[20:24])
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, _, _, scope, *_ = line.split()
            # 00 is global; 20 means this link only, where an address says nothing without its interface.
            if scope == "00":
                yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
