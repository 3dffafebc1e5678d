"""`roost requests`: what was put into the queues, and what became of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, full_name, noun, whole_id
from roost.cli.output import moment, seconds, tell, tell_fields, tell_json, tell_table

if TYPE_CHECKING:
    from roost.control.api import Api

app = noun()

RequestId = Annotated[str, typer.Argument(metavar="ID", help="The request's id, or its first characters.")]

NEWEST = 1000
"""Among so many an id is found by its first characters."""
STATES = ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
COLUMNS = ("Request ID", "App", "Endpoint", "State", "Priority", "Attempt", "Took", "Created At", "Caller")
ATTEMPT_COLUMNS = ("Attempt", "State", "Runner ID", "Began", "Took", "Outcome")
EVENT_COLUMNS = ("When", "What", "Why", "By")


@app.callback()
def requests() -> None:
    """See, cancel and retry queued requests."""


def _state(value: str) -> str:
    wanted = value.upper().replace("-", "_").replace(" ", "_")
    if value and wanted not in STATES:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(STATES)}.")
    return wanted


@app.command(name="list")
def list_requests(
    name: Annotated[str, typer.Option("--app", metavar="APP", help="Only requests for this app.")] = "",
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="Only those IN_QUEUE, IN_PROGRESS or COMPLETED.", callback=_state)
    ] = "",
    caller: Annotated[str, typer.Option("--caller", metavar="ID", help="Only those of this caller.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many, the newest.", min=1, max=1000)] = 100,
    before: Annotated[str, typer.Option("--before", metavar="ID", help="Only requests older than this one: the next page.")] = "",
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """List the requests, the newest first."""
    with connect(host, key, profile) as api:
        from roost.control import requests

        application = full_name(api, name) if name else ""
        found = requests.listed(api, application=application, state=state, caller=caller, limit=limit, before=before)
    if as_json:
        tell_json({"requests": found})
        return
    tell_table(COLUMNS, [_row(item) for item in found], nothing="No requests. `roost call --queue APP` makes one.")


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    return (
        item["request_id"],
        item.get("application"),
        item.get("endpoint"),
        _state_in_words(item),
        item.get("priority"),
        item.get("attempt"),
        _took(item),
        moment(item.get("created_at")),
        item.get("caller"),
    )


def _state_in_words(item: dict[str, Any]) -> str:
    status = str(item.get("status"))
    if status == "IN_QUEUE" and item.get("queue_position") is not None:
        return f"{status} ({item['queue_position']} ahead)"
    if status == "COMPLETED":
        why = item.get("error_type") or item.get("status_code")
        return f"{status} ({why})" if why else status
    return status


def _took(item: dict[str, Any]) -> str:
    took = (item.get("metrics") or {}).get("inference_time")
    return seconds(None if took is None else round(took, 3))


@app.command()
def show(request_id: RequestId, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Show one request: its state, its attempts, and what happened to it when and why."""
    with connect(host, key, profile) as api:
        from roost.control import requests

        item = requests.show(api, _whole_id(api, request_id))
    if as_json:
        tell_json(item)
        return
    tell_fields(_fields(item))
    tell("\nAttempts")
    tell_table(ATTEMPT_COLUMNS, [_attempt(each) for each in item.get("attempts") or ()], nothing="None: no runner has had it.")
    tell("\nEvents")
    tell_table(EVENT_COLUMNS, [_event(each) for each in item.get("events") or ()], nothing="None.")


def _fields(item: dict[str, Any]) -> list[tuple[str, object]]:
    said = (("Error", "error"), ("Error type", "error_type"), ("Runner", "runner_id"), ("Retry of", "retry_of"))
    return [
        ("Request", item["request_id"]),
        ("App, endpoint", f"{item.get('application')} {item.get('endpoint') or ''}".rstrip()),
        ("State", _state_in_words(item)),
        *((label, item[field]) for label, field in said if item.get(field)),
        ("Priority", item.get("priority")),
        ("Caller", item.get("caller")),
        ("Attempts", item.get("attempt")),
        ("Took", _took(item)),
        ("Created", moment(item.get("created_at"))),
        ("Began, finished", f"{moment(item.get('started_at'))}, {moment(item.get('finished_at'))}"),
        ("Kept until", moment(item.get("expires_at"))),
    ]


def _attempt(each: dict[str, Any]) -> tuple[object, ...]:
    began, ended = each.get("started_at"), each.get("ended_at")
    return (
        each.get("number"),
        each.get("state"),
        each.get("runner_id"),
        moment(began),
        _between(began, ended),
        each.get("outcome"),
    )


def _event(each: dict[str, Any]) -> tuple[object, ...]:
    return (_to_the_millisecond(each.get("at")), each.get("kind"), each.get("reason"), each.get("actor"))


def _to_the_millisecond(iso: Any) -> str:
    """What happened in which order within one second is what one looks for here."""
    fraction = re.search(r"\.(\d{3})", str(iso))
    return f"{moment(iso)}{fraction[0]}" if fraction else moment(iso)


def _between(began: Any, ended: Any) -> str:
    from datetime import datetime

    try:
        first, last = (datetime.fromisoformat(str(moment).replace("Z", "+00:00")) for moment in (began, ended))
    except ValueError:
        return "-"
    return seconds(round((last - first).total_seconds(), 3))


@app.command()
def cancel(request_id: RequestId, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Cancel a request: one that waits never begins, one that runs is told to stop."""
    with connect(host, key, profile) as api:
        from roost.control import requests

        whole = _whole_id(api, request_id)
        answer = requests.cancel(api, whole)
    tell_json({"request_id": whole, **answer}) if as_json else tell(f"{whole} {answer.get('status', 'CANCELLATION_REQUESTED')}")


@app.command()
def retry(request_id: RequestId, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Submit a completed request once more, as a new one; prints its id."""
    with connect(host, key, profile) as api:
        from roost.control import requests

        answer = requests.retry(api, _whole_id(api, request_id))
    tell_json(answer) if as_json else tell(answer["request_id"])


def _whole_id(api: Api, typed: str) -> str:
    def known() -> list[str]:
        from roost.control import requests

        return [item["request_id"] for item in requests.listed(api, limit=NEWEST)]

    return whole_id(typed, known)
