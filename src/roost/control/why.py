"""Asking a server why: what an app, a request or a runner does, waits for, or ended of."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from roost.control import requests
from roost.control.api import Api
from roost.control.errors import ControlError

Json = dict[str, Any]

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BEGINS_ONE = re.compile(r"[0-9a-f]{4,8}(-[0-9a-f-]*)?")
NEWEST = 1_000
"""Among so many requests an id is found by its first characters."""


def why(api: Api, typed: str, owner: str) -> Json:
    """The explanation of whatever `typed` names: an app (`name` or `owner/name`), or the id of a request or runner, which may be cut short."""
    if _ID.fullmatch(typed):
        found = _first(api, f"request/{typed}", f"runner/{typed}")
    else:
        app_owner, _, name = typed.strip("/").rpartition("/")
        found = _first(api, f"app/{quote(app_owner or owner, safe='')}/{quote(name, safe='')}")
        if found is None and _BEGINS_ONE.fullmatch(typed):
            found = _first(api, *_beginning_with(api, typed))
    if found is None:
        raise ControlError(
            f"There is no app, request or runner {typed!r} here.",
            hint="`roost apps list`, `roost requests list` and `roost runners list --since 1d` show what there is.",
            status=404,
        )
    return found


def _first(api: Api, *paths: str) -> Json | None:
    for path in paths:
        try:
            return api.call("GET", f"/v1/why/{path}")
        except ControlError as error:
            if error.status != 404:
                raise
    return None


def _beginning_with(api: Api, typed: str) -> list[str]:
    """Where to ask about the only one whose id begins so."""
    ids = [("request", each["request_id"]) for each in requests.listed(api, limit=NEWEST)]
    ids += [("runner", each["runner_id"]) for each in api.runners("", 0)]
    matching = [f"{kind}/{each}" for kind, each in ids if each.startswith(typed)]
    if len(matching) > 1:
        raise ControlError(f"{len(matching)} ids begin with {typed!r}.", hint="Give more of it.")
    return matching
