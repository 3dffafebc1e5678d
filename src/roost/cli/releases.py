"""The verbs of `roost apps` that are about revisions: list-rev, set-rev, rollout, delete-rev."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, check_auth, connect, full_name
from roost.cli.output import moment, say, tell, tell_json, tell_table

AppName = Annotated[str, typer.Argument(metavar="APP", help="NAME, or OWNER/NAME.")]
RevisionId = Annotated[str, typer.Argument(metavar="REV", help="The revision's id, or its first characters.")]
DetachFlag = Annotated[bool, typer.Option("--detach", help="Return at once; it goes on by itself.")]

COLUMNS = ("Revision", "Active", "State", "Runners", "Python", "Created At", "Created By", "Message")
STRATEGIES = ("rolling", "recreate")


def add_to(app: typer.Typer) -> None:
    """Make these verbs of a noun."""
    app.command(name="list-rev")(list_rev)
    app.command(name="set-rev")(set_rev)
    app.command(name="rollout")(rollout)
    app.command(name="delete-rev")(delete_rev)


def _strategy(value: str) -> str:
    if value not in STRATEGIES:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(STRATEGIES)}.")
    return value


def list_rev(name: AppName, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """List what was deployed of an app, the newest first."""
    with connect(host, key, profile) as api:
        from roost.control import releases

        found = releases.revisions(api, full_name(api, name))
    if as_json:
        tell_json({"revisions": found})
        return
    tell_table(COLUMNS, [_row(item) for item in found], nothing="No revisions.")


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    active = "yes" if item.get("active") else ""
    about = (item.get("runners"), item.get("python"), moment(item.get("created_at")), item.get("created_by"), item.get("message"))
    return (item["revision_id"], active, item.get("state"), *about)


def set_rev(
    name: AppName,
    revision: RevisionId,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            metavar="rolling|recreate",
            callback=_strategy,
            help="rolling switches when a runner of it is ready, recreate at once.",
        ),
    ] = "rolling",
    auth: Annotated[
        str, typer.Option("--auth", metavar="private|public|shared", callback=check_auth, help="Also change who may call.")
    ] = "",
    detach: DetachFlag = False,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Point an app to another of its revisions: roll back, or forward again.

    No call is lost. Settings that were tuned stay; what belongs to the code comes from that revision.
    """
    with connect(host, key, profile) as api:
        from roost.control import releases

        application = full_name(api, name)
        release = releases.set_revision(api, application, revision, strategy=strategy, auth=auth)
        if not detach:
            release = releases.wait(api, release)
    if as_json:
        tell_json(release)
    elif detach:
        tell(f"{application} is on its way to revision {release['revision_id']}")
    else:
        tell(f"{application} points to revision {release['revision_id']}")


def rollout(
    name: AppName,
    force: Annotated[bool, typer.Option("--force", help="End all runners at once, with the calls that they have.")] = False,
    detach: DetachFlag = False,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Replace an app's runners by fresh ones of the same revision.

    Each old runner goes when a fresh one is ready to take its place, and finishes its calls.
    """
    with connect(host, key, profile) as api:
        from roost.control import releases

        application = full_name(api, name)
        if force:
            killed = releases.force_rollout(api, application)
            tell_json({"killed": killed}) if as_json else tell(f"Ended {killed} runners of {application}")
            return
        release = releases.rollout(api, application)
        if not detach:
            say(f"Replacing the runners of {application}...")
            release = releases.wait(api, release)
    if as_json:
        tell_json(release)
    else:
        tell(f"The runners of {application} {'are being replaced' if detach else 'are fresh ones'}")


def delete_rev(
    name: AppName, revision: RevisionId, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = ""
) -> None:
    """Forget a revision that an app does not point to."""
    with connect(host, key, profile) as api:
        from roost.control import releases

        releases.delete_revision(api, full_name(api, name), revision)
    tell_json({"deleted": revision}) if as_json else tell(f"Deleted revision {revision}")
