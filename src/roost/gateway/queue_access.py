"""Who may see a queued request, and cancel it: the account that submitted it and the app's owner (GAPS B14). To all others it is not there."""

from __future__ import annotations

from enum import Enum

from roost.core.requests import ANONYMOUS, Request
from roost.web.auth import KeyRing, Principal
from roost.wire.errors import RoostError


class Access(Enum):
    NONE = "none"
    """As if there were no such request."""
    CALLER = "caller"
    OWNER = "owner"
    """Of the app."""


def access(request: Request | None, keys: KeyRing, authorization: bytes | None) -> Access:
    """What this key may see of the request; None is one that nobody knows. Raises `unauthorized` for a key that is not valid.

    A request that was submitted to a public app without a key can be seen by whoever knows its id: nothing else tells its caller from others. So
    it is with a key of somebody else's world, which public apps take no notice of either (GAPS C14).
    """
    try:
        principal = keys.check(authorization) if authorization is not None else None
    except RoostError:
        if request is None or request.caller != ANONYMOUS:
            raise
        principal = None
    return may(request, principal) if request is not None else Access.NONE


def may(request: Request, principal: Principal | None) -> Access:
    """What the account behind a key may see; None is somebody without one."""
    if principal is not None and principal.owner == request.owner:
        return Access.OWNER
    if request.caller == ANONYMOUS or (principal is not None and principal.owner == request.caller):
        return Access.CALLER
    return Access.NONE
