"""What callers and handlers saw, written down while it happened: the only witness of the proof, and none of it is the server's.

A history is a folder of append-only files, one a writer: callers write an `invoke` before each call and one of `ok`, `fail`, `unknown` after
it; handlers write a `start` and a `finish`. Every line is one `write` on a file opened with O_APPEND, so that a writer that is killed
leaves whole lines. All times are CLOCK_MONOTONIC in nanoseconds, which is the same for all processes of a machine.

`unknown` is the word for a call without an answer, or with a 5xx: it may have had its effect. `fail` (a 4xx) had none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Operation = Literal["submit", "status", "result", "cancel"]
Phase = Literal["invoke", "ok", "fail", "unknown"]


@dataclass(frozen=True, slots=True)
class Called:
    """One end of one call of a caller."""

    at: int
    call: str
    """Joins an invoke with what became of it."""
    op: Operation
    phase: Phase
    key: str
    """Idempotency key of the submit that it is about."""
    request: str = ""
    """The request's id, once the caller knows it."""
    code: int = 0
    """HTTP status of the answer; 0 if there was none."""
    state: str = ""
    """Of a status: the request's state."""
    error_type: str = ""
    answer: str = ""
    """Of a result: what tells it from any other (its token, or a hash of its bytes)."""
    attempt: int = 0
    """Of a result that a handler made: the attempt that made it."""
    webhook: bool = False
    """Of a submit: it asked to be told of the end."""


@dataclass(frozen=True, slots=True)
class Handled:
    """A handler began, or came to its end and is about to answer."""

    at: int
    what: Literal["start", "finish"]
    request: str
    attempt: int
    key: str
    token: str
    """New for every run of the handler; its answer carries it."""


@dataclass(frozen=True, slots=True)
class Notified:
    """A receiver got a webhook, and is about to answer."""

    at: int
    request: str
    status: str
    """OK or ERROR."""
    body: str
    """Hash of all its bytes."""
    token: str
    """Of the handler's run whose answer it carries; "" if it carries none."""
    code: int
    """How the receiver answers; 0: not at all."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, as the server lists it when everything is over."""

    number: int
    state: str
    started_ms: int
    ended_ms: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """One request, as the server lists it when everything is over."""

    request: str
    application: str
    state: str
    attempts: tuple[Tried, ...]


@dataclass(frozen=True, slots=True)
class History:
    called: tuple[Called, ...] = ()
    """By time."""
    handled: tuple[Handled, ...] = ()
    """By time."""
    listed: tuple[Listed, ...] | None = None
    """Every request that the server knows of, asked for after the last one was final; None if nobody asked."""
    notified: tuple[Notified, ...] = ()
    """By time."""


@dataclass
class Writer:
    """Appends to one file of a history. `append(value)` has left this process when it returns."""

    path: Path
    _file: int = field(init=False)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, value: Called | Listed | Notified) -> None:
        os.write(self._file, (json.dumps({"kind": type(value).__name__, **asdict(value)}) + "\n").encode())

    def close(self) -> None:
        os.close(self._file)


def now() -> int:
    return time.monotonic_ns()


def read(folder: Path) -> History:
    """The whole history in a folder. Lines of handlers have no kind: an author's code writes them, which has none of ours."""
    called: list[Called] = []
    handled: list[Handled] = []
    listed: list[Listed] | None = None
    notified: list[Notified] = []
    for path in sorted(folder.glob("*.jsonl")):
        for row in _rows(path.read_text().splitlines()):
            match row.pop("kind", "Handled"):
                case "Called":
                    called.append(Called(**row))
                case "Listed":
                    tried = tuple(Tried(**one) for one in row.pop("attempts"))
                    listed = [*(listed or []), Listed(**row, attempts=tried)]
                case "Notified":
                    notified.append(Notified(**row))
                case _:
                    handled.append(Handled(**row))
    called.sort(key=lambda one: one.at)
    handled.sort(key=lambda one: one.at)
    notified.sort(key=lambda one: one.at)
    return History(tuple(called), tuple(handled), None if listed is None else tuple(listed), tuple(notified))


def _rows(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        row: Mapping[str, Any] = json.loads(line)
        yield dict(row)
