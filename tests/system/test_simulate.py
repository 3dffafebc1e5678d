"""What came is on record, and is replayed by a process of its own, with the command that people type."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx

from tests.system.roosts import Roost

SOURCE = """
import time

import roost


class Replayed(roost.App):
    keep_alive = 300

    def setup(self):
        time.sleep(0.3)

    @roost.endpoint("/")
    def work(self, input: dict) -> dict:
        time.sleep(0.05)
        return {}
"""


def test_direct_and_queued_calls_are_replayed(roost: Roost, tmp_path: Path) -> None:
    file = tmp_path / "replayed.py"
    file.write_text(SOURCE)
    roost.cli("deploy", str(file), "--auth", "public", "--strategy", "recreate")
    began = time.monotonic()
    path = f"{roost.owner}/replayed"
    with httpx.Client(base_url=roost.url, timeout=30) as http:
        for _ in range(3):
            assert http.post(f"/{path}", json={}).status_code == 200
            # A caller who comes before the slot is free again makes the replay start another runner, and the server not.
            time.sleep(0.1)
        submitted = http.post(f"/_queue/{path}", json={}).json()
        while http.get(submitted["status_url"]).json()["status"] != "COMPLETED":
            time.sleep(0.05)
    last = f"{time.monotonic() - began + 1:.1f}s"
    found = json.loads(roost.cli("simulate", "replayed", "--last", last, "--keep-alive", "0", "--keep-alive", "300", "--json").stdout)
    assert found["calls"] == 4 and found["recorded"]["starts"] == 1
    assert found["recorded"]["wait_p99_ms"] >= 300
    for figures in (found["simulated"], found["variants"][1]):
        assert figures["starts"] == 1 and abs(figures["wait_p99_ms"] - found["recorded"]["wait_p99_ms"]) <= 150
    # Nothing is left of the process that replayed.
    assert not [command for command in roost.tree().values() if "roost.server.replay" in command]
