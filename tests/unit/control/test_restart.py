from __future__ import annotations

import httpx
import pytest

from roost.control.errors import ControlError
from roost.control.restart import Restarted, restart
from tests.unit.control.server import Clock, Lines, Script, api


def _health(instance: str) -> httpx.Response:
    return httpx.Response(200, json={"status": "ok", "version": "0.2.0", "instance": instance})


def test_a_restart_is_done_when_another_instance_answers() -> None:
    restarting = Lines({"event": "restarting"}, breaks=True)
    script = Script(_health("a"), restarting, _health("a"), httpx.ConnectError("refused"), _health("b"))
    clock = Clock()
    assert restart(api(script), clock=clock, pause=clock.pause) == Restarted("0.2.0", clock.now)
    assert clock.now == pytest.approx(0.2)
    assert script.requests[2].headers["connection"] == "close"


def test_a_restart_that_never_comes_is_said() -> None:
    clock = Clock()
    script = Script(_health("a"), Lines({"event": "restarting"}), *(_health("a") for _ in range(700)))
    with pytest.raises(ControlError) as failed:
        restart(api(script), clock=clock, pause=clock.pause)
    assert "No new server answered within 60 s" in failed.value.detail
