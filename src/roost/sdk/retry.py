"""How often a failed queue request is tried again, per kind of failure (spec: app-class.md §1.2, queue.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

CONDITIONS = ("timeout", "server_error", "connection_error")


@dataclass(frozen=True)
class RetryConfig:
    """Retries after the first attempt; None leaves a condition to the server. Negative numbers count as 0."""

    timeout: int | None = None
    server_error: int | None = None
    connection_error: int | None = None

    def pairs(self) -> tuple[tuple[str, int], ...]:
        """(condition, retries) of those that were said."""
        said = ((name, getattr(self, name)) for name in CONDITIONS)
        return tuple((name, max(0, retries)) for name, retries in said if retries is not None)


def parse(value: object) -> RetryConfig:
    """A RetryConfig from one, or from `{"timeout": {"retries": 2}}`. Raises ValueError."""
    if isinstance(value, RetryConfig):
        given: dict[str, object] = {name: getattr(value, name) for name in CONDITIONS if getattr(value, name) is not None}
    elif isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        given = {str(name): _retries(entry) for name, entry in mapping.items()}
    else:
        raise ValueError("must be a roost.RetryConfig or {'timeout': {'retries': 2}, ...}")
    if not given:
        raise ValueError(f"is empty. Say retries for at least one of {', '.join(CONDITIONS)}, or leave it out")
    for name, retries in given.items():
        if name not in CONDITIONS:
            raise ValueError(f"knows no condition {name!r}. The conditions are {', '.join(CONDITIONS)}")
        if isinstance(retries, bool) or not isinstance(retries, int):
            raise ValueError(f"needs a whole number of retries for {name!r}, not {retries!r}")
    return RetryConfig(**cast("dict[str, int]", given))


def _retries(entry: object) -> object:
    if isinstance(entry, Mapping):
        return cast("Mapping[Any, Any]", entry).get("retries")
    return entry
