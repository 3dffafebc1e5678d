"""`roost keys`: who may do what."""

from __future__ import annotations

from typing import Annotated

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, noun, target
from roost.cli.output import moment, say, tell, tell_json, tell_table

app = noun()


@app.callback()
def keys() -> None:
    """Make, list and revoke API keys."""


def _scope(value: str) -> str:
    if value.upper() not in ("ADMIN", "API"):
        raise typer.BadParameter(f"{value!r} is neither ADMIN nor API.")
    return value.upper()


@app.command()
def create(
    alias: Annotated[str, typer.Option("--alias", "--desc", metavar="TEXT", help="What the key is for.")] = "",
    scope: Annotated[str, typer.Option("--scope", metavar="ADMIN|API", callback=_scope, help="API: call apps. ADMIN: everything.")] = "API",
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Make a key. It is shown once."""
    with connect(host, key, profile) as api:
        made = api.create_key(alias, scope)
    if as_json:
        tell_json(made)
        return
    say("This is the only time that the key is shown.")
    tell(f"ROOST_KEY='{made['key']}'")


@app.command(name="list")
def list_keys(as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """List the keys, without their secrets."""
    with connect(host, key, profile) as api:
        found = api.keys()
    if as_json:
        tell_json({"keys": found})
        return
    rows = [(item["key_id"], moment(item.get("created_at")), item.get("scope"), item.get("alias")) for item in found]
    tell_table(("Key ID", "Created At", "Scope", "Description"), rows, nothing="No keys.")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, the part before the colon.")],
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Revoke a key: from now on it opens nothing."""
    identity = key_id.partition(":")[0]
    with connect(host, key, profile) as api:
        api.revoke_key(identity)
    tell_json({"revoked": identity}) if as_json else tell(f"Revoked {identity}")


@app.command()
def current(as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Print the key that this command line uses, for curl: -H "Authorization: Key $(roost keys current)"."""
    from roost.control.errors import ControlError

    found = target(host, key, profile).key
    if not found:
        raise ControlError("There is no key.", hint="Set ROOST_KEY, or put one into the profile; `roost up` makes the first one.")
    tell_json({"key": found}) if as_json else tell(found)
