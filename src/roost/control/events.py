"""The events of a deploy, a run and a log, as values (docs/internals/contracts.md). Dicts end at `parse`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took the manifest; from now on the app has a name."""

    application: str
    revision_id: str


@dataclass(frozen=True, slots=True)
class Step:
    """Something of the way to a ready runner: `step` is environment, start, setup or switch; `state` is begin, progress or end."""

    step: str
    state: str
    detail: str = ""
    ms: int | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output. `level` STDOUT or STDERR is the author's, INFO or ERROR the platform's; `timestamp` is ISO 8601."""

    timestamp: str
    level: str
    source: str
    message: str
    request_id: str = ""
    endpoint: str = ""
    runner_id: str = ""

    @property
    def at_ms(self) -> int | None:
        """The timestamp in milliseconds since the epoch; None if it cannot be read."""
        try:
            return round(datetime.fromisoformat(self.timestamp.replace("Z", "+00:00")).timestamp() * 1000)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    path: str
    url: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The app answers at these addresses."""

    application: str
    revision_id: str
    auth: str
    url: str
    endpoints: tuple[Endpoint, ...]
    ms: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of a deploy that succeeded."""

    application: str
    revision_id: str
    status: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a deploy or run that failed."""

    detail: str
    error_type: str
    hint: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Somebody else ended this run."""

    reason: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The server is alive and has nothing to say."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Made on this side: the stream broke, and we are attaching again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Attached:
    """Made on this side: the stream is there again."""


Event = Accepted | Step | LogLine | Ready | Done | Failed | Ended | Beat | Lost | Attached


def parse(value: dict[str, Any]) -> Event | None:
    """The event in one line of the stream; None for a kind that this version does not know (a newer server)."""
    match value.get("event"):
        case "accepted":
            return Accepted(_text(value, "application"), _text(value, "revision_id"))
        case "step":
            return Step(_text(value, "step"), _text(value, "state"), _text(value, "detail"), value.get("ms"))
        case "log":
            return log_line(value)
        case "ready":
            endpoints = tuple(Endpoint(_text(item, "path"), _text(item, "url")) for item in value.get("endpoints") or ())
            names = (_text(value, name) for name in ("application", "revision_id", "auth", "url"))
            return Ready(*names, endpoints=endpoints, ms=value.get("ms"))
        case "done":
            return Done(_text(value, "application"), _text(value, "revision_id"), _text(value, "status"))
        case "error":
            return Failed(_text(value, "detail"), _text(value, "error_type"), _text(value, "hint"))
        case "ended":
            return Ended(_text(value, "reason"))
        case "beat":
            return Beat()
        case _:
            return None


def log_line(value: dict[str, Any]) -> LogLine:
    names = ("timestamp", "level", "source", "message", "request_id", "endpoint", "runner_id")
    return LogLine(*(_text(value, name) for name in names))


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    return "" if found is None else str(found)
