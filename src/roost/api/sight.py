"""Whose requests a key sees: those of its account's apps with an ADMIN key, and what its account submitted with any.

What goes with a request, its webhook, is seen by whoever sees the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from roost.api.request import Request as Call
from roost.wire.errors import RoostError


@dataclass(frozen=True, slots=True)
class Sight:
    """Which of them a list may show; None stands for any."""

    owner: str | None
    """Of the app."""
    name: str | None
    """Of the app."""
    caller: str | None
    """The account that submitted."""


def sight(call: Call) -> Sight:
    """What `?app=owner/name&caller=` leaves of what this key sees. Raises `forbidden`, `unprocessable`."""
    name = _app_name(call)
    caller = call.query.get("caller") or None
    if not call.principal.is_admin:
        if caller not in (None, call.owner):
            raise RoostError(
                "forbidden", "an API key sees the requests of its own account only", hint="Leave `caller` out, or use an ADMIN key."
            )
        caller = call.owner
    owner = call.query["app"].partition("/")[0] if name is not None else call.owner if call.principal.is_admin else None
    if owner is not None and owner != call.owner:
        # Of somebody else's app an account sees what it submitted itself.
        caller = call.owner
    return Sight(owner, name, caller)


def sees(call: Call, owner: str, caller: str) -> bool:
    """Whether this key sees the requests that `caller` submitted to an app of `owner`."""
    return caller == call.owner or (call.principal.is_admin and owner == call.owner)


def unknown_request(request_id: str) -> RoostError:
    """Also for one that is somebody else's: that it is there is not told."""
    return RoostError(
        "not_found", f"Request {request_id[:80]!r} not found", hint="`roost requests list` shows the requests of this account."
    )


def _app_name(call: Call) -> str | None:
    """The name in `?app=owner/name`. Raises `unprocessable`."""
    application = call.query.get("app")
    if not application:
        return None
    owner, slash, name = application.partition("/")
    if not (owner and slash and name):
        raise RoostError("unprocessable", f"app={application[:80]!r} is not of the form owner/name")
    return name
