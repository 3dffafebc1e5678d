"""One line of an app's output as it is printed: whose call it belongs to, which stream it came from, what it says."""

from __future__ import annotations

import dataclasses
import json
import re
import zlib

from roost.control.events import LogLine

MARKS = {"STDOUT": "out", "STDERR": "err", "INFO": "sys", "ERROR": "sys"}
COLOURS = (36, 35, 34, 33, 32, 96, 95, 94)
DIM, RED = 2, 31
TRACEBACK = "Traceback (most recent call last):"
_FRAMEWORK = re.compile(r'^  File "[^"]*/(?:site-packages|dist-packages|runtimes/[^/"]+|lib/python3\.\d+)/')

# Callers' text reaches the terminal through an author's print(); colours may pass, what moves the cursor or sets titles may not.
_ESCAPES = re.compile(
    r"\x1b\[[0-9;]*m|\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f\x80-\x9f]"
)


def log_text(line: LogLine, *, colour: bool, when: bool = False) -> str:
    """`1a2b3c4d out | hello`: the request's first eight characters, out or err (or sys for the platform's own words), the text.

    With `when`, the moment in UTC stands before it. Without `colour` there are no escape codes at all.
    """
    tag = line.request_id[:8] or ("builder" if line.source == "builder" else "-")
    if line.level == "STDOUT" and (lines := traceback_in(line.message)):
        parts = (dataclasses.replace(line, level="STDERR", message=text) for text in lines)
        return "\n".join(log_text(part, colour=colour, when=when) for part in parts)
    mark = MARKS.get(line.level, "sys")
    message = _ESCAPES.sub(
        lambda found: found[0] if colour and found[0].endswith("m") and found[0].startswith("\x1b[") else "", line.message
    )
    moment = f"{line.timestamp[11:23]} " if when else ""
    if not colour:
        return f"{moment}{tag:<8} {mark} | {message}"
    tag_colour = COLOURS[zlib.crc32(line.request_id.encode()) % len(COLOURS)] if line.request_id else DIM
    body = f"{message}\x1b[0m" if "\x1b[" in message else message
    if mark == "sys":
        body = paint(body, RED if line.level == "ERROR" else DIM)
    return f"{paint(moment, DIM) if moment else ''}{paint(f'{tag:<8}', tag_colour)} {paint(mark, RED if mark == 'err' else DIM)} {paint('|', DIM)} {body}"


def traceback_in(message: str) -> list[str]:
    """The lines of the traceback that an app prints as JSON for a failed call (spec: app-class.md §1.6), in reading order and from
    the author's own frames on. Empty if the message is something else."""
    if not message.startswith('{"traceback": "'):
        return []
    try:
        value = json.loads(message)
    except ValueError:
        return []
    text = value.get("traceback")
    return _without_framework(text.split("\n")[::-1]) if len(value) == 1 and isinstance(text, str) else []


def _without_framework(lines: list[str]) -> list[str]:
    """Without the frames between a traceback's head and the author's first: how a call reaches the handler is always the same."""
    kept: list[str] = []
    above: list[str] | None = None
    for line in lines:
        if line == TRACEBACK:
            kept.append(line)
            above = []
        elif above is None:
            kept.append(line)
        elif line.startswith('  File "') and not _FRAMEWORK.search(line):
            kept.append(line)
            above = None
        elif line.startswith(" "):
            above.append(line)
        else:
            # No frame of the author's at all: then these are what there is to see.
            kept += [*above, line]
            above = None
    return kept


def paint(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
