"""What an app's past traffic would have met with other settings: the call of `roost simulate`."""

from __future__ import annotations

from typing import Any

from roost.control.api import Api, app_path

Json = dict[str, Any]


def simulate(api: Api, application: str, last_s: float, settings: Json) -> Json:
    """Replay it. A setting with a list of values stands for each of them; all combinations are replayed."""
    return api.call("POST", f"{app_path(application)}/simulate", body={"last_s": last_s, **settings})
