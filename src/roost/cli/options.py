"""What many commands share: how a noun is declared, the flags that name a server, and the connection they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from roost.client.config import Target
    from roost.control.api import Api

HostFlag = Annotated[
    str, typer.Option("--host", metavar="URL", help="Server to talk to; before ROOST_HOST and the profile.", show_default=False)
]
KeyFlag = Annotated[
    str, typer.Option("--key", metavar="ID:SECRET", help="Key to use; before ROOST_KEY and the profile.", show_default=False)
]
ProfileFlag = Annotated[
    str, typer.Option("--profile", metavar="NAME", help="Profile in config.toml; before ROOST_PROFILE.", show_default=False)
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]

LENGTH_OF_ID = 36
"""Of a request."""
AUTH_MODES = ("private", "public", "shared")


def noun() -> typer.Typer:
    """The Typer of one file. Without Rich in the help, which keeps `--help` quick, and without Typer's own way to show errors."""
    return typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def target(host: str, key: str, profile: str) -> Target:
    """The server that flags, variables and profile name, in that order."""
    from roost.client import config

    return config.resolve(host=host, key=key, profile=profile)


def connect(host: str, key: str, profile: str) -> Api:
    """A connection to that server. Nothing is sent yet, but a server on this machine is known to be there."""
    where = target(host, key, profile)
    if where.is_local:
        from roost.control.probe import knock

        # The HTTP library takes half a second to load on a slow machine: too long for hearing that nobody is there.
        knock(where)
    from roost.control.api import Api

    return Api(where)


def full_name(api: Api, app: str) -> str:
    """`owner/name` for what was typed: a name alone is an app of one's own."""
    if "/" in app:
        return app.strip("/")
    return f"{api.target.owner or api.whoami()['owner']}/{app}"


def whole_id(typed: str, known: Callable[[], Iterable[str]]) -> str:
    """The one of the `known` ids that begins with what was typed; as typed if none or several do, and the server says what is wrong."""
    if len(typed) >= LENGTH_OF_ID:
        return typed
    matching = [each for each in known() if each.startswith(typed)]
    return matching[0] if len(matching) == 1 else typed


def check_auth(value: str) -> str:
    """The callback of `--auth`."""
    if value and value not in AUTH_MODES:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(AUTH_MODES)}.")
    return value
