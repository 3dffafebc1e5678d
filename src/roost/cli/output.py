"""How things look: errors as a cross and a hint, tables for people, JSON for programs. stdout is data, stderr is talk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, TextIO


def error_lines(detail: str, hint: str = "") -> list[str]:
    """An error as it is printed: one line led by a cross, everything after it indented."""
    first, *more = detail.strip().splitlines() or ["Something went wrong."]
    return [f"✗ {first}", *(f"  {line}" for line in more), *(f"  {line}" for line in hint.strip().splitlines())]


def failure(exc: BaseException) -> list[str]:
    """Any exception as error lines: one with `detail` and `hint` says it itself, after its author's `traceback` if it has one.

    Any other is a bug of ours.
    """
    text = getattr(exc, "traceback", "")
    before = text.rstrip().splitlines() if isinstance(text, str) else []
    detail = getattr(exc, "detail", None)
    if isinstance(detail, str):
        return [*before, *error_lines(detail, str(getattr(exc, "hint", "") or ""))]
    return error_lines(f"This is a bug in roost: {type(exc).__name__}: {exc}", "ROOST_DEBUG=1 shows where it happened.")


def misuse(exc: BaseException) -> list[str]:
    """A mistake in how a command was typed, as error lines with the command's usage; empty for any other exception.

    Known by what it can do and not by its class, which Typer takes from click or has itself, depending on its version.
    """
    if not hasattr(exc, "format_message"):
        return []
    said: str = exc.format_message()  # pyright: ignore[reportAttributeAccessIssue]
    context: Any = getattr(exc, "ctx", None)
    if context is None or said.startswith("Usage:"):
        # A noun without a verb: its help is the message.
        return [said]
    said = said.removeprefix("Invalid value: ")
    return error_lines(said, f"{context.get_usage()}\n`{context.command_path} --help` tells more.")


def colourful(stream: TextIO) -> bool:
    """Whether colours may be written there: a terminal, and nobody said NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def say(text: str) -> None:
    """Talk: a sentence for whoever watches."""
    print(text, file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Data: a line of the command's answer."""
    print(text, flush=True)


def tell_json(value: object) -> None:
    """Data as JSON: indented on a terminal, one line for programs."""
    indent = 2 if sys.stdout.isatty() else None
    tell(json.dumps(value, ensure_ascii=False, indent=indent))


def tell_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, nothing: str) -> None:
    """A table on stdout; when it has no rows, the sentence `nothing` on stderr."""
    cells = [[plain(cell) for cell in row] for row in rows]
    if not cells:
        say(nothing)
        return
    if sys.stdout.isatty():
        _rich_table(columns, cells)
        return
    # Not a terminal: never cut or wrapped, so that grep and awk see whole values.
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), *cells]:
        tell("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(columns: Sequence[str], cells: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def tell_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line."""
    pairs = [(name, plain(value)) for name, value in fields]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        tell(f"{name:<{width}}  {value}")


def plain(value: object) -> str:
    """A value in words: nothing as a dash, lists with commas, booleans as yes and no."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(plain(item) for item in value) or "-"
        case dict():
            return ", ".join(f"{name} {plain(item)}" for name, item in value.items()) or "-"
        case _:
            return str(value)


def seconds(value: Any) -> str:
    """A duration for people: 45 s, 10 m, 1 h 30 m."""
    if value is None:
        return "-"
    total = float(value)
    if total < 60:
        return f"{total:g} s"
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "m"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def size(value: Any) -> str:
    """Bytes for people: 512 B, 1.5 KB, 20 MB."""
    number = float(value or 0)
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def moment(iso: Any) -> str:
    """An ISO moment in the reader's own time zone, to the second."""
    if not iso:
        return "-"
    try:
        return datetime.fromisoformat(str(iso).replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return str(iso)


def moment_ms(text: str, now_ms: int) -> int:
    """What `--since` accepts, as milliseconds since the epoch: now, 30s, 30m, 1h, 1d, "2h ago", or an ISO date. Raises ValueError."""
    words = text.strip().lower().removesuffix("ago").strip()
    if words == "now":
        return now_ms
    units = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    number, unit = words[:-1].strip(), words[-1:]
    if unit in units and number.isascii() and number.replace(".", "", 1).isdigit():
        return now_ms - round(float(number) * units[unit])
    when = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    return round((when if when.tzinfo else when.astimezone()).timestamp() * 1000)


def now_ms() -> int:
    return round(datetime.now(timezone.utc).timestamp() * 1000)
