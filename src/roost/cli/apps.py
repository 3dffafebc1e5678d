"""`roost apps`: what is deployed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from roost.cli import releases
from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, full_name, noun
from roost.cli.output import moment, plain, seconds, tell, tell_fields, tell_json, tell_table
from roost.cli.reading import FollowFlag, LinesFlag, SinceFlag, show_logs

app = noun()
releases.add_to(app)

AppName = Annotated[str, typer.Argument(metavar="APP", help="NAME, or OWNER/NAME.")]

LIST_COLUMNS = (
    "Name",
    "Revision",
    "Auth",
    "Min",
    "Max",
    "Multiplexing",
    "Keep Alive",
    "Request Timeout",
    "Startup Timeout",
    "Machine Type",
    "Runners",
)
RESET_BY_DEPLOY = ("max_multiplexing", "startup_timeout", "machine_types")


@app.callback()
def apps() -> None:
    """See, scale, roll back and delete deployed apps, and read their logs."""


@app.command(name="list")
def list_apps(
    match: Annotated[str, typer.Option("--filter", metavar="TEXT", help="Only apps whose name has this in it.")] = "",
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """List the apps and their settings."""
    with connect(host, key, profile) as api:
        found = sorted((item for item in api.apps() if match in item["application"]), key=lambda item: item["application"])
    if as_json:
        tell_json({"apps": found})
        return
    tell_table(LIST_COLUMNS, [_row(item) for item in found], nothing="No apps. `roost deploy FILE.py` makes the first one.")


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    name = f"{item['application']} (run)" if item.get("ephemeral") else item["application"]
    times = (seconds(item.get(field)) for field in ("keep_alive", "request_timeout", "startup_timeout"))
    numbers = (item.get(field) for field in ("min_concurrency", "max_concurrency", "max_multiplexing"))
    runners = sum((item.get("runners") or {}).values())
    return (name, str(item.get("revision_id") or "")[:8], item.get("auth"), *numbers, *times, item.get("machine_types"), runners)


@app.command()
def show(name: AppName, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Show everything about one app: settings, runners, endpoints, and what its class declares."""
    with connect(host, key, profile) as api:
        item = api.app(full_name(api, name))
    if as_json:
        tell_json(item)
        return
    tell_fields(_fields(item))
    tell("\nDeclared by the class")
    declared = {name: value for name, value in (item.get("spec") or {}).items() if name != "endpoints" and value not in (None, "", [], {})}
    tell_fields((f"  {name}", value) for name, value in declared.items())


def _fields(item: dict[str, Any]) -> list[tuple[str, object]]:
    times = ("keep_alive", "request_timeout", "request_start_timeout", "startup_timeout", "scaling_delay")
    numbers = ("min_concurrency", "max_concurrency", "concurrency_buffer", "concurrency_buffer_perc", "max_multiplexing")
    revision, decision, template = item.get("revision") or {}, item.get("decision") or {}, item.get("template") or {}
    return [
        ("App", item["application"]),
        ("URL", item.get("url")),
        ("Auth", item.get("auth")),
        ("Endpoints", item.get("endpoints")),
        ("Revision", item.get("revision_id")),
        *([("Message", revision["message"])] if revision.get("message") else []),
        *([("Reason", revision["reason"])] if revision.get("reason") else []),
        ("Machine type", item.get("machine_types")),
        ("Runners", item.get("runners")),
        *([("No room", item["no_room"])] if item.get("no_room") else []),
        ("Waiting, in flight", f"{item.get('waiting', 0)}, {item.get('in_flight', 0)}"),
        *([("Scaling", decision["reason"])] if decision.get("reason") else []),
        *([("Template", f"{template['state']}: {template['reason']}")] if template else []),
        *((name.replace("_", " ").capitalize(), item.get(name)) for name in numbers),
        *((name.replace("_", " ").capitalize(), seconds(item.get(name))) for name in times),
        ("Created, updated", f"{moment(item.get('created_at'))}, {moment(item.get('updated_at'))}"),
    ]


@app.command()
def delete(name: AppName, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """Delete an app: its address is gone and its runners end."""
    with connect(host, key, profile) as api:
        deleted = api.delete_app(full_name(api, name))
    tell_json({"deleted": deleted}) if as_json else tell(f"Deleted {deleted}")


@app.command()
def scale(
    name: AppName,
    keep_alive: Annotated[float | None, typer.Option(help="Seconds that an idle runner stays.", min=0)] = None,
    min_concurrency: Annotated[int | None, typer.Option(help="Runners that are always there.", min=0)] = None,
    max_concurrency: Annotated[int | None, typer.Option(help="Most runners.", min=1)] = None,
    max_multiplexing: Annotated[int | None, typer.Option(help="Calls at once in one runner.", min=1)] = None,
    concurrency_buffer: Annotated[int | None, typer.Option(help="Runners above need.", min=0)] = None,
    concurrency_buffer_perc: Annotated[int | None, typer.Option(help="The same, in percent of need.", min=0)] = None,
    scaling_delay: Annotated[
        float | None, typer.Option(help="Seconds that a call may wait before a runner is started for it.", min=0)
    ] = None,
    request_timeout: Annotated[float | None, typer.Option(help="Seconds that one call may take.", min=0)] = None,
    request_start_timeout: Annotated[
        float | None, typer.Option(help="Seconds that a call may wait to begin; 0 removes the limit.", min=0)
    ] = None,
    startup_timeout: Annotated[float | None, typer.Option(help="Seconds that a runner may take to be ready.", min=0)] = None,
    machine_types: Annotated[list[str] | None, typer.Option(help="Machine type; repeat it for others in order of preference.")] = None,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Change how an app scales, at once and without a deploy."""
    given = {
        "keep_alive": keep_alive,
        "min_concurrency": min_concurrency,
        "max_concurrency": max_concurrency,
        "max_multiplexing": max_multiplexing,
        "concurrency_buffer": concurrency_buffer,
        "concurrency_buffer_perc": concurrency_buffer_perc,
        "scaling_delay": scaling_delay,
        "request_timeout": request_timeout,
        "request_start_timeout": request_start_timeout,
        "startup_timeout": startup_timeout,
        "machine_types": machine_types or None,
    }
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing to change; give at least one setting, such as --min-concurrency 1.")
    with connect(host, key, profile) as api:
        item = api.scale(full_name(api, name), changes)
    if as_json:
        tell_json(item)
        return
    tell_table(LIST_COLUMNS, [_row(item)], nothing="")
    reset = [field for field in RESET_BY_DEPLOY if field in changes]
    if reset:
        typer.echo(f"Note: the next deploy sets {plain(reset)} to what the class says.", err=True)


@app.command()
def logs(
    name: AppName,
    follow: FollowFlag = False,
    lines: LinesFlag = None,
    since: SinceFlag = "",
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Print what an app's runners printed."""
    with connect(host, key, profile) as api:
        application = full_name(api, name)
        show_logs(
            lambda last, since_ms: api.app_logs(application, follow=follow, lines=last, since_ms=since_ms),
            follow=follow,
            lines=lines,
            since=since,
            as_json=as_json,
        )
