"""What an author declared, as plain values: it travels as JSON from the author's machine to the server and on to a runner.

Times are integers of milliseconds; `None` means "the author did not say", and the server's default applies
(spec: app-lifecycle.md §2, app-class.md §1.2).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

Auth = str  # "private" | "public" | "shared"


@dataclass(frozen=True, slots=True)
class HealthCheckSpec:
    """The health endpoint and how it is probed (spec: app-lifecycle.md §6)."""

    path: str
    start_period_ms: int = 30_000
    timeout_ms: int = 5_000
    failure_threshold: int = 3
    call_regularly: bool = True
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One route of the app. `path` starts with a slash; `name` is the method's name."""

    path: str
    name: str
    is_websocket: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class AppSpec:
    """Everything an author declared about one app."""

    name: str
    class_name: str
    python_version: str
    """major.minor, for example "3.11"."""
    requirements: tuple[tuple[str, ...], ...] = ()
    """Layers of pip requirement strings, installed in order, each constrained by the earlier ones."""
    pins: tuple[str, ...] = ()
    """What the runner needs at exactly the author's version: fastapi==, pydantic==."""
    endpoints: tuple[EndpointSpec, ...] = ()
    auth: Auth | None = None
    machine_types: tuple[str, ...] = ("S",)
    num_gpus: int | None = None
    regions: tuple[str, ...] | None = None
    keep_alive_ms: int | None = None
    min_concurrency: int | None = None
    max_concurrency: int | None = None
    concurrency_buffer: int | None = None
    concurrency_buffer_perc: int | None = None
    scaling_delay_ms: int | None = None
    max_multiplexing: int | None = None
    request_timeout_ms: int | None = None
    request_start_timeout_ms: int | None = None
    startup_timeout_ms: int | None = None
    termination_grace_ms: int | None = None
    health_check: HealthCheckSpec | None = None
    skip_retry_conditions: tuple[str, ...] = ()
    retry_config: tuple[tuple[str, int], ...] = ()
    """(condition, retries) pairs."""
    private_logs: bool | None = None
    secrets: tuple[str, ...] | None = None
    data_mounts: tuple[str, ...] | None = None
    exposed_port: int | None = None
    metrics_port: int | None = None
    limit_max_requests: int | None = None
    kind: str = "virtualenv"
    resolver: str = "uv"
    force: bool = False
    """Build the environment anew even if one of the same recipe is there."""
    version: str = "unknown"
    description: str = ""
    host_options: dict[str, Any] = field(default_factory=dict[str, Any])
    """Accepted options without an effect here (`_scheduler`, ...), kept so that they can be shown."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> AppSpec:
        """The spec from its JSON. Unknown keys are dropped (a newer author), missing ones get the default (an older one)."""
        known = {f.name for f in dataclasses.fields(cls)}
        data = {key: item for key, item in value.items() if key in known}
        for key in ("pins", "machine_types", "regions", "skip_retry_conditions", "secrets", "data_mounts"):
            if data.get(key) is not None:
                data[key] = tuple(data[key])
        for key in ("requirements", "retry_config"):
            if data.get(key) is not None:
                data[key] = tuple(tuple(item) for item in data[key])
        data["endpoints"] = tuple(EndpointSpec(**item) for item in data.get("endpoints", ()))
        if data.get("health_check") is not None:
            data["health_check"] = HealthCheckSpec(**data["health_check"])
        return cls(**data)
