"""Settings: what an operator wrote wrong is a sentence with the file's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.server import settings
from roost.wire.errors import RoostError


def loaded(home: Path, text: str, **environ: str) -> settings.Settings:
    (home / "server.toml").write_text(text)
    return settings.load(home, environ)


@pytest.mark.parametrize(
    ("text", "environ", "ranges"),
    [
        ("", {}, ()),
        ('webhook_ip_ranges = ["203.0.113.7", "2001:db8::/64"]', {}, ("203.0.113.7/32", "2001:db8::/64")),
        ("", {"ROOST_WEBHOOK_IP_RANGES": "203.0.113.0/24,198.51.100.7"}, ("203.0.113.0/24", "198.51.100.7/32")),
    ],
)
def test_where_webhooks_come_from_is_told_as_networks(tmp_path: Path, text: str, environ: dict[str, str], ranges: tuple[str, ...]) -> None:
    assert loaded(tmp_path, text, **environ).webhook_ip_ranges == ranges


@pytest.mark.parametrize("entry", ["hooks.example", "203.0.113.7/24", "203.0.113.7:443", ""])
def test_what_is_no_network_is_refused_at_the_start(tmp_path: Path, entry: str) -> None:
    with pytest.raises(RoostError, match=r"server\.toml: webhook_ip_ranges: ") as refused:
        loaded(tmp_path, f'webhook_ip_ranges = ["{entry}"]')
    assert refused.value.code == "bad_request"
    assert "203.0.113.7/32" in refused.value.hint


def test_proxies_are_addresses_and_networks(tmp_path: Path) -> None:
    given = loaded(tmp_path, "", ROOST_TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.7 ::1")
    assert given.trusted_proxies == ("10.0.0.0/8", "192.0.2.7", "::1")
    with pytest.raises(RoostError, match=r"server\.toml: trusted_proxies: 'nginx' is neither an address nor a network"):
        loaded(tmp_path, 'trusted_proxies = ["127.0.0.1", "nginx"]')
