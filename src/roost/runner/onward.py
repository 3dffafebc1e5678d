"""The call that a handler serves, for the clients that it calls other apps with (client/inherited.py)."""

from __future__ import annotations

from roost.client.inherited import Served, end_ms, served_by
from roost.sdk import context


def pass_on(limit_ms: int) -> None:
    """From now on calls of handlers belong to the call that they serve. `limit_ms` is how long one of those may take."""

    def served() -> Served | None:
        request = context.current()
        if not request.headers:
            return None
        began_s = context.began_s()
        return Served(request.headers, None if began_s is None else end_ms(request.headers, round(began_s * 1000), limit_ms))

    served_by(served)
