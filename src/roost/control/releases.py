"""What was deployed before, and the way back to it: the calls of `roost apps list-rev`, `set-rev`, `rollout` and `delete-rev`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from roost.control.api import Api, app_path
from roost.control.errors import ControlError, Unreachable

Json = dict[str, Any]

_LOOK_EVERY_S = 0.3
_PATIENCE_S = 30.0
"""For a server that restarts while somebody waits: what was asked of it goes on in the next."""


def revisions(api: Api, application: str) -> list[Json]:
    """The newest first."""
    return api.call("GET", f"{app_path(application)}/revisions")["revisions"]


def set_revision(api: Api, application: str, revision_id: str, *, strategy: str = "rolling", auth: str = "") -> Json:
    """Begin to point the app to a revision; answers the release, which goes on by itself."""
    body = {"revision_id": revision_id, "strategy": strategy} | ({"auth": auth} if auth else {})
    return api.call("POST", f"{app_path(application)}/revision", body=body)["release"]


def rollout(api: Api, application: str) -> Json:
    """Begin to replace the app's runners; answers the release."""
    return api.call("POST", f"{app_path(application)}/rollout", body={})["release"]


def force_rollout(api: Api, application: str) -> int:
    """End all runners at once; answers how many."""
    return api.call("POST", f"{app_path(application)}/rollout", body={"force": True})["killed"]


def delete_revision(api: Api, application: str, revision_id: str) -> None:
    api.send("DELETE", f"{app_path(application)}/revisions/{quote(revision_id, safe='')}")


def wait(api: Api, release: Json, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.monotonic) -> Json:
    """The release when it has ended. Raises ControlError `release_failed` with the reason if it failed, Unreachable if the server stays away."""
    silent_since: float | None = None
    while release["state"] == "UNDER_WAY":
        sleep(_LOOK_EVERY_S)
        try:
            release = api.call("GET", f"{app_path(release['application'])}/releases/{quote(release['release_id'], safe='')}")["release"]
            silent_since = None
        except Unreachable:
            silent_since = now() if silent_since is None else silent_since
            if now() - silent_since > _PATIENCE_S:
                raise
    if release["state"] == "FAILED":
        kept = "The app serves as before." if release["kind"] == "move" else "The runners that were there serve on."
        raise ControlError(str(release["reason"]), hint=kept)
    return release
