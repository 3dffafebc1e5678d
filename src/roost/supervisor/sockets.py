"""The sockets that outlive any server: where callers connect (TCP), where runners dial (a Unix socket), and the CONNECT door (TCP).

The supervisor only listens; servers accept. While no server runs, connections wait in the kernel's backlog.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import os
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.supervisor.problem import CannotStart

BACKLOG: Final = 4096
UNIX_PATH_LIMIT: Final = 107
"""Bytes of a Unix socket's path, without the final zero."""


@dataclass(frozen=True, slots=True)
class Sockets:
    listening: tuple[socket.socket, ...]
    link: socket.socket
    link_path: Path
    address_file: Path
    connect: tuple[socket.socket, ...] = ()
    """The CONNECT door."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where callers connect, as "host:port"."""
        return tuple(map(_address_of, self.listening))

    @property
    def connect_address(self) -> str:
        """Where the CONNECT door is, as "host:port"; "" where there is none."""
        return _address_of(self.connect[0]) if self.connect else ""

    def close(self) -> None:
        """Close all and remove what lies in the file system."""
        for one in (*self.listening, self.link, *self.connect):
            one.close()
        for path in (self.link_path, self.address_file):
            with contextlib.suppress(OSError):
                path.unlink()
        if self.link_path.parent != self.address_file.parent:
            with contextlib.suppress(OSError):
                self.link_path.parent.rmdir()


def remove_stale(run_folder: Path) -> None:
    """Remove what a supervisor that was killed left there. The caller holds the lock, so that nobody else's is meant."""
    for name in ("address", "link.sock"):
        (run_folder / name).unlink(missing_ok=True)


def open_all(listen: tuple[str, ...], run_folder: Path, connect: tuple[str, ...] = ()) -> Sockets:
    """Open every socket and write `run/address`. Raises CannotStart. The caller holds the lock."""
    listening: list[socket.socket] = []
    door: list[socket.socket] = []
    try:
        for address in listen:
            listening += _listen(address, "--port PORT")
        for address in connect:
            door += _listen_here(address)
        link_path = link_path_for(run_folder)
        link = _listen_unix(link_path)
    except BaseException:
        for one in (*listening, *door):
            one.close()
        raise
    sockets = Sockets(tuple(listening), link, link_path, run_folder / "address", tuple(door))
    # Written aside first: whoever waits for the file must not read half of it.
    unfinished = run_folder / "address.new"
    unfinished.write_text("".join(f"{address}\n" for address in sockets.addresses))
    unfinished.replace(sockets.address_file)
    return sockets


def _listen_here(address: str) -> list[socket.socket]:
    """Listen for programs of this machine only."""
    opened = _listen(address, "--connect PORT")
    if all(ipaddress.ip_address(one.getsockname()[0]).is_loopback for one in opened):
        return opened
    for one in opened:
        one.close()
    raise CannotStart(
        f"--connect {address}: the door would make tunnels for every machine that reaches it, so it listens on this one only; "
        f"write --connect {address.rpartition(':')[2]}, and let other machines dial the server itself (`roost env` says how)"
    )


def _listen(address: str, option: str) -> list[socket.socket]:
    host, port = _parse(address)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotStart(f"cannot listen on {address}: the host {host!r} is not known ({error.strerror})") from error
    opened: list[socket.socket] = []
    for family, target in dict.fromkeys((entry[0], entry[4]) for entry in found):
        # "localhost" is two addresses; with port 0 both get the port that was chosen for the first.
        port = opened[0].getsockname()[1] if opened else port
        try:
            opened.append(_listen_tcp(family, (target[0], port, *target[2:])))
        except OSError as error:
            # A name may stand for an address that this machine does not have, such as ::1 where IPv6 is off.
            if opened and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            for one in opened:
                one.close()
            raise CannotStart(_why_not(address, error, option)) from error
    return opened


def _listen_tcp(family: int, target: tuple[object, ...]) -> socket.socket:
    # proto says TCP: asyncio sets TCP_NODELAY only on sockets that were made like that, and without it answers stall for 40 ms.
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(target)
        one.listen(BACKLOG)
        one.setblocking(False)
    except BaseException:
        one.close()
        raise
    return one


def _why_not(address: str, error: OSError, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"the port of {address} is in use by another program; stop that one or choose another with `roost up {option}`"
        case errno.EACCES:
            return f"this user may not listen on {address}; choose a port above 1023 with `roost up {option}`"
        case errno.EADDRNOTAVAIL:
            return f"this machine has no address like that of {address}; 127.0.0.1 (only here) and 0.0.0.0 (everywhere) always work"
        case _:
            return f"cannot listen on {address}: {error.strerror}"


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise CannotStart(f"{address!r} is no address to listen on; write HOST:PORT, such as 127.0.0.1:8700 or [::1]:8700")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _address_of(one: socket.socket) -> str:
    host, port, *_ = one.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def link_path_for(run_folder: Path) -> Path:
    """`run/link.sock`, or a short path in a folder of our own where that is longer than the kernel takes."""
    path = run_folder / "link.sock"
    if len(os.fsencode(path)) <= UNIX_PATH_LIMIT:
        return path
    name = hashlib.sha256(os.fsencode(run_folder)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"roost-{os.getuid()}-{name}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    facts = folder.lstat()
    # Anybody may have made that folder before us, to catch the runners' tokens.
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise CannotStart(f"{folder} belongs to somebody else, and {path} is too long for a socket; use a shorter `roost up --home`")
    if len(os.fsencode(folder / "link.sock")) > UNIX_PATH_LIMIT:
        raise CannotStart(f"{path} is too long for a socket ({UNIX_PATH_LIMIT} bytes), and so is {folder}; use a shorter `roost up --home`")
    return folder / "link.sock"


def _listen_unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        one.bind(os.fspath(path))
        one.listen(BACKLOG)
        one.setblocking(False)
    except OSError as error:
        one.close()
        raise CannotStart(f"cannot open the runners' socket {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    return one
