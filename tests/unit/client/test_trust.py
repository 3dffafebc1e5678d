"""Which proxies and certificates a connection heeds."""

import ssl
from pathlib import Path

import pytest

from roost.client.config import ConfigError, Target
from roost.client.trust import trust


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
