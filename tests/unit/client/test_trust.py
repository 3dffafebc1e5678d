"""Which proxies and certificates a connection heeds."""

import ssl
import time
from pathlib import Path

import pytest

from roost.client.config import ConfigError, Target
from roost.client.trust import authority_file, trust
from roost.front import issuing


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("https://roost.example", {"trust_env": True, "verify": True}),
        ("http://127.0.0.1:8700", {"trust_env": False, "verify": True}),
        ("https://localhost:8443", {"trust_env": False, "verify": True}),
    ],
)
def test_a_server_on_this_machine_is_reached_without_a_proxy(host: str, expected: dict[str, bool]):
    assert trust(Target(host, "id:secret"), {}) == expected


def test_certificates_named_in_the_environment_count_on_this_machine_too():
    found = ssl.get_default_verify_paths().cafile
    if found is None:
        pytest.skip("this machine has no file of certificates")
    verify = trust(Target("https://localhost:8443", "id:secret"), {"SSL_CERT_FILE": found})["verify"]
    assert isinstance(verify, ssl.SSLContext) and verify.verify_mode is ssl.CERT_REQUIRED and verify.cert_store_stats()["x509"] > 0


def test_certificates_that_are_not_there_are_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE=.*none\.pem.* cannot be read"):
        trust(Target("https://localhost:8443", "id:secret"), {"SSL_CERT_FILE": str(tmp_path / "none.pem")})


@pytest.mark.parametrize(("host", "trust_env"), [("https://far.example:8700", True), ("https://localhost:8443", False)])
def test_an_authority_that_lies_beside_the_profiles_counts_for_its_server_alone(host: str, trust_env: bool, tmp_path: Path):
    env = {"ROOST_HOME": str(tmp_path)}
    kept = authority_file(host, env)
    kept.parent.mkdir()
    kept.write_bytes(issuing.authority("test", round(time.time() * 1000)).certificate)
    found = trust(Target(host, ""), env)
    assert isinstance(found["verify"], ssl.SSLContext) and found["trust_env"] is trust_env
    assert trust(Target(host.replace("8", "9"), ""), env)["verify"] is True
    # Plain HTTP has nobody to trust; and code in a runner must not find what lies in the home of whoever runs the server.
    assert trust(Target(host.replace("https:", "http:"), ""), env)["verify"] is True
    assert trust(Target(host, ""), {**env, "ROOST_RUNNER": "1"})["verify"] is True


def test_an_authority_that_cannot_be_read_says_which_file_to_delete(tmp_path: Path):
    env = {"ROOST_HOME": str(tmp_path)}
    kept = authority_file("https://far.example", env)
    kept.parent.mkdir()
    kept.write_text("nonsense")
    with pytest.raises(ConfigError) as told:
        trust(Target("https://far.example", ""), env)
    assert str(kept) in str(told.value) and "roost env" in told.value.hint


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("https://far.example", "far.example-443.pem"),
        ("http://far.example", "far.example-80.pem"),
        ("https://10.0.0.5:8700/base", "10.0.0.5-8700.pem"),
        ("https://[::1]:8700", "__1-8700.pem"),
    ],
)
def test_each_server_has_a_file_of_its_own(host: str, name: str, tmp_path: Path):
    assert authority_file(host, {"ROOST_CONFIG": str(tmp_path / "mine.toml")}) == tmp_path / "certificates" / name
