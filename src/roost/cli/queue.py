"""`roost queue`: what waits for an app."""

from __future__ import annotations

from typing import Annotated

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, full_name, noun
from roost.cli.output import tell, tell_json, tell_table

app = noun()

AppName = Annotated[str, typer.Argument(metavar="APP", help="NAME, or OWNER/NAME.")]


@app.callback()
def queue() -> None:
    """See how long an app's queue is, and empty it."""


@app.command()
def size(
    name: AppName,
    by_user: Annotated[bool, typer.Option("--by-user", help="How many each caller has waiting.")] = False,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Print how many requests wait."""
    with connect(host, key, profile) as api:
        from roost.control import requests

        found = requests.queue_size(api, full_name(api, name), by_user=by_user)
    total = found.get("size", found.get("queue_size", 0))
    callers = found.get("by_user") or {}
    if as_json:
        tell_json({"size": total, **({"by_user": callers} if by_user else {})})
    elif by_user:
        rows = sorted(callers.items(), key=lambda item: (-item[1], item[0]))
        tell_table(("Caller", "Waiting"), rows, nothing="Nothing waits.")
    else:
        tell(str(total))


@app.command()
def flush(
    name: AppName,
    caller: Annotated[str, typer.Option("--caller", "--caller-user-id", metavar="ID", help="Only the requests of this caller.")] = "",
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Cancel the requests that wait. What has begun goes on."""
    with connect(host, key, profile) as api:
        from roost.control import requests

        count = requests.flush_queue(api, full_name(api, name), caller=caller)
    tell_json({"flushed": count}) if as_json else tell(f"Cancelled {count} request{'' if count == 1 else 's'}")
