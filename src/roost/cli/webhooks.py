"""`roost webhooks`: who was told that a request has ended, and who could not be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, full_name, noun, whole_id
from roost.cli.output import moment, say, seconds, tell, tell_fields, tell_json, tell_table

if TYPE_CHECKING:
    from roost.control.api import Api

app = noun()

RequestId = Annotated[str, typer.Argument(metavar="ID", help="The request's id, or its first characters.")]

NEWEST = 1000
"""Among so many an id is found by its first characters."""
STATES = ("PENDING", "DELIVERED", "FAILED")
COLUMNS = ("Request ID", "App", "State", "Tries", "Next Try", "URL", "Reason", "Created At")
TRY_COLUMNS = ("Try", "When", "Status", "Took", "Outcome")


@app.callback()
def webhooks() -> None:
    """See which webhooks were delivered, and send them again."""


def _state(value: str) -> str:
    if value and value.upper() not in STATES:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(STATES)}.")
    return value.upper()


@app.command(name="list")
def list_webhooks(
    name: Annotated[str, typer.Option("--app", metavar="APP", help="Only those of this app's requests.")] = "",
    state: Annotated[str, typer.Option("--state", metavar="STATE", help="Only those PENDING, DELIVERED or FAILED.", callback=_state)] = "",
    caller: Annotated[str, typer.Option("--caller", metavar="ID", help="Only those of this caller.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many, the newest.", min=1, max=1000)] = 100,
    before: Annotated[str, typer.Option("--before", metavar="ID", help="Only of requests older than this one: the next page.")] = "",
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """List the webhooks of requests that have ended, the newest first."""
    with connect(host, key, profile) as api:
        from roost.control import webhooks

        application = full_name(api, name) if name else ""
        found = webhooks.listed(api, application=application, state=state, caller=caller, limit=limit, before=before)
    if as_json:
        tell_json({"webhooks": found})
        return
    tell_table(COLUMNS, [_row(item) for item in found], nothing="No webhooks. `roost call --queue --webhook URL APP` asks for one.")


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    return (
        item["request_id"],
        item.get("application"),
        item.get("state"),
        item.get("tries"),
        moment(item.get("next_try_at")),
        item.get("url"),
        item.get("reason"),
        moment(item.get("created_at")),
    )


@app.command()
def get(request_id: RequestId, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Show one request's webhook: its state, and each try with what the receiver answered."""
    with connect(host, key, profile) as api:
        from roost.control import webhooks

        item = webhooks.get(api, _whole(api, request_id))
    if as_json:
        tell_json(item)
        return
    tell_fields(_fields(item))
    tell("\nTries")
    tell_table(TRY_COLUMNS, [_try(each) for each in item.get("log") or ()], nothing="None yet.")


def _fields(item: dict[str, Any]) -> list[tuple[str, object]]:
    said = (("Next try", "next_try_at"), ("Tried until", "tried_until"), ("Ended", "ended_at"))
    return [
        ("Request", item["request_id"]),
        ("App", item.get("application")),
        ("State", item.get("state")),
        ("URL", item.get("url")),
        ("Reason", item.get("reason")),
        ("Caller", item.get("caller")),
        ("Created", moment(item.get("created_at"))),
        *((label, moment(item[field])) for label, field in said if item.get(field)),
    ]


def _try(each: dict[str, Any]) -> tuple[object, ...]:
    return (each.get("number"), moment(each.get("at")), each.get("status"), seconds(each.get("took")), each.get("outcome"))


@app.command()
def resend(
    request_id: Annotated[str, typer.Argument(metavar="[ID]", help="The request's id, or its first characters.")] = "",
    name: Annotated[str, typer.Option("--app", metavar="APP", help="With --failed: of this app.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="All that were given up.")] = False,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Deliver a webhook once more, or with --app APP --failed all that were given up."""
    if bool(request_id) == (bool(name) and failed) or bool(name) != failed:
        raise typer.BadParameter("name one request by its ID, or all that an app's receivers missed with --app APP --failed.")
    with connect(host, key, profile) as api:
        from roost.control import webhooks

        if failed:
            application = full_name(api, name)
            resent = webhooks.resend_failed(api, application)
            tell_json({"application": application, "resent": resent}) if as_json else tell(f"Sending {resent} again")
            return
        item = webhooks.resend(api, _whole(api, request_id))
    tell_json(item) if as_json else tell(f"{item['request_id']} {item.get('state')}")


@app.command(name="rotate-key")
def rotate_key(
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Sign with it now and forget all others: for a key that somebody else has seen.")
    ] = False,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Make a new key that signs webhooks; prints its id. It is shown to receivers for a day before it signs."""
    with connect(host, key, profile) as api:
        from roost.control import webhooks

        made = webhooks.rotate_key(api, at_once=at_once)
    if as_json:
        tell_json(made)
        return
    tell(made["kid"])
    if at_once:
        say("It signs now. Receivers that keep the old keys refuse deliveries until they fetch these: /.well-known/jwks.json")
    else:
        say(f"It signs from {moment(made.get('signs_from'))} on; the one before stays valid for a day longer.")


def _whole(api: Api, typed: str) -> str:
    def known() -> list[str]:
        from roost.control import webhooks

        return [item["request_id"] for item in webhooks.listed(api, limit=NEWEST)]

    return whole_id(typed, known)
