"""The systemd unit that `roost up --systemd` prints."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path


def unit(command: Sequence[str], home: Path, *, account: str | None = None) -> str:
    """A unit that runs `command` as `account` (default: whoever asks) with its state in `home`."""
    return f"""\
# Install: sudo tee /etc/systemd/system/roost.service, then: sudo systemctl daemon-reload && sudo systemctl enable --now roost
[Unit]
Description=Roost, a serverless runtime for AI apps
Wants=network-online.target
After=network-online.target

[Service]
User={account or getpass.getuser()}
Environment={quoted(f"ROOST_HOME={home}")}
ExecStart={" ".join(quoted(word) for word in command)}
ExecReload={quoted(command[0])} -m roost.cli restart
Restart=always
RestartSec=1
# Only the supervisor is told to stop: it ends the others in order, and nobody is left behind after the time-out.
KillMode=mixed
TimeoutStopSec=90
LimitNOFILE=1048576
# Roost divides its control group among the runners: memory of a machine type is then a cap that the kernel keeps, processors are a share.
Delegate=cpu memory
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def quoted(word: str) -> str:
    """One word of a unit file: % and $ mean something to systemd, spaces and quotes would split it."""
    safe = word.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{safe}"' if any(character in word for character in " \t'\"\\;") else safe
