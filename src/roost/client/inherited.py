"""What the calls that a handler makes take over from the call that it serves: its trace, and the time that it has left.

The client knows nothing of handlers: whoever runs them says here where the current call is to be found (`served_by`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time

START_FIELD = "x-fal-request-timeout"
END_FIELD = "x-roost-deadline"
"""When nobody needs the answer any more, in milliseconds since the epoch: a chain of apps ends with its first call, wherever it waits."""
TRACE_FIELDS = ("traceparent", "tracestate", "baggage")
SHORTEST_MS = 200
"""Asked for when less is left: a server refuses deadlines that nothing can meet, in words that speak of the field and not of the time."""

_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Served:
    """The call that the running code works for."""

    headers: Mapping[str, str]
    """Its fields by lower-case name."""
    ends_ms: int | None
    """When its time is up, since the epoch; None for work that goes on after the answer."""


def _nobodys() -> Served | None:
    return None


_current: Callable[[], Served | None] = _nobodys


def served_by(current: Callable[[], Served | None]) -> None:
    """From now on `current()` says which call the code that asks works for; None: for none."""
    global _current
    _current = current


def outgoing_headers(*, deadline: bool = True) -> dict[str, str]:
    """Header fields for calls that a handler makes with a client of its own, so that they belong to the call that it serves.

    Trace fields (`traceparent`, `tracestate`, `baggage`) as they came; and how long the handler's own call may still take, as the time in
    which the new call must start. Leave out `deadline` for a request that is submitted for later. Outside of a handler there are none.
    """
    served = _current()
    return {} if served is None else fields(served, round(time() * 1000), deadline=deadline)


def fields(served: Served, now_ms: int, *, deadline: bool) -> dict[str, str]:
    """The fields of a call that `served` makes now."""
    found = {name: served.headers[name] for name in TRACE_FIELDS if name in served.headers}
    if deadline and served.ends_ms is not None:
        found[START_FIELD] = str(max(served.ends_ms - now_ms, SHORTEST_MS) / 1000)
        found[END_FIELD] = str(served.ends_ms)
    return found


def end_ms(headers: Mapping[str, str], began_ms: int, limit_ms: int) -> int:
    """When the time of a call is up: its app's limit, or earlier if whoever waits for it says so."""
    limited = began_ms + limit_ms
    text = headers.get(END_FIELD, "")
    wished = int(text) if text.isdecimal() and len(text) <= _DIGITS else limited
    # One that had passed by then is of a request that was sent again later: its first caller does not wait for this.
    return min(limited, wished) if wished > began_ms else limited
