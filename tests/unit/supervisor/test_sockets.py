from __future__ import annotations

import shutil
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from roost.supervisor import sockets
from roost.supervisor.problem import CannotStart


def test_a_chosen_port_is_written_where_others_find_it(tmp_path: Path) -> None:
    opened = sockets.open_all(("127.0.0.1:0",), tmp_path)
    try:
        (address,) = opened.addresses
        assert (tmp_path / "address").read_text() == f"{address}\n"
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port))).close()
    finally:
        opened.close()
    assert list(tmp_path.iterdir()) == []


def test_listening_sockets_say_that_they_are_tcp(tmp_path: Path) -> None:
    # asyncio asks for exactly this before it switches off the delay of small writes.
    opened = sockets.open_all(("127.0.0.1:0",), tmp_path)
    try:
        assert [one.proto for one in opened.listening] == [socket.IPPROTO_TCP]
        assert all(one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) for one in opened.listening)
    finally:
        opened.close()


def test_a_name_with_several_addresses_gets_one_port(tmp_path: Path) -> None:
    opened = sockets.open_all(("localhost:0",), tmp_path)
    try:
        assert len({address.rpartition(":")[2] for address in opened.addresses}) == 1
    finally:
        opened.close()


def test_the_runners_socket_is_private_and_replaces_a_stale_one(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "link.sock"))
    stale.close()
    opened = sockets.open_all(("127.0.0.1:0",), tmp_path)
    try:
        assert stat.S_IMODE(opened.link_path.stat().st_mode) == 0o600
        dialling = socket.socket(socket.AF_UNIX)
        dialling.connect(str(opened.link_path))
        dialling.close()
    finally:
        opened.close()


@pytest.mark.parametrize("address", ["8700x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:-1"])
def test_what_is_no_address_is_said(tmp_path: Path, address: str) -> None:
    with pytest.raises(CannotStart, match="is no address to listen on; write HOST:PORT"):
        sockets.open_all((address,), tmp_path)


def test_an_address_of_another_machine_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"this machine has no address like that of 192\.0\.2\.1:0"):
        sockets.open_all(("192.0.2.1:0",), tmp_path)


def test_a_taken_port_is_said_and_nothing_stays_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotStart, match=f"the port of {address} is in use"):
            sockets.open_all(("127.0.0.1:0", address), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "127.0.0.7:0"])
def test_the_connect_door_listens_on_this_machine(tmp_path: Path, address: str) -> None:
    opened = sockets.open_all(("127.0.0.1:0",), tmp_path, (address,))
    try:
        host, _, port = opened.connect_address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port))).close()
        assert opened.connect_address not in opened.addresses, "it is no address of the server's"
    finally:
        opened.close()
    assert all(one.fileno() == -1 for one in opened.connect)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", ":0"])
def test_the_connect_door_is_refused_to_other_machines(tmp_path: Path, address: str) -> None:
    with pytest.raises(CannotStart, match=r"--connect .*: the door .* listens on this one only; write --connect 0"):
        sockets.open_all(("127.0.0.1:0",), tmp_path, (address,))
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_names_the_option_that_chose_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(CannotStart, match="choose another with `roost up --connect PORT`"):
            sockets.open_all(("127.0.0.1:0",), tmp_path, (f"127.0.0.1:{taken.getsockname()[1]}",))


def test_a_short_path_that_somebody_else_may_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    # pytest's own folder may be too long for a socket itself.
    short = Path(tempfile.mkdtemp(prefix="r"))
    request.addfinalizer(lambda: shutil.rmtree(short))
    monkeypatch.setattr("tempfile.tempdir", str(short))
    run = tmp_path / ("x" * 100)
    folder = sockets.link_path_for(run).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sockets.link_path_for(run).parent == folder, "our own folder is used again"
    folder.chmod(0o755)
    with pytest.raises(CannotStart, match="belongs to somebody else"):
        sockets.link_path_for(run)
