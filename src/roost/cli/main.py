"""`roost`: finds the command's file, runs it, and turns whatever goes wrong into one line and an exit code.

Exit codes: 0 done, 1 error, 2 wrong usage, 130 Ctrl-C. `roost --help` reads the table below and imports nothing else, because
Typer alone takes 150 ms; a test holds the table and the commands' own help together.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import roost


@dataclass(frozen=True)
class Command:
    """One first word of the command line; `module` below roost.cli has it as `app`, a Typer."""

    name: str
    group: str
    help: str
    also: tuple[str, ...] = ()
    """Other words for the same, as people's fingers have them."""


COMMANDS = (
    Command("run", "Apps", "Serve an app at a temporary address while you work on it."),
    Command("deploy", "Apps", "Put an app at its permanent address."),
    Command("call", "Apps", "Call an endpoint and print the answer."),
    Command("apps", "Apps", "See, scale, roll back and delete deployed apps, and read their logs.", also=("app",)),
    Command("requests", "Apps", "See, cancel and retry queued requests.", also=("request",)),
    Command("env", "Apps", "Print what points official clients at the server."),
    Command("webhooks", "Apps", "See which webhooks were delivered, and send them again.", also=("webhook",)),
    Command("queue", "Apps", "See how long an app's queue is, and empty it.", also=("queues",)),
    Command("simulate", "Apps", "Replay an app's recorded calls with other settings: waits against runner time."),
    Command("runners", "Apps", "See and end the processes that serve apps.", also=("runner", "machine")),
    Command("why", "Apps", "Say why a request waits, a runner ended, or an app has as many runners as it has."),
    Command("up", "Server", "Start a server on this machine."),
    Command("restart", "Server", "Restart the server without losing a call."),
    Command("keys", "Server", "Make, list and revoke API keys.", also=("key",)),
    Command("builds", "Server", "See and remove the package environments that the server built.", also=("build",)),
    Command("doctor", "Help", "Check this installation and the server."),
    Command("demo", "Help", "Deploy the example apps, call them and show the answers."),
)
BY_WORD = {word: command for command in COMMANDS for word in (command.name, *command.also)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and answer its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character shows a substitute; the command does not die of it.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    word = args[0] if args else "--help"
    if word == "help":
        args = [*args[1:2], "--help"]
        word = args[0]
    if word in ("--help", "-h"):
        print(overview())
        return 0
    if word in ("--version", "-V"):
        print(f"roost {roost.__version__}")
        return 0
    if word not in BY_WORD:
        print(f"✗ {_unknown(word)}\n  `roost --help` lists the commands.", file=sys.stderr)
        return 2
    return _run(BY_WORD[word].name, args[1:])


def overview() -> str:
    """The text of `roost --help`."""
    lines = ["Usage: roost COMMAND [ARGS]...", "", "A self-hosted serverless runtime for AI apps."]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines += ["", f"{group}:", *(f"  {c.name:<9} {c.help}" for c in COMMANDS if c.group == group)]
    return "\n".join([*lines, "", "`roost COMMAND --help` tells more. `roost --version` prints the version."])


def _run(name: str, args: list[str]) -> int:
    try:
        app = importlib.import_module(f"roost.cli.{name}").app
        # Not standalone: mistakes in usage come to us instead of being printed in another style than all others.
        code = app(args=args, prog_name=f"roost {name}", standalone_mode=False)
        if code == 130:
            # Typer turns Ctrl-C into this code.
            print("Aborted.", file=sys.stderr)
        return code if isinstance(code, int) else 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        print("Aborted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output left, as `head` does. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as exc:
        from roost.cli.output import failure, misuse

        if lines := misuse(exc):
            print("\n".join(lines), file=sys.stderr)
            return 2
        if os.environ.get("ROOST_DEBUG") == "1":
            raise
        print("\n".join(failure(exc)), file=sys.stderr)
        return 1


def _unknown(word: str) -> str:
    from difflib import get_close_matches

    if word.startswith("-"):
        return f"{word} goes after the command: roost COMMAND {word} ..."
    near = get_close_matches(word, BY_WORD, n=1)
    return f"There is no command {word!r}.{f' Did you mean {near[0]!r}?' if near else ''}"


if __name__ == "__main__":
    sys.exit(main())
