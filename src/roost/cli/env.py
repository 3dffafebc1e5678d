"""`roost env`: what points official clients at the server."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from roost.cli.options import HostFlag, KeyFlag, ProfileFlag, noun, target
from roost.cli.output import say, tell

app = noun()


@app.command()
def env(
    for_shell: Annotated[bool, typer.Option("--shell", help='Lines for `eval "$(roost env)"`; what is printed without a flag.')] = False,
    for_python: Annotated[bool, typer.Option("--python", help="Lines for the top of a Python program.")] = False,
    for_js: Annotated[bool, typer.Option("--js", help="Lines for the top of a JavaScript module.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All of it as JSON.")] = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Print what points official clients at the server.

    They are fal-client (Python) and @fal-ai/client (JavaScript). Roost's own client and command line need none of it.
    """
    if for_shell + for_python + for_js + as_json > 1:
        raise typer.BadParameter("--shell, --python, --js and --json are one or the other.")
    from roost.control import reach, recipes
    from roost.control.errors import ControlError
    from roost.control.probe import knock

    where = target(host, key, profile)
    if not where.key:
        raise ControlError("There is no key.", hint="Set ROOST_KEY, or put one into the profile; `roost up` makes the first one.")
    if where.is_local:
        knock(where)
    told = reach.ask(where)
    way = reach.find_way(told, where.host)
    if isinstance(way, str):
        if not (for_js or as_json):
            raise ControlError(f"The official Python client speaks nothing but TLS, and {where.host}: {way}.", hint=_HOW_TO_TLS)
        made = recipes.door_only(where.host, where.key)
    else:
        files = recipes.Files("", "")
        if way.needs_ca or recipes.led_by_connect(told, where.host):
            kept = reach.keep(told.ca, way.base)
            files = kept.files
            if kept.is_new and not where.is_local:
                say(f"New certificate authority, kept in {files.ca}.\n  Compare it with the server's: SHA-256 {kept.fingerprint}")
        made = recipes.recipe(told, where.host, where.key, way, files, os.environ)
    if as_json:
        tell(json.dumps(recipes.data(made), indent=2 if sys.stdout.isatty() else None))
        return
    text = recipes.python(made) if for_python else recipes.javascript(made) if for_js else recipes.shell(made)
    sys.stdout.flush()
    # As bytes: a path may hold what the terminal's encoding does not.
    sys.stdout.buffer.write(os.fsencode(text) + b"\n")
    sys.stdout.buffer.flush()
    if for_python or for_js:
        say("The key is among these lines: keep them out of what you publish.")
    elif sys.stdout.isatty():
        say('This only prints. `eval "$(roost env)"` sets it in this shell.')


_HOW_TO_TLS = (
    'Set tls = "on" in server.toml, or put a proxy with a certificate before the server and its address into public_url. '
    "JavaScript needs no TLS: `roost env --js`."
)
