"""`roost deploy`: an app at its permanent address."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, check_auth, connect, noun

app = noun()

LONGEST_MESSAGE, MOST_ANNOTATIONS, LONGEST_KEY, MOST_ANNOTATION_BYTES = 2048, 32, 64, 16384


def _message(value: str) -> str:
    """The callback of `--message`."""
    if len(value) > LONGEST_MESSAGE:
        raise typer.BadParameter(f"a message may have {LONGEST_MESSAGE} characters.")
    return value


def _strategy(value: str) -> str:
    if value not in ("rolling", "recreate"):
        raise typer.BadParameter(f"{value!r} is neither rolling nor recreate.")
    return value


@app.command(name="deploy")
def deploy(
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="REF", help="FILE.py, FILE.py::Class, or the name of an app in pyproject.toml. Without it: the only app here."
        ),
    ] = None,
    app_name: Annotated[str, typer.Option("--app-name", metavar="NAME", help="Name instead of the one that the class has.")] = "",
    auth: Annotated[
        str,
        typer.Option(
            "--auth",
            metavar="MODE",
            callback=check_auth,
            help="Who may call it: private, public or shared. Without it: the class's, or what it was.",
        ),
    ] = "",
    machine_type: Annotated[str, typer.Option("--machine-type", metavar="TYPE", help="Machine type instead of the class's.")] = "",
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            metavar="rolling|recreate",
            callback=_strategy,
            help="rolling: the new revision takes over when it is ready. recreate: the old one ends first.",
        ),
    ] = "rolling",
    reset_scale: Annotated[
        bool, typer.Option("--reset-scale/--no-scale", help="Take every setting from the class, also those that `roost apps scale` tuned.")
    ] = False,
    detach: Annotated[
        bool,
        typer.Option("--detach/--attach", help="Return at once: the app moves to the new revision first, its runners come up afterwards."),
    ] = False,
    message: Annotated[str, typer.Option("--message", "-m", callback=_message, help="What this revision is about.")] = "",
    annotation: Annotated[
        list[str] | None, typer.Option("--annotation", metavar="NAME=VALUE", help="Something to remember with it; repeatable.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build the package environment anew.")] = False,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Put an app at its permanent address.

    Returns when the new revision answers. If it does not come up, the old one stays and the reason is printed.
    """
    if detach and strategy != "rolling":
        raise typer.BadParameter("--detach goes with the rolling strategy; recreate switches first in any case.")
    annotations = parse_annotations(annotation or [])
    with connect(host, key, profile) as api:
        # First, because an import of the author's packages may take long, and without a server it is for nothing.
        api.whoami()

        from roost.cli.addresses import block, key_in_shell
        from roost.cli.author import Changes, load, package, send
        from roost.cli.output import tell, tell_json
        from roost.cli.screen import Screen
        from roost.control.deploy import deploy as deploy_app
        from roost.control.events import Done, Ready

        loaded = load(reference)
        changes = Changes(app_name=app_name, machine_type=machine_type, no_cache=no_cache, message=message, annotations=annotations)
        packed = package(loaded, changes)
        spec = packed.manifest.spec
        ready: Ready | None = None
        with Screen(sys.stderr) as screen:
            screen.note(f"Deploying '{spec.class_name}' as app '{spec.name}'")
            send(api, packed, screen)
            events = deploy_app(
                api, packed.manifest, auth=auth or packed.declared_auth, strategy=strategy, reset_scale=reset_scale, detach=detach
            )
            for event in events:
                screen.show(event)
                if isinstance(event, Ready):
                    ready = event
                elif isinstance(event, Done):
                    detached = event.status == "rolling_out"
                    screen.done(f"{'Rolling out' if detached else 'Deployed'} {event.application}")
                    if detached:
                        screen.note(f"`roost apps list-rev {event.application}` shows how it goes, `roost apps set-rev` goes back.")
                    if as_json:
                        name = event.application.partition("/")[2]
                        tell_json({"revision": event.revision_id, "app_name": name, "status": event.status})
        if ready is not None and not as_json:
            tell("\n".join(block(ready, packed.manifest, key_in_shell(api.target, profile))))


def parse_annotations(items: list[str]) -> tuple[tuple[str, str], ...]:
    """`K=V` texts as pairs, within the limits of the public protocol (spec: cli.md §3.4)."""
    pairs = [(name, value) for name, _, value in (item.partition("=") for item in items)]
    if any("=" not in item for item in items) or any(not name for name, _ in pairs):
        raise typer.BadParameter("write an annotation as NAME=VALUE.")
    if len({name for name, _ in pairs}) < len(pairs):
        raise typer.BadParameter("two annotations have the same name.")
    if reserved := {"openapi", "message", "annotations"} & {name for name, _ in pairs}:
        raise typer.BadParameter(f"the name {min(reserved)!r} is reserved.")
    if len(pairs) > MOST_ANNOTATIONS or any(len(name) > LONGEST_KEY for name, _ in pairs):
        raise typer.BadParameter(f"at most {MOST_ANNOTATIONS} annotations, with names of at most {LONGEST_KEY} characters.")
    if sum(len(f"{name}{value}".encode()) for name, value in pairs) > MOST_ANNOTATION_BYTES:
        raise typer.BadParameter(f"annotations may have {MOST_ANNOTATION_BYTES} bytes together.")
    return tuple(pairs)
