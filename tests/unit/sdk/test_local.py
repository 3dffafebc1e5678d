from __future__ import annotations

import os
import socket

import pytest

import roost
from roost.sdk.local import serve_local
from roost.wire.errors import RoostError


class Never(roost.App):
    def setup(self) -> None:
        raise AssertionError("setup() must not run before the address is ours")

    @roost.endpoint("/")
    def run(self) -> None: ...


def test_a_port_in_use_is_said_before_setup():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RoostError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            serve_local(Never, "127.0.0.1", port)


def test_what_setup_raises_comes_through_and_nothing_stays_behind():
    class Broken(Never):
        def setup(self) -> None:
            raise FileNotFoundError("weights.bin")

    with pytest.raises(FileNotFoundError, match=r"weights\.bin"):
        serve_local(Broken, port=0)
    assert roost.get_current_app() is None
    assert "IS_ISOLATE_AGENT" not in os.environ
