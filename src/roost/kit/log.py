"""Our own talk on stderr: one line an event, with fields. Never stdout (that is data), never an author's output.

    log.info("server.restarted", pid=4711, after_ms=38)
    12:03:04.117 server.restarted pid=4711 after_ms=38                                   (default)
    {"at":"2025-01-31T12:03:04.117Z","level":"info","event":"server.restarted",...}      (LOG_FORMAT=json)

A line that cannot be written is dropped: a closed terminal must not end a server.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Final

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


@dataclass(frozen=True, slots=True)
class Style:
    """How lines look and which are written."""

    as_json: bool = False
    level: str = "info"

    @classmethod
    def from_environ(cls) -> Style:
        level = os.environ.get("LOG_LEVEL", "info").lower()
        return cls(as_json=os.environ.get("LOG_FORMAT") == "json", level=level if level in LEVELS else "info")


_style = Style.from_environ()


def configure(style: Style) -> None:
    """Replace the style that the environment chose (a setting of the server says otherwise)."""
    global _style
    _style = style


def debug(event: str, **fields: object) -> None:
    _write("debug", event, fields)


def info(event: str, **fields: object) -> None:
    _write("info", event, fields)


def warning(event: str, **fields: object) -> None:
    _write("warning", event, fields)


def error(event: str, **fields: object) -> None:
    _write("error", event, fields)


def exception(event: str, raised: BaseException, **fields: object) -> None:
    """An error that nobody expected, with its traceback as one field."""
    trace = "".join(traceback.format_exception(type(raised), raised, raised.__traceback__)).rstrip()
    _write("error", event, {**fields, "error": f"{type(raised).__name__}: {raised}", "traceback": trace})


def line(style: Style, at_s: float, level: str, event: str, fields: dict[str, object]) -> str:
    """The text of one event, without its newline. Pure: the time is an argument."""
    ms = int(at_s * 1000) % 1000
    if style.as_json:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{ms:03d}Z"
        return json.dumps({"at": at, "level": level, "event": event, **fields}, default=str, separators=(",", ":"))
    at = time.strftime("%H:%M:%S", time.localtime(at_s)) + f".{ms:03d}"
    mark = f"{level.upper()} " if LEVELS[level] >= LEVELS["warning"] else ""
    return " ".join([at, f"{mark}{event}", *(f"{name}={_plain(value)}" for name, value in fields.items())])


def _plain(value: object) -> str:
    text = str(value)
    # A newline or a space inside a value would make one event look like two, or one field like several.
    return text if text and text.isprintable() and not any(c in text for c in ' "=') else json.dumps(text, ensure_ascii=False)


def _write(level: str, event: str, fields: dict[str, object]) -> None:
    if LEVELS[level] < LEVELS[_style.level]:
        return
    text = line(_style, time.time(), level, event, fields) + "\n"
    try:
        # One write a line: lines of several processes on one terminal do not mix.
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
