"""`roost demo`: the packaged examples deployed and called, on a server of its own if none answers."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli.options import HostFlag, JsonFlag, KeyFlag, ProfileFlag, noun, target

if TYPE_CHECKING:
    from roost.cli.ownserver import OwnServer
    from roost.cli.screen import Screen
    from roost.client.config import Target
    from roost.control.api import Api
    from roost.control.events import Ready
    from roost.control.examples import Example

app = noun()

EMPTY_S = 15.0


@dataclass(frozen=True)
class Outcome:
    """One example's answer and how long it took, without and with a runner that was ready."""

    name: str
    title: str
    url: str
    curl: str
    """A line to paste that makes the same call."""
    answer: str
    shown: str
    """What of the answer is worth a look."""
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

    They are hello, ocr and identify. Uses the server that answers, or starts one, which keeps serving until Ctrl-C
    and whose examples need no key.
    """
    from roost.cli.addresses import key_in_shell
    from roost.cli.output import say, tell, tell_json
    from roost.control.api import Api
    from roost.control.examples import packaged_examples

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    examples = packaged_examples()
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        where, own = _server(stack, target(host, key, profile), home)
        api = stack.enter_context(Api(where))
        for example in examples:
            outcomes.append(_try(api, example, is_ours=own is not None, key=key_in_shell(api.target, profile)))
            if not as_json:
                tell("\n".join([*_lines(outcomes[-1]), ""]))
        if as_json:
            tell_json({"host": where.host, "answers": [asdict(outcome) for outcome in outcomes]})
        wrong = [outcome.name for outcome in outcomes if not outcome.is_right]
        say(f"Wrong answers: {', '.join(wrong)}." if wrong else "All answers are right.")
        if own is None:
            say(f"The server at {where.host} was there before and goes on.")
        elif not once:
            _serve(own, where)
    raise typer.Exit(1 if wrong else 0)


def _server(stack: ExitStack, where: Target, home: Path | None) -> tuple[Target, OwnServer | None]:
    """The server that answers already, or one that lives as long as `stack`."""
    from roost.cli.output import say
    from roost.cli.ownserver import OwnServer
    from roost.client.config import DEFAULT_HOST
    from roost.client.config import home as default_home
    from roost.control.api import Api
    from roost.control.errors import Unreachable

    try:
        # Without a key nothing was ever started here: what answers at the usual address is somebody else's.
        if home is None and (where.key or where.host != DEFAULT_HOST):
            with Api(where) as api:
                api.whoami()
            say(f"Using the server at {where.host}.")
            return where, None
    except Unreachable:
        if not where.is_local:
            raise
    own = OwnServer(home or default_home())
    say(f"Starting a server with its state in {own.home} ...")
    stack.enter_context(own)
    return own.target(), own


def _serve(own: OwnServer, where: Target) -> None:
    """Until Ctrl-C, which is how it is meant to end. Raises ControlError if the server ends before."""
    from roost.cli.output import say
    from roost.client.config import home as default_home

    program = "roost" if shutil.which("roost") else shlex.quote(os.path.abspath(sys.argv[0]))
    elsewhere = "" if own.home == default_home().absolute() else f"ROOST_HOME={shlex.quote(str(own.home))} "
    say(f"The server goes on at {where.host} until Ctrl-C. Look at it from another terminal:\n  {elsewhere}{program} runners list")
    try:
        own.wait()
    except KeyboardInterrupt:
        say("Stopping ...")


def _try(api: Api, example: Example, *, is_ours: bool, key: str) -> Outcome:
    """`key` is shell text. A server that was there before may be open to a network: nothing on it is made public unasked."""
    from roost.cli.screen import Screen

    with Screen(sys.stderr) as screen:
        ready = _deployed(api, example, screen, auth="public" if is_ours else "")
        url = f"{ready.url.rstrip('/')}{'' if example.endpoint == '/' else example.endpoint}"
        _end_runners(api, ready.application)
        screen.note("Calling it twice: the first call has to start a runner")
        cold_s, _ = _timed(lambda: _answer(api, url, example))
        warm_s, answer = _timed(lambda: _answer(api, url, example))
    return Outcome(
        example.name,
        example.title,
        url,
        example.curl(url, "" if ready.auth == "public" else key),
        answer,
        example.shown(answer),
        round(cold_s, 3),
        round(warm_s, 3),
        example.is_right(answer),
    )


def _deployed(api: Api, example: Example, screen: Screen, *, auth: str) -> Ready:
    from roost.cli.author import Changes, load, package, send
    from roost.control.deploy import deploy
    from roost.control.errors import ControlError
    from roost.control.events import Ready

    packed = package(load(example.reference), Changes())
    ready: Ready | None = None
    screen.note(f"Deploying {example.name}: {example.title}")
    send(api, packed, screen)
    for event in deploy(api, packed.manifest, auth=auth or packed.declared_auth):
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
    mark = "✓" if outcome.is_right else "✗"
    times = f"cold {outcome.cold_s * 1000:.0f} ms, warm {outcome.warm_s * 1000:.0f} ms"
    shown = [f"    {line}" for line in outcome.shown.splitlines()]
    return [f"{mark} {outcome.name}: {outcome.title}", *shown, f"  {times}", f"  {outcome.url}", f"  {outcome.curl}"]
