"""`roost up`: what its options mean, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.cli.main import main


@pytest.fixture
def unit(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The command in the unit that `--systemd` prints for these words."""
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))

    def printed(*words: str) -> str:
        assert main(["up", "--systemd", *words]) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("ExecStart="))

    return printed


@pytest.mark.parametrize(
    ("given", "meant"),
    [("3128", "127.0.0.1:3128"), ("0", "127.0.0.1:0"), ("localhost:3128", "localhost:3128"), ("[::1]:3128", "[::1]:3128")],
)
def test_the_connect_door_is_on_this_machine_unless_a_host_is_said(unit, given: str, meant: str):
    assert unit("--connect", given).endswith(f" --connect {meant}")


def test_without_the_option_there_is_no_door(unit):
    assert "--connect" not in unit()


@pytest.mark.parametrize("given", ["door", "127.0.0.1", "localhost:", "3128x", "70000", "-1"])
def test_what_is_no_port_is_said(given: str, capsys: pytest.CaptureFixture[str]):
    assert main(["up", f"--connect={given}"]) == 2
    assert f"{given!r} is no port; write one such as 3128" in capsys.readouterr().err
