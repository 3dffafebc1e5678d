"""Where an alias's settings come from when a revision takes it over (spec: scaling-routing.md §3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from roost.core.model import Scale
from roost.wire.spec import AppSpec


def scale_of(spec: AppSpec, defaults: Scale, kept: Scale | None) -> Scale:
    """An alias's settings after a deploy. What is tunable at runtime keeps its value (`kept`), the rest follows the code (spec: scaling-routing.md §3)."""
    own = replace(
        defaults,
        **{name: value for name in _SHARED if (value := getattr(spec, name)) is not None},
        machine_types=spec.machine_types or defaults.machine_types,
    )
    if own.max_concurrency < own.min_concurrency:
        own = replace(own, max_concurrency=own.min_concurrency)
    if kept is None:
        return own
    return replace(kept, max_multiplexing=own.max_multiplexing, startup_timeout_ms=own.startup_timeout_ms, machine_types=own.machine_types)


_SHARED: Final = (
    "keep_alive_ms",
    "min_concurrency",
    "max_concurrency",
    "concurrency_buffer",
    "concurrency_buffer_perc",
    "scaling_delay_ms",
    "request_timeout_ms",
    "request_start_timeout_ms",
    "max_multiplexing",
    "startup_timeout_ms",
)
