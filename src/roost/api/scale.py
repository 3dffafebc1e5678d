"""Changing an app's settings while it runs: names and seconds as in the public protocol in, a Scale out (spec: scaling-routing.md §1, §3)."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from roost.core.model import Scale
from roost.core.placement import MachineType, Unknown, resolve
from roost.wire.errors import RoostError

LONGEST_S: Final = 366 * 86_400
MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Field:
    """One number of a Scale: `column` is its field there; a duration arrives in seconds and is kept in milliseconds."""

    column: str
    least: int = 0
    is_duration: bool = False
    may_be_none: bool = False


_FIELDS: Final = {
    "keep_alive": _Field("keep_alive_ms", is_duration=True),
    "min_concurrency": _Field("min_concurrency"),
    "max_concurrency": _Field("max_concurrency", least=1),
    "concurrency_buffer": _Field("concurrency_buffer"),
    "concurrency_buffer_perc": _Field("concurrency_buffer_perc"),
    "scaling_delay": _Field("scaling_delay_ms", is_duration=True),
    "max_multiplexing": _Field("max_multiplexing", least=1),
    "request_timeout": _Field("request_timeout_ms", least=1, is_duration=True),
    "request_start_timeout": _Field("request_start_timeout_ms", is_duration=True, may_be_none=True),
    "startup_timeout": _Field("startup_timeout_ms", least=1, is_duration=True),
}
_NAMES: Final = (*_FIELDS, "machine_types")
CODE_SPECIFIC: Final = ("max_multiplexing", "startup_timeout", "machine_types")
"""What the next deploy takes from the class again."""


@dataclass(frozen=True, slots=True)
class Changed:
    scale: Scale
    notes: tuple[str, ...]


def change(scale: Scale, changes: Mapping[str, Any], table: Mapping[str, MachineType]) -> Changed:
    """The settings after `changes`; what is not in them stays. Raises `unprocessable` with the field's name for what cannot be."""
    if not changes:
        raise _refused("there is nothing to change", f"Send at least one of {', '.join(_NAMES)}.")
    columns: dict[str, Any] = {}
    for name, value in changes.items():
        if name == "machine_types":
            columns[name] = _machine_types(value, table)
        elif name in _FIELDS:
            columns[_FIELDS[name].column] = _number(name, value, _FIELDS[name])
        else:
            close = difflib.get_close_matches(name, _NAMES, n=1)
            raise _refused(f"there is no setting {name!r}", f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(_NAMES)}.")
    after = check(dataclasses.replace(scale, **columns))
    notes = tuple(
        f"{name} belongs to the code: the next deploy sets it to what the class says." for name in CODE_SPECIFIC if name in changes
    )
    return Changed(after, notes)


def check(scale: Scale) -> Scale:
    """The settings themselves. Raises `unprocessable` for numbers that no app can have."""
    for name, field in _FIELDS.items():
        value = getattr(scale, field.column)
        if value is not None:
            _number(name, value / 1000 if field.is_duration else value, field)
    if scale.min_concurrency > scale.max_concurrency:
        detail = f"min_concurrency {scale.min_concurrency} is more than max_concurrency {scale.max_concurrency}"
        raise _refused(detail, "Change both together.")
    return scale


def _number(name: str, value: Any, field: _Field) -> int | None:
    if field.may_be_none and (value is None or value == 0):
        return None
    wanted = "a number of seconds" if field.is_duration else "a whole number"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (not field.is_duration and value != int(value)):
        raise _refused(f"{name} must be {wanted}, not {value!r}")
    if value < field.least and not (field.is_duration and field.least and value > 0):
        least = "more than 0" if field.is_duration and field.least else f"at least {field.least}"
        raise _refused(f"{name} must be {least}, not {value:g}")
    most = LONGEST_S if field.is_duration else MOST
    if value > most:
        raise _refused(f"{name} must be at most {most}{' seconds' if field.is_duration else ''}, not {value:g}")
    # Half a millisecond is not none at all.
    return max(round(value * 1000), 1 if value else 0) if field.is_duration else int(value)


def _machine_types(value: Any, table: Mapping[str, MachineType]) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise _refused(f"machine_types must be a list of names, not {value!r}", f"This server has: {', '.join(table)}.")
    found = resolve(names, table)
    if isinstance(found, Unknown):
        raise _refused(found.detail, found.hint)
    return tuple(names)


def _refused(detail: str, hint: str = "") -> RoostError:
    return RoostError("unprocessable", detail, hint=hint)
