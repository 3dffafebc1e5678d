"""Whether anybody is there at all, asked without the HTTP library."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from roost.client.config import Target
from roost.control.errors import Unreachable

LOCAL_CONNECT_S = 0.8
"""On this machine an answer takes microseconds; whoever waits for a server that is not there should know within a second."""


def knock(target: Target) -> None:
    """Return if something listens at the target's port. Raises Unreachable."""
    parts = urlsplit(target.host)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), LOCAL_CONNECT_S).close()
    except OSError as exc:
        raise nobody_there(target) from exc


def nobody_there(target: Target) -> Unreachable:
    if target.is_local:
        return Unreachable(f"Nothing answers at {target.host}. Start it with `roost up`")
    return Unreachable(
        f"Nothing answers at {target.host}. Start it with `roost up` on that machine", hint="Or check ROOST_HOST, --host or the profile."
    )
