"""Queued requests and queues of apps, as the API has them (docs/internals/durable-queue.md, "HTTP")."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from roost.control.api import Api
from roost.control.errors import ControlError

Json = dict[str, Any]

PAGE = 100


def listed(api: Api, *, application: str = "", state: str = "", caller: str = "", limit: int = PAGE, before: str = "") -> list[Json]:
    """The newest requests first, at most `limit`, of those that are older than the request `before`."""
    given = {"app": application, "state": state, "caller": caller, "limit": str(limit), "before": before}
    return api.call("GET", "/v1/requests", params={name: value for name, value in given.items() if value})["requests"]


def show(api: Api, request_id: str) -> Json:
    """One request with its `attempts` and `events`."""
    return api.call("GET", _path(request_id))


def cancel(api: Api, request_id: str) -> Json:
    """Ask for it to be cancelled."""
    try:
        return api.call("PUT", f"{_path(request_id)}/cancel")
    except ControlError as exc:
        if exc.status == 400 and "ALREADY_COMPLETED" in exc.detail:
            raise ControlError(
                f"Request {request_id} is completed already.", hint=f"`roost requests show {request_id}` tells how.", status=400
            ) from exc
        raise


def retry(api: Api, request_id: str) -> Json:
    """A new request like a completed one, whose `retry_of` it is: the answer of a submit."""
    return api.call("POST", f"{_path(request_id)}/retry")


def queue_size(api: Api, application: str, *, by_user: bool = False) -> Json:
    """`size`, and with `by_user` how many each caller has waiting."""
    return api.call("GET", _queue(application), params={"by_user": "true"} if by_user else None)


def flush_queue(api: Api, application: str, *, caller: str = "") -> int:
    """Cancel what waits in the queue, of one caller or of all; how many these were."""
    return int(api.call("DELETE", _queue(application), params={"caller_user_id": caller} if caller else None)["flushed"])


def _path(request_id: str) -> str:
    return f"/v1/requests/{quote(request_id, safe='')}"


def _queue(application: str) -> str:
    owner, _, name = application.partition("/")
    return f"/_rest/applications/{quote(owner, safe='')}/{quote(name, safe='')}/queue"
