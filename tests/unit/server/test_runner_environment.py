"""What app code finds in its environment: enough to call other apps here, and no secret where a template can see it."""

from __future__ import annotations

import dataclasses

import pytest

from roost.core.model import Revision, RevisionState
from roost.server.runner_environment import Surroundings, own_environment, public_environment
from roost.wire.spec import AppSpec

HERE = Surroundings("http://127.0.0.1:8700", "https://127.0.0.1:8700", "/state/tls/bundle.pem", "local", "/data/hf", {})


@pytest.fixture
def app() -> Revision:
    spec = AppSpec("hello", "Hello", "3.11")
    return Revision("rev-1", "ada", "hello", "main", RevisionState.DEPLOYED, "", spec, "b", "", "0.1", "env", {}, "", (), "ada", 0)


def test_official_clients_are_led_to_the_address_with_tls_and_ours_to_the_plain_one(app: Revision):
    found = public_environment(app, HERE)
    assert found["FAL_RUN_HOST"] == "127.0.0.1:8700" and found["FAL_QUEUE_RUN_HOST"] == "127.0.0.1:8700/_queue"
    assert found["ROOST_HOST"] == "http://127.0.0.1:8700"
    assert found["SSL_CERT_FILE"] == "/state/tls/bundle.pem"


def test_apps_know_who_they_are_under_both_names(app: Revision):
    found = public_environment(app, HERE)
    for prefix in ("ROOST", "FAL"):
        assert found[f"{prefix}_APP_NAME"] == "ada/hello"
        assert found[f"{prefix}_USER_NICKNAME"] == "ada"
        assert found[f"{prefix}_APP_ID"] == app.id
        assert found[f"{prefix}_REGION"] == "local"


def test_a_public_address_with_a_path_keeps_it(app: Revision):
    around = dataclasses.replace(HERE, public="https://example.com/ai", https="https://example.com/ai", bundle="")
    found = public_environment(app, around)
    assert found["FAL_RUN_HOST"] == "example.com/ai" and found["FAL_QUEUE_RUN_HOST"] == "example.com/ai/_queue"
    assert "SSL_CERT_FILE" not in found


def test_without_tls_the_plain_address_is_named(app: Revision):
    assert public_environment(app, dataclasses.replace(HERE, https="", bundle=""))["FAL_RUN_HOST"] == "127.0.0.1:8700"


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [
        ({}, None),
        ({"no_proxy": "a"}, None),
        ({"https_proxy": "http://proxy:3128"}, "127.0.0.1"),
        ({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "a, .b"}, "a,.b,127.0.0.1"),
        ({"ALL_PROXY": "http://proxy:3128", "NO_PROXY": "127.0.0.1"}, "127.0.0.1"),
    ],
)
def test_a_proxy_of_the_operator_is_not_asked_for_this_machine(app: Revision, inherited: dict[str, str], expected: str | None):
    found = public_environment(app, dataclasses.replace(HERE, inherited=inherited))
    assert found.get("no_proxy") == found.get("NO_PROXY") == expected


def test_a_public_name_stays_with_the_proxy(app: Revision):
    around = dataclasses.replace(HERE, public="https://example.com", https="https://example.com", inherited={"https_proxy": "p"})
    assert "no_proxy" not in public_environment(app, around)


def test_model_caches_are_the_operators_if_named(app: Revision):
    assert public_environment(app, HERE)["HF_HOME"] == "/data/hf"
    assert public_environment(app, dataclasses.replace(HERE, inherited={"HF_HOME": "/big"}))["HF_HOME"] == "/big"


def test_only_one_runners_own_part_is_secret(app: Revision):
    assert own_environment("r1", "id:secret") == {
        "ROOST_KEY": "id:secret",
        "FAL_KEY": "id:secret",
        "ROOST_JOB_ID": "r1",
        "FAL_JOB_ID": "r1",
    }
    assert not any("KEY" in name or "JOB" in name for name in public_environment(app, HERE))
