from __future__ import annotations

import json
import sys
from importlib.metadata import version

import pytest

import roost
from roost.sdk.spec import build_spec, this_python
from roost.wire.spec import AppSpec, EndpointSpec, HealthCheckSpec


class Plain(roost.App):
    @roost.endpoint("/")
    def run(self) -> None:
        """Runs."""


class Everything(roost.App, name="every-thing", private_logs=True, force=True, metadata={"a": 1}, min_concurrency=1, max_concurrency=4):
    """A class that says a lot."""

    app_auth = "shared"
    requirements = [["torch"], ["numpy", "pillow"]]
    machine_type = ["GPU-H100", "GPU-A100"]
    keep_alive = 300
    request_timeout = 12.5
    termination_grace_period_seconds = 60
    retry_config = roost.RetryConfig(timeout=2)
    secrets = []
    _scheduler = "nomad"

    @roost.endpoint("/ready", health_check=roost.HealthCheck(start_period_seconds=1.5, call_regularly=False))
    def ready(self) -> None: ...

    @roost.endpoint("/ws", is_websocket=True)
    async def talk(self) -> None:
        """Talks."""


def test_what_was_not_said_stays_unsaid():
    spec = build_spec(Plain)
    expected = AppSpec(
        name="plain",
        class_name="Plain",
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        pins=(f"fastapi=={version('fastapi')}", f"pydantic=={version('pydantic')}"),
        endpoints=(EndpointSpec("/", "run", False, "Runs."),),
        keep_alive_ms=60_000,
        description="Runs.",
    )
    assert spec == expected


def test_what_was_said_is_carried():
    spec = build_spec(Everything)
    assert (spec.name, spec.auth, spec.private_logs, spec.force) == ("every-thing", "shared", True, True)
    assert spec.requirements == (("torch",), ("numpy", "pillow"))
    assert spec.machine_types == ("GPU-H100", "GPU-A100")
    assert (spec.keep_alive_ms, spec.request_timeout_ms, spec.termination_grace_ms) == (300_000, 12_500, 60_000)
    assert (spec.min_concurrency, spec.max_concurrency) == (1, 4)
    assert (spec.retry_config, spec.secrets) == ((("timeout", 2),), ())
    assert spec.health_check == HealthCheckSpec("/ready", 1500, 5000, 3, False, "POST")
    assert spec.endpoints == (EndpointSpec("/ready", "ready", False, ""), EndpointSpec("/ws", "talk", True, "Talks."))
    assert spec.host_options == {"metadata": {"a": 1}, "_scheduler": "nomad"}
    assert spec.description == "A class that says a lot."


def test_a_spec_survives_its_json():
    spec = build_spec(Everything)
    assert AppSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_class_without_endpoint_is_an_error():
    with pytest.raises(ValueError, match=r"Empty has no endpoint. Mark at least one method with @roost.endpoint"):
        build_spec(type("Empty", (roost.App,), {}))


def test_another_python_is_an_error_that_names_both():
    class Old(Plain, python_version="3.9"): ...

    class Same(Plain, python_version=this_python()): ...

    with pytest.raises(ValueError, match=r"Local Python 3.12 differs from the app's python_version=3.9"):
        build_spec(Old, python_version="3.12")
    assert build_spec(Same).python_version == this_python()


def test_an_option_changed_after_the_class_was_made_counts_and_is_checked():
    class Late(Plain): ...

    Late.machine_type = "XL"
    assert build_spec(Late).machine_types == ("XL",)
    Late.keep_alive = -1
    with pytest.raises(ValueError, match="keep_alive"):
        build_spec(Late)
