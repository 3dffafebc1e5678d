from __future__ import annotations

from pathlib import Path

import pytest

from roost.client import config
from roost.client.config import Target
from roost.client.errors import ConfigError

FILE = """
profile = "work"
[profiles.work]
host = "http://work:1"
key = "w:secret"
owner = "ada"
[profiles.home]
host = "home:2"
key = "h:secret"
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config.toml").write_text(FILE)
    return {"ROOST_HOME": str(tmp_path)}


def test_without_anything_it_is_the_local_default(tmp_path: Path) -> None:
    assert config.resolve(env={"ROOST_HOME": str(tmp_path)}) == Target("http://127.0.0.1:8700", "")


def test_the_files_profile_comes_before_the_default(home: dict[str, str]) -> None:
    target = config.resolve(env=home)
    assert (target.host, target.key, target.owner) == ("http://work:1", "w:secret", "ada")
    assert target.key_from == f"profile 'work' in {home['ROOST_HOME']}/config.toml"


@pytest.mark.parametrize(("flags", "env"), [({"profile": "home"}, {"ROOST_PROFILE": "work"}), ({}, {"ROOST_PROFILE": "home"})])
def test_the_profile_is_the_flags_then_the_variables_then_the_files(
    home: dict[str, str], flags: dict[str, str], env: dict[str, str]
) -> None:
    assert config.resolve(**flags, env={**home, **env}).key == "h:secret"


def test_variables_come_before_the_profile_and_flags_before_variables(home: dict[str, str]) -> None:
    env = {**home, "ROOST_HOST": "variable:3", "ROOST_KEY": "v:secret"}
    by_variable = config.resolve(env=env)
    assert (by_variable.host, by_variable.key, by_variable.key_from, by_variable.owner) == (
        "http://variable:3",
        "v:secret",
        "ROOST_KEY",
        "",
    )
    by_flag = config.resolve(host="flag:4", key="f:secret", env=env)
    assert (by_flag.host, by_flag.key, by_flag.key_from) == ("http://flag:4", "f:secret", "--key")


def test_a_host_alone_keeps_the_profiles_key(home: dict[str, str]) -> None:
    target = config.resolve(host="elsewhere:5", env=home)
    assert (target.host, target.key) == ("http://elsewhere:5", "w:secret")


def test_a_variable_names_another_file(home: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[profiles.x]\nkey = "x:y"\n')
    assert config.resolve(profile="x", env={**home, "ROOST_CONFIG": str(other)}).key == "x:y"


def test_an_unknown_profile_is_named_with_those_that_exist(home: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        config.resolve(profile="wrok", env=home)
    assert "no profile 'wrok'" in refused.value.detail
    assert refused.value.hint == "It has: home, work."


@pytest.mark.parametrize("text", ["profile =", "profiles = 3", "[profiles]\nwork = 3", "\xff"])
def test_a_file_that_cannot_be_understood_is_named(home: dict[str, str], text: str) -> None:
    path = Path(home["ROOST_HOME"]) / "config.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as refused:
        config.resolve(env=home)
    assert str(path) in refused.value.detail


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:8701", "http://127.0.0.1:8701"),
        ("server", "http://server:8700"),
        ("[::1]:9", "http://[::1]:9"),
        ("https://roost.example.com/", "https://roost.example.com"),
        ("http://host:1", "http://host:1"),
    ],
)
def test_addresses_may_be_a_host_a_host_and_port_or_a_url(text: str, url: str) -> None:
    assert config.base_url(text) == url


@pytest.mark.parametrize("text", ["ftp://host", "http://", "host:port", "http://h/?q=1", ":8700"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.base_url(text)
    assert repr(text) in refused.value.detail


@pytest.mark.parametrize("key", ["nocolon", ":secret", "id:", "id:sec ret", "id:gehe\u00efm", "id:a\nb"])
def test_what_is_no_key_is_refused_without_repeating_it(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        config.resolve(key=key, env={"ROOST_HOME": str(tmp_path)})
    assert refused.value.detail == "The key from --key is not of the form id:secret."


@pytest.mark.parametrize(("host", "is_local"), [("localhost:1", True), ("127.0.0.1:1", True), ("[::1]:1", True), ("10.0.0.1:1", False)])
def test_servers_on_this_machine_are_known(host: str, is_local: bool) -> None:
    assert Target(config.base_url(host), "").is_local is is_local


FAL = {"FAL_KEY": "fal:secret", "FAL_KEY_ID": "id", "FAL_KEY_SECRET": "part"}


def test_keys_of_the_official_client_come_last(home: dict[str, str], tmp_path: Path) -> None:
    bare = {"ROOST_HOME": str(tmp_path / "bare")}
    assert config.resolve(env={**home, **FAL}).key == "w:secret"
    assert config.resolve(env={**bare, **FAL}).key == "fal:secret"
    assert config.resolve(env={**bare, "FAL_KEY_ID": "id", "FAL_KEY_SECRET": "part"}).key == "id:part"


def test_code_in_a_runner_never_reads_the_profile_of_whoever_runs_the_server(home: dict[str, str]) -> None:
    env = {**home, "ROOST_RUNNER": "1", "ROOST_HOST": "http://h:1", "ROOST_USER_NICKNAME": "ada"}
    assert config.resolve(env=env) == Target("http://h:1", "", "ada")
    assert config.resolve(env={**env, "ROOST_KEY": "r:secret"}) == Target("http://h:1", "r:secret", "ada", "ROOST_KEY")
