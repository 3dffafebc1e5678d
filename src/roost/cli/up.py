"""`roost up`: a server on this machine, in the foreground."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from roost.cli.options import noun
from roost.cli.systemd import unit

app = noun()

SERVER_PACKAGES = ("apsw", "cryptography", "httptools", "uvloop")


def _log_format(value: str) -> str:
    if value and value not in ("text", "json"):
        raise typer.BadParameter(f"{value!r} is neither text nor json.")
    return value


def _door(value: str) -> str:
    """HOST:PORT; a port alone is one of this machine."""
    host, _, port = value.rpartition(":")
    if value and not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise typer.BadParameter(f"{value!r} is no port; write one such as 3128, or 127.0.0.1:3128.")
    return f"{host or '127.0.0.1'}:{port}" if value else ""


@app.command(name="up")
def up(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8700,
    home: Annotated[Path | None, typer.Option("--home", metavar="FOLDER", help="State folder; else ROOST_HOME, else ~/.roost.")] = None,
    connect: Annotated[
        str,
        typer.Option(
            "--connect",
            metavar="[HOST:]PORT",
            callback=_door,
            help="Open the CONNECT door: who sets https_proxy to it reaches this server by the names that fal clients have built in. "
            "On this machine only; 3128 is usual.",
        ),
    ] = "",
    log_format: Annotated[
        str,
        typer.Option("--log-format", metavar="text|json", callback=_log_format, help="How the server logs; else LOG_FORMAT, else text."),
    ] = "",
    systemd: Annotated[bool, typer.Option("--systemd", help="Print a systemd unit that runs this command, and exit.")] = False,
) -> None:
    """Start a server on this machine.

    It runs until Ctrl-C. The first start makes an admin key and a profile for this command line.
    """
    folder = (home or Path(os.environ.get("ROOST_HOME") or Path.home() / ".roost")).expanduser().absolute()
    if systemd:
        words = [sys.executable, "-m", "roost.cli", "up", "--host", host, "--port", str(port), "--home", str(folder)]
        words += ["--connect", connect] if connect else []
        print(unit([*words, *(["--log-format", log_format] if log_format else [])], folder), end="")
        return
    missing = [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        from roost.control.errors import ControlError

        raise ControlError(
            f"This installation has only the author's side: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
            hint="The server comes with its extra: install it with pip install 'roost[server]'",
        )
    # kit/log.py reads the format in the supervisor and in each server, which inherit it.
    os.environ["ROOST_HOME"] = str(folder)
    if log_format:
        os.environ["LOG_FORMAT"] = log_format

    from roost.supervisor.main import run
    from roost.supervisor.options import Options, limits_from_environ
    from roost.supervisor.problem import CannotStart

    try:
        listen = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}",)
        options = Options(home=folder, listen=listen, connect=(connect,) if connect else (), limits=limits_from_environ())
    except CannotStart as exc:
        from roost.control.errors import ControlError

        raise ControlError(str(exc)) from exc
    raise typer.Exit(run(options))
