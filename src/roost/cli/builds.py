"""`roost builds`: the package environments that the server built."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, noun
from roost.cli.output import moment, plain, size, tell, tell_json, tell_table

app = noun()

COLUMNS = ("Key", "State", "Python", "Requirements", "Packages", "Size", "Took", "Used At", "In Use")
SHOWN_REQUIREMENTS = 60


@app.callback()
def builds() -> None:
    """See and remove the package environments that the server built."""


@app.command(name="list")
def list_builds(as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """List the environments."""
    with connect(host, key, profile) as api:
        found = api.builds()
    if as_json:
        tell_json({"builds": found})
        return
    tell_table(COLUMNS, [_row(item) for item in found], nothing="No environments. The first `roost run` or `roost deploy` builds one.")


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    requirements = plain(item.get("requirements"))
    if len(requirements) > SHOWN_REQUIREMENTS:
        requirements = f"{requirements[: SHOWN_REQUIREMENTS - 1]}…"
    took = f"{(item.get('build_ms') or 0) / 1000:.1f} s"
    state = f"{item['state']}: {str(item['reason']).splitlines()[0]}" if item.get("reason") and item["state"] == "FAILED" else item["state"]
    used, in_use = moment(item.get("used_at")), bool(item.get("in_use"))
    return (
        item["key"][:12],
        state,
        item.get("python"),
        requirements,
        item.get("packages"),
        size(item.get("size_bytes")),
        took,
        used,
        in_use,
    )


@app.command()
def log(
    build: Annotated[str, typer.Argument(metavar="KEY", help="The environment's key, or its first characters.")],
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Print the output of an environment's last build."""
    with connect(host, key, profile) as api:
        matching = [item["key"] for item in api.builds() if item["key"].startswith(build)]
        whole = matching[0] if len(matching) == 1 else build
        text = api.build_log(whole).rstrip("\n")
    tell_json({"key": whole, "log": text.splitlines()}) if as_json else tell(text)


@app.command()
def prune(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that an app could still want; the next start of it builds again.")
    ] = False,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Remove environments that no app needs."""
    with connect(host, key, profile) as api:
        answer = api.prune_builds(everything)
    if as_json:
        tell_json(answer)
        return
    removed = answer.get("removed") or []
    tell(f"Removed {len(removed)} environment{'' if len(removed) == 1 else 's'}, {size(answer.get('freed_bytes'))} freed.")
