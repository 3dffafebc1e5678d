"""Webhooks and the keys that sign them, as the API has them (docs/internals/contracts.md)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from roost.control.api import Api

Json = dict[str, Any]

PAGE = 100


def listed(api: Api, *, application: str = "", state: str = "", caller: str = "", limit: int = PAGE, before: str = "") -> list[Json]:
    """That of the newest request first, at most `limit`, of those whose request is older than `before`."""
    given = {"app": application, "state": state, "caller": caller, "limit": str(limit), "before": before}
    return api.call("GET", "/v1/webhooks", params={name: value for name, value in given.items() if value})["webhooks"]


def get(api: Api, request_id: str) -> Json:
    """One request's webhook with its `log`: each try."""
    return api.call("GET", _path(request_id))


def resend(api: Api, request_id: str) -> Json:
    """Deliver it once more; the webhook as it is then."""
    return api.call("POST", f"{_path(request_id)}/resend")


def resend_failed(api: Api, application: str) -> int:
    """Deliver all of an app's that were given up; how many these are."""
    return int(api.call("POST", "/v1/webhooks/resend", params={"app": application})["resent"])


def rotate_key(api: Api, *, at_once: bool) -> Json:
    """A new key: its `kid`, `signs_from`, and as `keys` the ids of all that receivers are shown."""
    return api.call("POST", "/v1/webhooks/rotate-key", body={"at_once": at_once})


def _path(request_id: str) -> str:
    return f"/v1/webhooks/{quote(request_id, safe='')}"
