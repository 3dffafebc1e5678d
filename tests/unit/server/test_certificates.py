"""TLS as the settings want it, and for which names."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from roost.server.certificates import tls
from roost.server.settings import Settings
from roost.wire.errors import RoostError
from roost.wire.hosts import PUBLIC_HOSTS


def of(folder: Path, *listened: str, connect: bool = False, **settings: Any) -> tuple[str, ...] | None:
    """The names that it speaks for; None without TLS."""
    found = tls(Settings(**settings), folder / "tls", list(listened) or ["127.0.0.1:8700"], connect, lambda: 1_800_000_000_000)
    return found.names if found is not None else None


def test_tls_can_be_off_and_then_makes_nothing(tmp_path: Path):
    assert of(tmp_path, tls="off") is None
    assert list(tmp_path.iterdir()) == []


def test_the_certificate_is_for_what_is_listened_on_and_what_the_operator_says(tmp_path: Path):
    found = of(tmp_path, "10.1.2.3:8700", "[fd00::7]:8700", public_url="https://roost.example.com/below", tls_names=("gpu-box", "10.9.9.9"))
    assert found is not None
    assert {"localhost", "127.0.0.1", "::1", "10.1.2.3", "fd00::7", "roost.example.com", "gpu-box", "10.9.9.9"} <= set(found)
    assert socket.gethostname().lower() in found or not socket.gethostname().isascii()
    assert not set(found) & set(PUBLIC_HOSTS)


def test_names_of_others_are_there_with_the_connect_door_only(tmp_path: Path):
    found = of(tmp_path, connect=True)
    assert found is not None and set(PUBLIC_HOSTS) <= set(found)


@pytest.mark.parametrize("listened", ["0.0.0.0:8700", "[::]:8700"])
def test_who_listens_everywhere_speaks_for_addresses_and_not_for_everywhere(tmp_path: Path, listened: str):
    found = of(tmp_path, listened)
    assert found is not None and "127.0.0.1" in found
    assert not {"0.0.0.0", "::"} & set(found)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls": "maybe"}, "tls must be on or off, not 'maybe'"),
        ({"tls_key": "/k.pem"}, "tls_key is set and tls_certificate is not"),
        ({"tls_names": ("gpu box",)}, "tls_names: 'gpu box' is neither a host's name nor an address"),
        ({"tls_certificate": "/nowhere.pem"}, "tls_certificate /nowhere.pem cannot be used"),
    ],
)
def test_settings_that_cannot_be_are_a_sentence(tmp_path: Path, settings: dict[str, Any], said: str):
    with pytest.raises(RoostError) as raised:
        of(tmp_path, **settings)
    assert raised.value.code == "bad_request" and said in raised.value.detail


def test_a_folder_that_cannot_be_written_is_a_sentence_with_a_way_out(tmp_path: Path):
    (tmp_path / "tls").write_text("a file where the folder should be")
    with pytest.raises(RoostError) as raised:
        of(tmp_path)
    assert str(tmp_path) in raised.value.detail and raised.value.hint is not None and "off" in raised.value.hint
