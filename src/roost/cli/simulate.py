"""`roost simulate`: what other settings would have meant for an app's callers, and what they would have cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, full_name, noun
from roost.cli.output import moment_ms, plain, say, seconds, tell_json, tell_table

app = noun()

COLUMNS = ("Settings", "Wait p50", "p95", "p99", "Waited", "Starts", "Most", "Runner time")

AppName = Annotated[str, typer.Argument(metavar="APP", help="NAME, or OWNER/NAME.")]


def _last(value: str) -> float:
    try:
        ago_ms = -moment_ms(value, 0)
    except ValueError:
        ago_ms = 0
    if not 0 < ago_ms < 10**13:
        raise typer.BadParameter(f"{value!r} is no time such as 30m, 24h or 7d.")
    return ago_ms / 1000


@app.command()
def simulate(
    name: AppName,
    last: Annotated[str, typer.Option("--last", metavar="TIME", help="How far back: 30m, 24h, 7d.")] = "24h",
    keep_alive: Annotated[list[float] | None, typer.Option(help="Seconds that an idle runner stays.", min=0)] = None,
    min_concurrency: Annotated[list[int] | None, typer.Option(help="Runners that are always there.", min=0)] = None,
    max_concurrency: Annotated[list[int] | None, typer.Option(help="Most runners.", min=1)] = None,
    max_multiplexing: Annotated[list[int] | None, typer.Option(help="Calls at once in one runner.", min=1)] = None,
    concurrency_buffer: Annotated[list[int] | None, typer.Option(help="Runners above need.", min=0)] = None,
    concurrency_buffer_perc: Annotated[list[int] | None, typer.Option(help="The same, in percent of need.", min=0)] = None,
    scaling_delay: Annotated[
        list[float] | None, typer.Option(help="Seconds that a call may wait before a runner is started for it.", min=0)
    ] = None,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Replay an app's recorded calls with other settings: waits against runner time.

    Repeat an option to compare its values; all combinations are replayed. Without any, usual values of keep_alive are compared.
    """
    given: dict[str, Any] = {
        "keep_alive": keep_alive,
        "min_concurrency": min_concurrency,
        "max_concurrency": max_concurrency,
        "max_multiplexing": max_multiplexing,
        "concurrency_buffer": concurrency_buffer,
        "concurrency_buffer_perc": concurrency_buffer_perc,
        "scaling_delay": scaling_delay,
    }
    last_s = _last(last)
    with connect(host, key, profile) as api:
        from roost.control.simulate import simulate as ask

        found = ask(api, full_name(api, name), last_s, {setting: values for setting, values in given.items() if values})
    if as_json:
        tell_json(found)
        return
    rows = [
        _row("as it was", found["recorded"]),
        _row("replayed", found["simulated"]),
        *(_row(plain(item["settings"]), item) for item in found["variants"]),
    ]
    tell_table(COLUMNS, rows if found["calls"] else [], nothing=f"{found['application']} had no calls in that time.")
    if found["calls"]:
        say(f"{found['calls']} calls; waits in ms, from arriving to being sent to a runner.")
    for note in found["notes"] if found["calls"] else ():
        say(f"Note: {note}")


def _row(what: str, figures: dict[str, Any]) -> tuple[object, ...]:
    waits = (figures["wait_p50_ms"], figures["wait_p95_ms"], figures["wait_p99_ms"])
    waited = f"{figures['waited']}" + (f" ({figures['unserved']} never served)" if figures["unserved"] else "")
    return (what, *waits, waited, figures["starts"], figures["peak"], seconds(round(figures["runner_s"], 1)))
