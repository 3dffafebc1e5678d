"""How long a runner that carries queued requests may be silent before they are taken from it.

Silence is counted in looks, not read off a clock: a server that was stopped or slept for an hour, or whose machine did, has looked at nothing
meanwhile, so that it finds its runners as fresh as it left them and gives them time to be heard again (faults.md F-06).
"""

from __future__ import annotations

from typing import Final

LEASE_MS: Final = 10_000
RENEW_EVERY_MS: Final = 3_000
LOOK_EVERY_MS: Final = 1_000
_MOST_A_LOOK_MS: Final = 2 * LOOK_EVERY_MS


def silence(before_ms: int, heard: bool, since_last_look_ms: int) -> int:
    """The silence of a runner after this look. `heard`: it has a connection or its process lives, and it is not stopped by a signal."""
    if heard:
        return 0
    return before_ms + min(max(since_last_look_ms, 0), _MOST_A_LOOK_MS)


def is_over(silent_ms: int) -> bool:
    """Whether somebody else may take the work up. A result that comes later is refused by its attempt's number."""
    return silent_ms >= LEASE_MS
