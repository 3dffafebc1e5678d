"""The declaration of a health check (spec: app-lifecycle.md §6)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HealthCheck:
    """How an app's health endpoint is probed: `@roost.endpoint("/ready", health_check=roost.HealthCheck(timeout_seconds=10))`.

    At most one endpoint has it, and it is not a websocket. A runner takes calls once the endpoint has answered with a status below 400, and is
    then asked every 15 seconds, also while it has calls. A status of 400 and above, or no answer in time, is a failure. Without a declared
    check a runner is ready when `setup()` has ended.
    """

    start_period_seconds: float = 30
    """Failures of a runner that was started less than this ago are ignored; raised to startup_timeout if that is longer."""
    timeout_seconds: float = 5
    failure_threshold: int = 3
    """So many failures in a row replace the runner."""
    call_regularly: bool = True
    """False: once it is ready, it is probed only when a response carries `x-fal-runner-health-check: true`. One failure of such a check
    ends the runner at once, whatever the other numbers say."""
    method: str = "POST"

    def __post_init__(self) -> None:
        _number("start_period_seconds", self.start_period_seconds, at_least=0)
        _number("timeout_seconds", self.timeout_seconds, at_least=0.001)
        _number("failure_threshold", self.failure_threshold, at_least=1)
        if int(self.failure_threshold) != self.failure_threshold:
            raise ValueError(f"HealthCheck(failure_threshold={self.failure_threshold!r}): it is a count and must be a whole number")
        if self.method not in ("GET", "POST"):
            raise ValueError(f"HealthCheck(method={self.method!r}): it must be 'POST' or 'GET'")


def _number(name: str, value: object, *, at_least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not at_least <= value < float("inf"):
        raise ValueError(f"HealthCheck({name}={value!r}): it must be a number of at least {at_least:g}")
