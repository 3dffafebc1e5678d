"""`roost runners`: the processes that serve apps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, connect, full_name, noun
from roost.cli.output import seconds, tell, tell_json, tell_table
from roost.cli.reading import FollowFlag, LinesFlag, SinceFlag, show_logs, since_of

app = noun()

RunnerId = Annotated[str, typer.Argument(metavar="ID", help="The runner's id, or its first characters.")]

LENGTH_OF_ID = 36
COLUMNS = ("App", "Machine Type", "Runner ID", "In Flight", "Uptime", "Cold Start", "Revision", "State", "PID")


@app.callback()
def runners() -> None:
    """See and end the processes that serve apps."""


@app.command(name="list")
def list_runners(
    name: Annotated[str, typer.Option("--app", metavar="APP", help="Only runners of this app.")] = "",
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="Also those that ended since then: 30m, 1h, 1d, or an ISO date.")
    ] = "",
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """List the runners."""
    since_ms = since_of(since)
    with connect(host, key, profile) as api:
        found = api.runners(full_name(api, name) if name else "", since_ms)
    if as_json:
        tell_json({"runners": found})
        return
    tell_table(COLUMNS, [_row(item) for item in found], nothing="No runners. They start when calls arrive.")


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    # One without an id is wanted and has no place yet.
    explains = item["state"] in ("TERMINATED", "TERMINATING") or not item["runner_id"]
    state = f"{item['state']} ({item['reason']})" if item.get("reason") and explains else item["state"]
    uptime = seconds(round(item.get("uptime_seconds") or 0))
    revision = str(item.get("revision_id") or "")[:8]
    start = item.get("cold_start")
    return (
        item["application"],
        item.get("machine_type"),
        item["runner_id"],
        item.get("in_flight_requests"),
        uptime,
        f"{start['ms'] / 1000:.3g} s" if start else None,
        revision,
        state,
        item.get("pid"),
    )


@app.command()
def stop(runner_id: RunnerId, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """End a runner after the calls that it has."""
    with connect(host, key, profile) as api:
        answer = api.stop_runner(_whole_id(api.runners, runner_id))
    tell_json(answer) if as_json else tell(f"{answer['runner_id']} {answer['state']}")


@app.command()
def kill(runner_id: RunnerId, as_json: JsonFlag = False, host: HostFlag = "", key: KeyFlag = "", profile: ProfileFlag = "") -> None:
    """End a runner at once; the calls that it has fail."""
    with connect(host, key, profile) as api:
        answer = api.kill_runner(_whole_id(api.runners, runner_id))
    tell_json(answer) if as_json else tell(f"{answer['runner_id']} {answer['state']}")


@app.command()
def logs(
    runner_id: RunnerId,
    follow: FollowFlag = False,
    lines: LinesFlag = None,
    since: SinceFlag = "",
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Print what one runner printed."""
    with connect(host, key, profile) as api:
        whole = _whole_id(api.runners, runner_id)
        show_logs(
            lambda last, since_ms: api.runner_logs(whole, follow=follow, lines=last, since_ms=since_ms),
            follow=follow,
            lines=lines,
            since=since,
            as_json=as_json,
        )


def _whole_id(runners_now: Callable[[], list[dict[str, Any]]], typed: str) -> str:
    """The id that begins with what was typed; as typed if none or several do, and the server says what is wrong."""
    if len(typed) >= LENGTH_OF_ID:
        return typed
    matching = [item["runner_id"] for item in runners_now() if item["runner_id"].startswith(typed)]
    return matching[0] if len(matching) == 1 else typed
