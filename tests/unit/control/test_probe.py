from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from roost.client.config import Target
from roost.control.errors import Unreachable
from roost.control.probe import knock


def test_a_listening_port_is_somebody_and_a_closed_one_nobody() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        target = Target(f"http://127.0.0.1:{listening.getsockname()[1]}", "")
        knock(target)
    with pytest.raises(Unreachable) as nobody:
        knock(target)
    assert nobody.value.detail == f"Nothing answers at {target.host}. Start it with `roost up`"


def test_httpx_comes_without_its_own_command_line_and_that_can_still_be_imported() -> None:
    code = (
        "import sys; from roost.client.lighthttp import httpx; assert httpx.Client\n"
        "assert not {'rich', 'pygments', 'click'} & set(sys.modules), 'heavy'\n"
        "import httpx._main"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
