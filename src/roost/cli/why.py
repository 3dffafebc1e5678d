"""`roost why`: what an app, a request or a runner does, waits for, or ended of, in sentences."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, noun
from roost.cli.output import moment, tell, tell_json

app = noun()


@app.command(name="why")
def why(
    what: Annotated[
        str, typer.Argument(metavar="APP|REQUEST|RUNNER", help="An app's name, or the id of a request or runner, or its first characters.")
    ],
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Say why a request waits, a runner ended, or an app has as many runners as it has."""
    with connect(host, key, profile) as api:
        from roost.control.why import why as ask

        owner = api.target.owner or api.whoami()["owner"]
        found = ask(api, what, owner)
    if as_json:
        tell_json(found)
        return
    for number, part in enumerate(found["parts"]):
        tell(f"{'' if number == 0 else chr(10)}{part['title']}")
        for said in part["said"]:
            tell(f"  {_said(said)}")


def _said(said: dict[str, Any]) -> str:
    return f"{moment(said['at'])}  {said['text']}" if said.get("at") else str(said["text"])
