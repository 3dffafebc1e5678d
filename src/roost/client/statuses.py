"""Where a queued request is, as the official Python client names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from roost.client.errors import ClientError

Log = dict[str, Any]
"""A printed line: `message`, `timestamp`, `level`, `source`."""


@dataclass(frozen=True)
class Status:
    """Queued, InProgress or Completed."""


@dataclass(frozen=True)
class Queued(Status):
    """It waits; `position` requests go before it."""

    position: int


@dataclass(frozen=True)
class InProgress(Status):
    """A runner has it. `logs` are all lines so far; None if they were not asked for."""

    logs: list[Log] | None = None


@dataclass(frozen=True)
class Completed(Status):
    """It has its final state. `error` and `error_type` are set if that is not a result."""

    logs: list[Log] | None = None
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])
    error: str | None = None
    error_type: str | None = None


def parse(data: Any) -> Status:
    """The status that a status object of the queue says (spec: queue.md §1)."""
    if isinstance(data, Mapping):
        match data.get("status"):
            case "IN_QUEUE":
                return Queued(data.get("queue_position") or 0)
            case "IN_PROGRESS":
                return InProgress(data.get("logs"))
            case "COMPLETED":
                return Completed(data.get("logs"), data.get("metrics") or {}, data.get("error"), data.get("error_type"))
            case _:
                pass
    raise ClientError(f"{str(data)[:200]!r} is not the status of a request.", hint="Is this address a roost server?")


def with_logs(status: Status, logs: list[Log]) -> Status:
    """The same status with these lines. A stream sends each line once; callers get them all, as from polling."""
    match status:
        case InProgress():
            return InProgress(logs)
        case Completed(_, metrics, error, error_type):
            return Completed(logs, metrics, error, error_type)
        case _:
            return status


def logs_of(status: Status) -> list[Log]:
    return (status.logs or []) if isinstance(status, (InProgress, Completed)) else []
