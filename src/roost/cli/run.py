"""`roost run`: an app at a temporary address, with its output, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli.options import HostFlag, KeyFlag, ProfileFlag, check_auth, connect, noun

if TYPE_CHECKING:
    from roost.cli.author import Package
    from roost.cli.screen import Screen
    from roost.control.api import Api

app = noun()


@app.command(name="run")
def run(
    reference: Annotated[str, typer.Argument(metavar="REF", help="FILE.py, FILE.py::Class, or the name of an app in pyproject.toml.")],
    app_name: Annotated[str, typer.Option("--app-name", metavar="NAME", help="Name instead of the one that the class has.")] = "",
    auth: Annotated[
        str, typer.Option("--auth", metavar="MODE", callback=check_auth, help="Who may call it: public, private or shared.")
    ] = "public",
    machine_type: Annotated[str, typer.Option("--machine-type", metavar="TYPE", help="Machine type instead of the class's.")] = "",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build the package environment anew.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Serve in this process, without a server.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", "--exposed-port", help="Port for --local.", show_default="8080", min=0, max=65535)
    ] = None,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Serve an app at a temporary address while you work on it.

    Prints the addresses and then what the app prints. Ctrl-C ends it. Edit the file and run it again: the address stays.
    """
    if port is not None and not local:
        raise typer.BadParameter("--port goes with --local.")
    if local:
        _serve_here(reference, 8080 if port is None else port)
        return
    _stop_on_signals()
    with connect(host, key, profile) as api:
        # First, because an import of the author's packages may take long, and without a server it is for nothing.
        me = api.whoami()

        from roost.cli.author import Changes, load, package, send
        from roost.cli.screen import Screen

        loaded = load(reference)
        packed = package(loaded, Changes(app_name=app_name, machine_type=machine_type, no_cache=no_cache))
        with Screen(sys.stdout) as screen:
            declared = packed.declared_auth
            if declared and declared != auth:
                screen.note(f'The class says app_auth="{declared}", which is for `roost deploy`. This run is {auth}; --auth changes it.')
            send(api, packed, screen)
            _serve(api, packed, screen, auth=auth, session=packed.session(str(me.get("key_id", ""))), profile=profile)


def _serve_here(reference: str, port: int) -> None:
    from roost.cli.author import load
    from roost.cli.output import say, tell
    from roost.sdk.local import serve_local
    from roost.sdk.spec import build_spec

    cls: Any = load(reference).cls
    paths = [endpoint.path for endpoint in build_spec(cls).endpoints]

    def ready(url: str) -> None:
        for number, path in enumerate(paths):
            tell(f"{'URL' if number == 0 else '':<5} {url}{path}")
        say("  Served in this process. Ctrl-C ends it.")

    serve_local(cls, port=port, on_ready=ready)


def _serve(api: Api, packed: Package, screen: Screen, *, auth: str, session: str, profile: str) -> None:
    from roost.cli.addresses import block, key_in_shell
    from roost.cli.output import say, tell
    from roost.control.deploy import name_of
    from roost.control.deploy import run as run_app
    from roost.control.errors import ControlError
    from roost.control.events import Accepted, Ended, Ready

    name, shown = "", None
    events = run_app(api, packed.manifest, auth=auth, session=session)
    try:
        for event in events:
            match event:
                case Accepted() | Ready():
                    name = name_of(event)
                case Ended(reason):
                    raise ControlError(f"The run was ended: {reason}" if reason else "The run was ended.")
                case _:
                    pass
            screen.show(event)
            # After a restart of the server the app is ready again, at the same addresses.
            if isinstance(event, Ready) and (lines := block(event, packed.manifest, key_in_shell(api.target, profile))) != shown:
                shown = lines
                tell("\n".join(lines))
                screen.note("Showing the app's output. Ctrl-C ends it.")
    except KeyboardInterrupt:
        screen.quiet()
        events.close()
        _end(api, name)
        if shown is None:
            raise
        say("Stopped.")


def _end(api: Api, name: str) -> None:
    from roost.control.errors import ControlError

    if not name:
        return
    try:
        api.end_run(name)
    except ControlError:
        # The server ends it by itself within seconds, because the stream is closed.
        pass


def _stop_on_signals() -> None:
    """SIGTERM and a closed terminal end a run as Ctrl-C does; and Ctrl-C works where a shell started us in the background."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
