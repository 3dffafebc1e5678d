"""`roost demo`: the packaged examples deployed and called, on a server of its own if none answers."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, noun, target

if TYPE_CHECKING:
    from roost.cli.ownserver import OwnServer
    from roost.control.api import Api
    from roost.control.config import Target
    from roost.control.events import Ready
    from roost.control.examples import Example

app = noun()

LONGEST_ANSWER = 160
EMPTY_S = 15.0


@dataclass(frozen=True)
class Outcome:
    """One example's answer and how long it took, without and with a runner that was ready."""

    name: str
    title: str
    url: str
    answer: str
    cold_s: float
    warm_s: float
    is_right: bool


@app.command(name="demo")
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the answers; the exit code is 0 if they are right.")] = False,
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="FOLDER", help="State folder of the server that is started; else ROOST_HOME, else ~/.roost."),
    ] = None,
    as_json: JsonFlag = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Deploy the example apps, call them and show the answers.

    Uses the server that answers, or starts one, which keeps serving until Ctrl-C.
    """
    from roost.cli.output import say, tell, tell_json
    from roost.control.api import Api
    from roost.control.config import home as default_home
    from roost.control.examples import packaged_examples

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    examples = packaged_examples()
    with ExitStack() as stack:
        where, own = _server(stack, target(host, key, profile), home)
        api = stack.enter_context(Api(where))
        outcomes = [_try(api, example) for example in examples]
        if as_json:
            tell_json({"host": where.host, "answers": [vars(outcome) for outcome in outcomes]})
        else:
            for outcome in outcomes:
                tell("\n".join(_lines(outcome)))
        if once:
            raise typer.Exit(0 if all(outcome.is_right for outcome in outcomes) else 1)
        if own is not None:
            elsewhere = "" if own.home == default_home() else f" In another shell: export ROOST_HOME={own.home}"
            say(f"The server goes on at {where.host} until Ctrl-C.{elsewhere}")
            try:
                own.wait()
            except KeyboardInterrupt:
                say("Stopping ...")


def _server(stack: ExitStack, where: Target, home: Path | None) -> tuple[Target, OwnServer | None]:
    """The server that answers already, or one that lives as long as `stack`."""
    from roost.cli.output import say
    from roost.cli.ownserver import OwnServer
    from roost.control.api import Api
    from roost.control.config import home as default_home
    from roost.control.errors import Unreachable

    try:
        if home is None:
            with Api(where) as api:
                api.health()
            return where, None
    except Unreachable:
        if not where.is_local:
            raise
    own = OwnServer(home or default_home())
    say(f"Starting a server with its state in {own.home} ...")
    stack.enter_context(own)
    return own.target(), own


def _try(api: Api, example: Example) -> Outcome:
    ready = _deployed(api, example)
    url = f"{ready.url.rstrip('/')}{'' if example.endpoint == '/' else example.endpoint}"
    _end_runners(api, ready.application)
    cold_s, _ = _timed(lambda: _answer(api, url, example))
    warm_s, answer = _timed(lambda: _answer(api, url, example))
    return Outcome(example.name, example.title, url, answer, round(cold_s, 3), round(warm_s, 3), example.is_right(answer))


def _deployed(api: Api, example: Example) -> Ready:
    from roost.cli.author import Changes, load, package, send
    from roost.cli.screen import Screen
    from roost.control.deploy import deploy
    from roost.control.errors import ControlError
    from roost.control.events import Ready

    packed = package(load(example.reference), Changes())
    ready: Ready | None = None
    with Screen(sys.stderr) as screen:
        screen.note(f"Deploying {example.name}: {example.title}")
        send(api, packed, screen)
        for event in deploy(api, packed.manifest, auth="public"):
            screen.show(event)
            ready = event if isinstance(event, Ready) else ready
    if ready is None:
        raise ControlError(f"The server did not say where {example.name} is.")
    return ready


def _end_runners(api: Api, application: str) -> None:
    """Stop what the deploy started, so that the first call meets no runner and its time is that of a cold start."""
    for runner in _living(api, application):
        api.stop_runner(runner)
    until = monotonic() + EMPTY_S
    while _living(api, application) and monotonic() < until:
        sleep(0.1)


def _living(api: Api, application: str) -> list[str]:
    return [item["runner_id"] for item in api.runners(application) if item["state"] != "TERMINATED"]


def _timed(work: Callable[[], str]) -> tuple[float, str]:
    began = monotonic()
    answer = work()
    return monotonic() - began, answer


def _answer(api: Api, url: str, example: Example) -> str:
    from roost.control.call import Call, answer
    from roost.control.errors import ControlError

    headers = [("content-type", "application/json"), ("authorization", f"Key {api.target.key}")]
    with answer(Call("POST", url, headers, json.dumps(example.input).encode(), timeout_s=300), api.target) as reply:
        text = b"".join(reply.chunks).decode(errors="replace")
        if reply.status != 200:
            raise ControlError(
                f"{example.name} answered {reply.status}: {text}", hint=f"`roost apps logs {example.name}` shows what it printed."
            )
    return text


def _lines(outcome: Outcome) -> list[str]:
    answer = outcome.answer if len(outcome.answer) <= LONGEST_ANSWER else f"{outcome.answer[: LONGEST_ANSWER - 1]}…"
    mark = "✓" if outcome.is_right else "✗"
    times = f"cold {outcome.cold_s * 1000:.0f} ms, warm {outcome.warm_s * 1000:.0f} ms"
    return [f"{mark} {outcome.name}: {outcome.title}", f"  {answer}", f"  {times}", f"  {outcome.url}"]
