"""Reading logs: the flags of `apps logs` and `runners logs`, and how the lines are printed."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli.output import colourful, moment_ms, now_ms, say, tell, tell_json

if TYPE_CHECKING:
    from roost.control.events import LogLine
    from roost.control.logs import Fetch

FollowFlag = Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")]
LinesFlag = Annotated[int | None, typer.Option("--lines", "-n", help="Only the newest N lines.", min=0)]
SinceFlag = Annotated[str, typer.Option("--since", metavar="WHEN", help="Only lines since then: 30m, 1h, 1d, or an ISO date.")]


def since_of(text: str) -> int | None:
    """The moment that `--since` means; None without one."""
    if not text:
        return None
    try:
        return moment_ms(text, now_ms())
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is not a moment; write 30m, 1h, 1d, or an ISO date such as 2030-01-31T12:00.") from exc


def show_logs(fetch: Fetch, *, follow: bool, lines: int | None, since: str, as_json: bool) -> None:
    """Print the lines that `fetch` has; with `follow`, until Ctrl-C."""
    from roost.control.events import Attached, Lost
    from roost.control.logs import follow as following
    from roost.control.logs import once

    since_ms = since_of(since)
    if not follow:
        found = list(once(fetch(lines, since_ms)))
        if as_json:
            tell_json({"logs": [_as_json(line) for line in found]})
            return
        for line in found:
            _print(line)
        if not found:
            say("No lines.")
        return
    for item in following(fetch, lines=lines, since_ms=since_ms):
        match item:
            case Lost(reason):
                say(f"{reason} Attaching again ...")
            case Attached():
                say("Attached again.")
            case _ if as_json:
                tell_json(_as_json(item))
            case _:
                _print(item)


def _print(line: LogLine) -> None:
    from roost.cli.loglines import log_text

    tell(log_text(line, colour=colourful(sys.stdout), when=True))


def _as_json(line: LogLine) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(line).items() if value or name == "message"}
