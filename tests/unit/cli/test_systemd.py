from __future__ import annotations

from pathlib import Path

import pytest

from roost.cli.systemd import quoted, unit


def test_the_unit_runs_the_command_as_the_account_and_stops_only_the_supervisor() -> None:
    lines = unit(
        ["/usr/bin/python3", "-m", "roost.cli", "up", "--home", "/srv/my roost"], Path("/srv/my roost"), account="ada"
    ).splitlines()
    assert 'ExecStart=/usr/bin/python3 -m roost.cli up --home "/srv/my roost"' in lines
    assert 'Environment="ROOST_HOME=/srv/my roost"' in lines
    assert {"User=ada", "KillMode=mixed", "Restart=always", "Delegate=cpu memory", "WantedBy=multi-user.target"} <= set(lines)


@pytest.mark.parametrize(("word", "text"), [("a", "a"), ("a b", '"a b"'), ("100%", "100%%"), ("$HOME", "$$HOME"), ('a"b', '"a\\"b"')])
def test_words_reach_the_program_as_they_are(word: str, text: str) -> None:
    assert quoted(word) == text
